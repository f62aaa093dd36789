/** Watches one mailbox: IDLE (or asking), new messages in order, each looked at once; reconnects with growing pauses and survives a new UIDVALIDITY. */
import type { MessageStructureObject } from "imapflow";
import { haltAt } from "../config/halt.ts";
import { pause } from "../config/lifecycle.ts";
import { reasonOf, type Log } from "../config/log.ts";
import { Fault } from "../mime/fault.ts";
import type { Journal } from "./journal.ts";
import { Mailbox, type MailboxAccess, type Seen } from "./mailbox.ts";

export interface WatcherParts {
  readonly access: MailboxAccess;
  /** Names the mailbox in log and journal. */
  readonly address: string;
  readonly journal: Journal;
  readonly log: Log;
  /** A message larger than this is no letter of ours. Octets. */
  readonly largest: number;
  onSealed(mailbox: Mailbox, seen: Seen, signal: AbortSignal): Promise<void>;
  onReport(mailbox: Mailbox, seen: Seen): Promise<void>;
  /** A mail that somebody signed with S/MIME. */
  onSigned(mailbox: Mailbox, seen: Seen): Promise<void>;
}

const SHORTEST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 60_000;
/** IDLE is renewed before the 29 minutes of RFC 2177 §3, and whatever was missed is found then. */
const RENEW_MS = 10 * 60_000;

/** Runs until the signal aborts. */
export async function watch(parts: WatcherParts, signal: AbortSignal): Promise<void> {
  let wait = SHORTEST_PAUSE_MS;
  while (!signal.aborted) {
    try {
      await session(parts, signal, () => (wait = SHORTEST_PAUSE_MS));
    } catch (thrown) {
      const fault = Fault.from(thrown);
      const facts = { event: "mailbox.waits", mailbox: parts.address, fault: fault.code, reason: reasonOf(thrown), pauseMs: wait };
      if (fault.code === "unavailable") parts.log.warn(facts);
      else parts.log.error(facts);
    }
    await pause(wait, signal);
    wait = Math.min(wait * 2, LONGEST_PAUSE_MS);
  }
}

/** One connection: everything there is, then everything that comes. */
async function session(parts: WatcherParts, signal: AbortSignal, succeeded: () => void): Promise<void> {
  let news = new AbortController();
  const mailbox = await Mailbox.open(parts.access, () => news.abort());
  const stop = (): void => news.abort();
  signal.addEventListener("abort", stop);
  try {
    parts.log.info({ event: "mailbox.watched", mailbox: parts.address, folder: parts.access.config.watch, idle: mailbox.canIdle });
    while (!signal.aborted) {
      if (!mailbox.usable) throw new Fault("unavailable", "the connection to the mail server ended");
      news = new AbortController(); // before the look, so that what comes during it is looked at next
      await pass(parts, mailbox, signal);
      succeeded();
      await next(mailbox, parts.access.config.poll, AbortSignal.any([news.signal, signal]));
    }
  } finally {
    signal.removeEventListener("abort", stop);
    await mailbox.close();
  }
}

async function next(mailbox: Mailbox, poll: number, news: AbortSignal): Promise<void> {
  if (!mailbox.canIdle) {
    if (await pause(poll, news)) await mailbox.noop();
    return;
  }
  if (news.aborted) return;
  void mailbox.idle();
  await pause(RENEW_MS, news);
}

/** Looks at every message that is not settled yet, in order. The place is kept up to the first one that has to wait. */
async function pass(parts: WatcherParts, mailbox: Mailbox, signal: AbortSignal): Promise<void> {
  const { journal, address, access } = parts;
  const folder = access.config.watch;
  const { uidValidity } = mailbox;
  const kept = await journal.position(address, folder);
  let settled = kept?.uidValidity === uidValidity ? kept.uid : 0; // other UIDs: everything anew, sessions are known by their tickets
  const from = settled;
  for (const seen of await mailbox.seenAbove(settled)) {
    if (signal.aborted) break;
    await look(parts, mailbox, seen, signal);
    settled = seen.uid;
    if (isOurs(seen.structure)) await journal.keepPosition(address, folder, { uidValidity, uid: settled });
    if (isOurs(seen.structure) === "sealed") haltAt("b11");
  }
  if (settled !== from) await journal.keepPosition(address, folder, { uidValidity, uid: settled });
}

async function look(parts: WatcherParts, mailbox: Mailbox, seen: Seen, signal: AbortSignal): Promise<void> {
  if (seen.octets > parts.largest || seen.flags.includes("\\Deleted")) return;
  const kind = isOurs(seen.structure);
  if (kind === "sealed") await parts.onSealed(mailbox, seen, signal);
  if (kind === "report") await parts.onReport(mailbox, seen);
  if (kind === "signed") await parts.onSigned(mailbox, seen);
}

const SIGNATURE = /^application\/(?:x-)?pkcs7-signature$/u;
const ENVELOPE = /^application\/(?:x-)?pkcs7-mime$/u;

/** What a message may be by its structure alone; only these are fetched. */
function isOurs(structure: MessageStructureObject | undefined): "sealed" | "report" | "signed" | undefined {
  const typeAt = (...path: number[]): string =>
    path.reduce((node: MessageStructureObject | undefined, at) => node?.childNodes?.[at], structure)?.type.toLowerCase() ?? "";
  const isSealed = (...path: number[]): boolean => {
    const enclosed = ENVELOPE.test(typeAt(...path));
    return enclosed || (typeAt(...path) === "multipart/mixed" && ENVELOPE.test(typeAt(...path, 1)));
  };
  if (isSealed()) return "sealed";
  if (typeAt() !== "multipart/signed") return undefined;
  if (typeAt(0) === "multipart/report") return "report";
  if (isSealed(0)) return "sealed"; // signed outside
  return SIGNATURE.test(typeAt(1)) ? "signed" : undefined;
}
