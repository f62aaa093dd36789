/** Takes letters back: at the broker by the tickets in the register, and out of the spool where a copy has not left yet. */
import { ticketHash, type Identity } from "../broker/client.ts";
import { letterOf, type Log } from "../config/log.ts";
import { parseMailbox, type Mailbox } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import type { Hand } from "./hand.ts";
import type { Letter, LetterRecipient, Letters } from "./letters.ts";
import type { RecallWord } from "./words.ts";

export interface RecallParts {
  readonly hand: Pick<Hand, "recall">;
  readonly letters: Letters;
  /** Keeps copies back that have not left; @returns their sessions. Absent where the spool is another process's. */
  holdBack?(sessions: ReadonlySet<string>): Promise<ReadonlySet<string>>;
  readonly log: Log;
  identityOf(mailbox: Mailbox): Identity;
  now(): Date;
}

export interface RecallOrder {
  readonly messageId: string;
  /** Whose letters; of everybody who sends here where left out. */
  readonly senders?: readonly string[];
  /** One recipient only. */
  readonly to?: Mailbox | undefined;
}

/** One recipient, and what became of the recall. */
export interface Recalled {
  readonly recipient: string;
  readonly outcome: RecallWord;
}

/** @returns undefined where no such letter was sent here. @throws Fault `unavailable`, `forbidden` */
export async function recall(parts: RecallParts, order: RecallOrder, signal: AbortSignal): Promise<readonly Recalled[] | undefined> {
  const letters = (await parts.letters.all()).filter(
    ({ messageId, sender }) => messageId === order.messageId && (order.senders?.includes(sender) ?? true),
  );
  const wanted = letters.map((letter) => ({
    letter,
    recipients: letter.recipients.filter(({ address }) => !order.to || address === order.to.key),
  }));
  if (wanted.every(({ recipients }) => recipients.length === 0)) return undefined;
  const outcomes: Recalled[] = [];
  for (const { letter, recipients } of wanted) outcomes.push(...(await recallOne(parts, letter, recipients, signal)));
  return outcomes;
}

/** The key first: whatever copy leaves meanwhile cannot be opened any more. */
async function recallOne(
  { hand, letters, log, identityOf, now, holdBack }: RecallParts,
  letter: Letter,
  recipients: readonly LetterRecipient[],
  signal: AbortSignal,
): Promise<Recalled[]> {
  const tickets = recipients.flatMap(({ ticket }) => (ticket === undefined ? [] : [Buffer.from(ticket, "base64")]));
  const answers = tickets.length === 0 ? [] : await hand.recall(tickets, identityOf(parseMailbox(letter.sender)), signal);
  if (answers.length !== tickets.length) throw new Fault("internal", "the broker answered another recall");
  const bySession = new Map(tickets.map((ticket, at) => [ticketHash(ticket), answers[at]]));
  const ended = new Set([...bySession].filter(([, answer]) => answer?.outcome === "recalled").map(([session]) => session));
  const kept = (await holdBack?.(ended)) ?? new Set<string>();
  const outcomes: Recalled[] = [];
  for (const { address, session, isEnclosed = false } of recipients) {
    const answer = bySession.get(session);
    if (answer?.outcome === "recalled") {
      const at = answer.at.toISOString();
      await letters.change(letter, session, { state: "recalled", at });
      log.info({
        event: "letter.recalled",
        letter: letterOf(letter.messageId),
        session: session.slice(0, 12),
        left: !kept.has(session),
        at: now().toISOString(),
      });
    }
    outcomes.push({ recipient: address, outcome: wordOf(answer, { isKept: kept.has(session), isEnclosed }) });
  }
  return outcomes;
}

function wordOf(
  answer: Awaited<ReturnType<Hand["recall"]>>[number] | undefined,
  { isKept, isEnclosed }: { isKept: boolean; isEnclosed: boolean },
): RecallWord {
  if (!answer) return { word: "no-ticket" };
  if (answer.outcome === "too-late") return { word: "too-late", at: answer.releasedAt };
  if (answer.outcome === "gone") return { word: "gone" };
  return isKept ? { word: "withdrawn" } : { word: isEnclosed ? "recalled-enclosed" : "recalled", at: answer.at };
}
