/** What `kakitome status` shows: letters that were sent with their receipts, and sealed letters that were not opened with their reasons. */
import { join } from "node:path";
import type { Identity } from "../broker/client.ts";
import type { GatewayConfig } from "../config/schema.ts";
import { parseMailbox, type Mailbox } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import type { Hand, SessionStatus } from "./hand.ts";
import { Journal, type JournalEntry } from "./journal.ts";
import { Letters, type Letter, type LetterRecipient } from "./letters.ts";
import { Spool } from "./spool.ts";

/** Folders below a gateway's `data`. */
export const FOLDERS = { spool: "spool", journal: "journal", letters: "letters", directory: "directory" } as const;

type SentLetter = Omit<Letter, "recipients"> & {
  readonly recipients: readonly (LetterRecipient & {
    readonly receipt?: string;
    /** What the broker says, where it was asked. */
    readonly atBroker?: SessionStatus;
  })[];
};

export interface Status {
  readonly sent: readonly SentLetter[];
  readonly notOpened: readonly JournalEntry[];
}

/** What is looked for; everything where nothing is named. */
export interface Wanted {
  readonly messageId?: string | undefined;
  /** A recipient, as looked up. */
  readonly to?: string | undefined;
  /** Accepted then or later. */
  readonly since?: Date | undefined;
}

/** Reads the gateway's own records; the gateway may run meanwhile. */
export async function readStatus(config: GatewayConfig, { messageId, to, since }: Wanted = {}): Promise<Status> {
  const letters = new Letters(join(config.data, FOLDERS.letters));
  const journal = new Journal(join(config.data, FOLDERS.journal));
  const waiting = await new Spool(join(config.data, FOLDERS.spool)).sessionsWaiting();
  const sent = (await letters.all())
    .filter((letter) => messageId === undefined || letter.messageId === messageId)
    .filter(({ acceptedAt }) => since === undefined || new Date(acceptedAt) >= since)
    .map((letter) => ({
      ...letter,
      recipients: letter.recipients
        .filter(({ address }) => to === undefined || address.toLowerCase() === to)
        .map(({ original: _original, ...one }) => ({
          ...one,
          ...(one.state === "accepted" && !waiting.has(one.session) && { state: "handed-over" as const }),
          ...(one.evidence !== undefined && { receipt: letters.pathOf(`${one.evidence}.receipt.eml`) }),
        })),
    }))
    .filter(({ recipients }) => recipients.length > 0);
  const isOverview = messageId === undefined && to === undefined;
  const failed = isOverview ? (await journal.all()).filter(({ stage, at }) => stage === "failed" && (!since || new Date(at) >= since)) : [];
  return { sent, notOpened: failed };
}

/**
 * Adds what the broker says of each letter's sessions; nothing of letters of a mailbox that is not the gateway's any more, for which nobody can ask.
 * @throws Fault `unavailable`, `forbidden`
 */
export async function withBroker(
  status: Status,
  { hand, identityOf }: { hand: Pick<Hand, "status">; identityOf(mailbox: Mailbox): Identity },
  signal: AbortSignal,
): Promise<Status> {
  const sent: SentLetter[] = [];
  for (const letter of status.sent) {
    const asked = letter.recipients.filter(({ ticket }) => ticket !== undefined);
    const tickets = asked.map(({ ticket }) => Buffer.from(ticket ?? "", "base64"));
    const identity = tickets.length === 0 ? undefined : unlessForbidden(() => identityOf(parseMailbox(letter.sender)));
    const answers = identity ? await hand.status(tickets, identity, signal) : [];
    const recipients = letter.recipients.map((one) => {
      const atBroker = answers[asked.indexOf(one)];
      return atBroker ? { ...one, atBroker } : one;
    });
    sent.push({ ...letter, recipients });
  }
  return { ...status, sent };
}

function unlessForbidden<T>(step: () => T): T | undefined {
  try {
    return step();
  } catch (thrown) {
    if (Fault.from(thrown).code === "forbidden") return undefined;
    throw thrown;
  }
}
