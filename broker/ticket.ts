/** Tickets: a session ID encrypted to the broker's own public key, opaque to everyone who carries it (patent claim 5). */
import { hash } from "node:crypto";
import type { Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { openWithPrivateKey, type Opener } from "../mime/open.ts";
import { sealToCertificate } from "../mime/seal.ts";

/** What a ticket names: the session, and for the one given out at release the next session ID too (second embodiment). */
export interface TicketContent {
  readonly sessionId: Buffer;
  readonly nextSessionId: Buffer | undefined;
}

const ID_OCTETS = 16;
const FIRST = 1;
const NEXT = 2;

/** Seals a session ID, or both IDs, to the broker's session certificate. */
export function sealTicket({ sessionId, nextSessionId }: TicketContent, certificate: Certificate): Buffer {
  const content = nextSessionId ? [Buffer.from([NEXT]), sessionId, nextSessionId] : [Buffer.from([FIRST]), sessionId];
  return sealToCertificate(Buffer.concat(content), certificate);
}

/** @throws Fault `session-gone`: whatever is wrong with a ticket, its bearer learns the same */
export function openTicket(ticket: Buffer, openers: readonly Opener[]): TicketContent {
  try {
    const content = openWithPrivateKey(ticket, openers);
    const [kind] = content;
    const ids = content.subarray(1);
    if (kind === FIRST && ids.length === ID_OCTETS) return { sessionId: ids, nextSessionId: undefined };
    if (kind === NEXT && ids.length === 2 * ID_OCTETS)
      return { sessionId: ids.subarray(0, ID_OCTETS), nextSessionId: ids.subarray(ID_OCTETS) };
    throw new Fault("malformed", "a ticket of unknown kind");
  } catch (cause) {
    throw new Fault("session-gone", "the ticket cannot be opened", { cause });
  }
}

/** SHA-256 of a ticket in hex: how gateways, logs and evidence name a session without opening it. */
export function ticketHash(ticket: Buffer): string {
  return hash("sha256", ticket);
}
