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
const LONGEST_PAUSE_MS = 30_000;
/** IDLE is renewed before the 29 minutes of RFC 2177 §3, and whatever was missed is found then. */
const RENEW_MS = 10 * 60_000;
/** So many letters in a row that have to wait are not the letters' fault. */
const STOP_AFTER = 3;
/** How many messages are settled before the place is kept; a crash only has them looked at again. */
const KEEP_EVERY = 100;

/** Runs until the signal aborts. */
export async function watch(parts: WatcherParts, signal: AbortSignal): Promise<void> {
  const pauses = new Pauses();
  while (!signal.aborted) {
    try {
      await session(parts, signal, pauses);
    } catch (thrown) {
      const fault = Fault.from(thrown);
      const pauseMs = pauses.next();
      const facts = { event: "mailbox.waits", mailbox: parts.address, fault: fault.code, reason: reasonOf(thrown), pauseMs };
      if (fault.code === "unavailable") parts.log.warn(facts);
      else parts.log.error(facts);
      await pause(pauseMs, signal);
    }
  }
}

/** Growing pauses between attempts, short again after a success. */
class Pauses {
  #next = SHORTEST_PAUSE_MS;

  next(): number {
    const now = this.#next;
    this.#next = Math.min(now * 2, LONGEST_PAUSE_MS);
    return now;
  }

  succeeded(): void {
    this.#next = SHORTEST_PAUSE_MS;
  }
}

/** One connection: everything there is, then everything that comes. */
async function session(parts: WatcherParts, signal: AbortSignal, pauses: Pauses): Promise<void> {
  let news = new AbortController();
  const mailbox = await Mailbox.open(parts.access, () => news.abort());
  const stop = (): void => news.abort();
  signal.addEventListener("abort", stop);
  try {
    parts.log.info({ event: "mailbox.watched", mailbox: parts.address, folder: parts.access.config.watch, idle: mailbox.canIdle });
    const settled = new Set<number>();
    while (!signal.aborted) {
      if (!mailbox.usable) throw new Fault("unavailable", "the connection to the mail server ended");
      news = new AbortController(); // before the look, so that what comes during it is looked at next
      const waiting = await pass(parts, mailbox, settled, signal);
      const woken = AbortSignal.any([news.signal, signal]);
      if (waiting) {
        await pause(pauses.next(), woken);
        continue;
      }
      pauses.succeeded();
      await next(mailbox, parts.access.config.poll, woken);
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

/**
 * Looks at every message that is not settled yet, in order; a letter that has to wait does not hold up the ones behind it. The place
 * is kept up to the first one that waits.
 * @param settled UIDs behind that place which need no second look
 * @returns whether a letter waits. @throws Fault where it is not the letters' fault
 */
async function pass(parts: WatcherParts, mailbox: Mailbox, settled: Set<number>, signal: AbortSignal): Promise<boolean> {
  const { journal, address, access, log } = parts;
  const folder = access.config.watch;
  const { uidValidity } = mailbox;
  const kept = await journal.position(address, folder);
  let place = kept?.uidValidity === uidValidity ? kept.uid : 0; // other UIDs: everything anew, sessions are known by their tickets
  let [lastKept, waiting, inARow] = [place, false, 0];
  const keepPlace = async (): Promise<void> => {
    if (place === lastKept) return;
    await journal.keepPosition(address, folder, { uidValidity, uid: place });
    lastKept = place;
    haltAt("b11");
  };
  for (const seen of await mailbox.seenAbove(place)) {
    if (signal.aborted) break;
    try {
      if (!settled.has(seen.uid)) await look(parts, mailbox, seen, signal);
      inARow = 0;
    } catch (thrown) {
      if (++inARow === STOP_AFTER || !mailbox.usable || signal.aborted) throw thrown;
      log.warn({ event: "letter.waits", mailbox: address, uid: seen.uid, reason: reasonOf(thrown) });
      waiting = true;
      continue;
    }
    if (waiting) settled.add(seen.uid);
    else place = seen.uid;
    if (place - lastKept >= KEEP_EVERY) await keepPlace();
  }
  await keepPlace();
  return waiting;
}

async function look(parts: WatcherParts, mailbox: Mailbox, seen: Seen, signal: AbortSignal): Promise<void> {
  if (seen.octets > parts.largest) return;
  const kind = isOurs(seen.structure);
  if (seen.flags.includes("\\Deleted") && kind !== "sealed") return; // a sealed one may be ours, its removal cut off in the middle
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
