/** S6-S7: the recipient presents the ticket and gets the key, sealed to its certificate; the release is durable before the answer. */
import { randomBytes } from "node:crypto";
import type { Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { authenticate, type Actor, type Broker } from "./broker.ts";
import { newSessionId, sessionHash, termsOf, type Session } from "./session.ts";
import type { GatewayRecord } from "./table.ts";
import { openTicket, sealTicket } from "./ticket.ts";
import { presentBody, sealAnswer } from "./wire.ts";

/** How long a gateway that got a key has the letter for itself: if it ends meanwhile, another one goes on. */
const CLAIM_MS = 60_000;

/** Unknown, foreign, expired, withdrawn and used tickets get this one answer. */
export function sessionGone(reason: string, cause?: unknown): Fault {
  return new Fault("session-gone", reason, { cause });
}

/** @returns the key and what the letter must agree with, sealed to the recipient and signed by the broker. @throws Fault `session-gone` */
export async function release(broker: Broker, gateway: GatewayRecord, signed: Buffer): Promise<Buffer> {
  const actor = await authenticate(broker, gateway, presentBody, signed);
  const { sessionId } = openTicket(actor.body.ticket, broker.sessionKeys);
  const [sessionKey] = broker.sessionKeys;
  if (!sessionKey) throw new Fault("internal", "the broker has no session key");
  const session = sessionHash(sessionId);
  const row = await broker.table.find(session);
  const at = broker.now().getTime();
  const released = await broker.table.release({
    session,
    recipient: recipientFor(row, actor),
    at,
    next: nextFor(row, actor.body.ticket, sessionId, sessionKey.certificate),
    filing: randomBytes(16).toString("hex"),
    claim: { holder: actor.body.holder, until: at + CLAIM_MS },
  });
  if (released === "claimed") throw new Fault("unavailable", "another gateway is opening this letter");
  if (!released) throw sessionGone("there is nothing to release to this mailbox");
  const { hold, signing, contentId } = termsOf(released);
  const key = hold === "held" ? broker.masterKey.unwrap(released.wrappedKey, released) : undefined;
  try {
    const answer = {
      request: actor.body.request,
      ...(key && { key: key.lend((octets) => octets.toString("base64")) }),
      sender: released.sender,
      recipient: released.recipient,
      messageId: released.messageId,
      commit: released.commit,
      contentId,
      hold,
      signing,
      expiresAt: new Date(released.expiresAt).toISOString(),
      nextTicket: released.nextTicket.toString("base64"),
      filing: released.filing,
      isFirst: released.releases === 1,
      claimedFor: CLAIM_MS,
    };
    broker.log.info({ event: "session.released", step: "S7", session: released.ticketHash.slice(0, 12) });
    return sealAnswer(answer, actor.encryptionCertificate, broker.signer, broker.now());
  } finally {
    key?.wipe();
  }
}

/** What the confirmation is to be made with: a new session ID (second embodiment), or the first one again (first embodiment). */
function nextFor(
  row: Session | undefined,
  ticket: Buffer,
  sessionId: Buffer,
  certificate: Certificate,
): { session: string; ticket: Buffer } {
  if (row && termsOf(row).confirm === "same-session") return { session: row.session, ticket };
  const nextSessionId = newSessionId();
  return { session: sessionHash(nextSessionId), ticket: sealTicket({ sessionId, nextSessionId }, certificate) };
}

/** The row's recipient where the actor speaks for it; otherwise the actor's own address, so that the table refuses and records it. */
export function recipientFor(row: Session | undefined, { mailboxes }: Actor<unknown>): string {
  return row && mailboxes.includes(row.recipient) ? row.recipient : (mailboxes[0] ?? "");
}
