/** S9 for whatever was opened: into the mailbox once, known to the journal; or left where it is, flagged. */
import { reasonOf, type Log } from "../config/log.ts";
import type { OwnMailbox } from "../config/schema.ts";
import { Fault } from "../mime/fault.ts";
import type { Journal, Stage } from "./journal.ts";
import type { Letterbox, Seen } from "./mailbox.ts";
import { MARKER_FIELD } from "./opening.ts";

export interface FilingParts {
  readonly journal: Journal;
  readonly log: Log;
  readonly own: OwnMailbox;
  now(): Date;
}

/** `filed`: its reader has the letter, opened, or a note in its place. `left`: nothing but the original is there, as it came. */
export type Outcome = "filed" | "left";

/** An opened letter, and what it is found by in the mailbox. */
interface Copy {
  readonly letter: Buffer;
  readonly marker: string;
  /** Until when nobody else files it, by `performance.now()`. */
  readonly claimedUntil: number;
}

/** Files the opened copy once. After a crash, or where another gateway had the key before, the copy may be there already. */
export async function file(mailbox: Letterbox, seen: Seen, { letter, marker, claimedUntil }: Copy, isFirst: boolean): Promise<void> {
  const header = { name: MARKER_FIELD, value: marker };
  if (!isFirst && (await mailbox.hasOpened(header))) return;
  await mailbox.append(letter, seen, () => {
    if (performance.now() > claimedUntil) throw new Fault("unavailable", "opening took so long that another gateway may be at the letter");
  });
  if (!isFirst) await mailbox.keepOne(header); // what an earlier connection had sent may have arrived after the search
}

/**
 * Leaves a letter where it is, flagged; why is for the log and for `kakitome status`, and no mail goes out.
 * @param named.content of what came, where something else can come with the same ticket
 */
export async function leave(
  parts: FilingParts,
  mailbox: Letterbox,
  { uid }: Seen,
  { session, content }: { readonly session: string; readonly content?: string },
  thrown: unknown,
): Promise<Outcome> {
  const { code: fault } = Fault.from(thrown);
  const reason = reasonOf(thrown);
  parts.log.warn({ event: "letter.not-opened", session: session.slice(0, 12), uid, mailbox: parts.own.address.address, fault, reason });
  const before = await parts.journal.find(parts.own.address.address, session);
  const isFiled = before?.stage === "filed"; // the letter is in its reader's hands; only its confirmation was refused
  if (!isFiled) await keep(parts, session, "", { stage: "failed", fault, reason, ...(content !== undefined && { content }) }); // before the flag: no ticket is presented again for want of one
  await mailbox.flagNotOpened(uid);
  return isFiled ? "filed" : "left";
}

export async function keep(parts: FilingParts, session: string, messageId: string, stage: Stage): Promise<void> {
  await parts.journal.put({ ...stage, session, mailbox: parts.own.address.address, messageId, at: parts.now().toISOString() });
}
