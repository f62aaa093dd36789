/** Watches one mailbox: IDLE (or asking), new messages in order, each looked at once; reconnects with growing pauses and survives a new UIDVALIDITY. */
import { haltAt } from "../config/halt.ts";
import { pause } from "../config/lifecycle.ts";
import { letterOf, reasonOf, type Log } from "../config/log.ts";
import { Slots } from "../config/slots.ts";
import { Fault } from "../mime/fault.ts";
import type { Journal } from "./journal.ts";
import { kindOf } from "./kind.ts";
import { Listing } from "./listing.ts";
import { ImapMailbox, type Mailbox, type MailboxAccess, type Seen } from "./mailbox.ts";

/** A mailbox that is not at an IMAP server. */
interface OtherAccess {
  readonly config: { readonly watch: string; readonly poll: number };
  open(changed: () => void): Promise<Mailbox>;
}

export interface WatcherParts {
  readonly access: MailboxAccess | OtherAccess;
  /** Names the mailbox in log and journal. */
  readonly address: string;
  readonly journal: Journal;
  readonly log: Log;
  /** A message larger than this is no letter of ours. Octets. */
  readonly largest: number;
  onSealed(mailbox: Mailbox, seen: Seen, signal: AbortSignal): Promise<unknown>;
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
/** So many letters of a mailbox are under way at a time: while one waits for the broker or a disk, another one has the line. */
const AT_ONCE = 16;
/** Of these, so many that are larger than this: a letter under way is in memory. */
const [LARGE_AT_ONCE, LARGE_OCTETS] = [4, 1 << 20];

/** Runs until the signal aborts. */
export async function watch(parts: WatcherParts, signal: AbortSignal): Promise<void> {
  const [pauses, listing] = [new Pauses(), new Listing()];
  while (!signal.aborted) {
    try {
      await session(parts, signal, pauses, listing);
    } catch (thrown) {
      const fault = Fault.from(thrown);
      if (listing.hasLearned()) pauses.succeeded(); // it is not the server's fault
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
async function session(parts: WatcherParts, signal: AbortSignal, pauses: Pauses, listing: Listing): Promise<void> {
  let news = new AbortController();
  const wake = (): void => news.abort();
  const mailbox = await ("open" in parts.access ? parts.access.open(wake) : ImapMailbox.open(parts.access, wake, listing));
  const stop = (): void => news.abort();
  signal.addEventListener("abort", stop);
  try {
    parts.log.info({ event: "mailbox.watched", mailbox: parts.address, folder: parts.access.config.watch, idle: mailbox.canIdle });
    const settled = new Set<number>();
    while (!signal.aborted) {
      if (!mailbox.usable) throw new Fault("unavailable", "the connection to the mail server ended");
      news = new AbortController(); // before the look, so that what comes during it is looked at next
      const waiting = await pass(parts, mailbox, settled, signal);
      if (waiting) {
        await pause(pauses.next(), news.signal);
        continue;
      }
      pauses.succeeded();
      if (!mailbox.mayHaveMissed) await next(mailbox, parts.access, news.signal);
    }
  } finally {
    signal.removeEventListener("abort", stop);
    await mailbox.close();
  }
}

async function next(mailbox: Mailbox, access: WatcherParts["access"], news: AbortSignal): Promise<void> {
  const { poll } = access.config;
  if (!mailbox.canIdle) {
    if (await pause(poll, news)) await mailbox.noop();
    return;
  }
  if (news.aborted) return;
  void mailbox.idle();
  await pause("open" in access ? Math.min(RENEW_MS, poll) : RENEW_MS, news); // a folder on NFS can be watched, and what other machines write is not told
}

/**
 * Looks at every message that is not settled yet, several at a time and in order; a letter that has to wait does not hold up the ones
 * behind it. The place is kept up to the first one that waits.
 * @param settled UIDs behind that place which need no second look
 * @returns whether a letter waits. @throws Fault where it is not the letters' fault
 */
async function pass(parts: WatcherParts, mailbox: Mailbox, settled: Set<number>, signal: AbortSignal): Promise<boolean> {
  const place = new Place(parts, mailbox.uidValidity, settled);
  const all = await mailbox.seenAbove(await place.read());
  let [inARow, waiting] = [0, false];
  let failure: { readonly thrown: unknown } | undefined;
  const [slots, large] = [new Slots(AT_ONCE), new Slots(LARGE_AT_ONCE)];
  const settle = async (seen: Seen): Promise<void> => {
    if (failure || signal.aborted) return;
    try {
      if (!settled.has(seen.uid)) await look(parts, mailbox, seen, signal);
      inARow = 0;
      settled.add(seen.uid);
    } catch (thrown) {
      if (++inARow === STOP_AFTER || !mailbox.usable || signal.aborted) failure ??= { thrown };
      parts.log.warn({
        event: "letter.waits",
        letter: letterOf(seen.messageId ?? ""),
        mailbox: parts.address,
        uid: seen.uid,
        reason: reasonOf(thrown),
      });
      waiting = true;
    }
  };
  for (let from = 0; from < all.length; from += KEEP_EVERY) {
    const some = all.slice(from, from + KEEP_EVERY);
    await Promise.all(some.map((seen) => slots.run(() => (seen.octets > LARGE_OCTETS ? large.run(() => settle(seen)) : settle(seen)))));
    await place.keep(all);
    if (failure) throw failure.thrown;
  }
  return waiting;
}

/** How far a folder is settled without a gap, kept in the journal. */
class Place {
  readonly #parts: WatcherParts;
  readonly #uidValidity: string;
  readonly #settled: Set<number>;
  #uid = 0;

  constructor(parts: WatcherParts, uidValidity: string, settled: Set<number>) {
    this.#parts = parts;
    this.#uidValidity = uidValidity;
    this.#settled = settled;
  }

  /** The last UID of the kept place; with other UIDs in the folder everything is looked at anew, sessions are known by their tickets. */
  async read(): Promise<number> {
    const { journal, address, access } = this.#parts;
    const kept = await journal.position(address, access.config.watch);
    return (this.#uid = kept?.uidValidity === this.#uidValidity ? kept.uid : 0);
  }

  /** Moves on over what is settled. @param all the messages behind the place that was read, in order */
  async keep(all: readonly Seen[]): Promise<void> {
    const before = this.#uid;
    for (const { uid } of all) {
      if (uid <= this.#uid) continue;
      if (!this.#settled.has(uid)) break;
      this.#uid = uid;
      this.#settled.delete(uid);
    }
    if (this.#uid === before) return;
    const { journal, address, access } = this.#parts;
    await journal.keepPosition(address, access.config.watch, { uidValidity: this.#uidValidity, uid: this.#uid });
    haltAt("b11");
  }
}

async function look(parts: WatcherParts, mailbox: Mailbox, seen: Seen, signal: AbortSignal): Promise<void> {
  if (seen.octets > parts.largest) return;
  if (!seen.structure) parts.log.warn({ event: "message.not-read", mailbox: parts.address, uid: seen.uid }); // a letter of ours never looks so
  const kind = kindOf(seen.structure);
  if (seen.flags.includes("\\Deleted") && kind !== "sealed") return; // a sealed one may be ours, its removal cut off in the middle
  if (kind === "sealed") await parts.onSealed(mailbox, seen, signal);
  if (kind === "report") await parts.onReport(mailbox, seen);
  if (kind === "signed") await parts.onSigned(mailbox, seen);
}
