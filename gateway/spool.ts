/**
 * The spool: sealed copies that were accepted and are on their way (S5). One file a submission, synced before the 250; never a key,
 * never a text. What is finished leaves the first line of its file for a while, by which a repeated submission is known, and what the
 * register holds of it.
 */
import { closeSync, existsSync, openSync, readSync, renameSync, statSync, truncateSync } from "node:fs";
import { open, rm, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { ticketHash } from "../broker/client.ts";
import { haltAt } from "../config/halt.ts";
import { Fault } from "../mime/fault.ts";
import { inPieces, octetsIn, type Octets } from "../mime/pieces.ts";
import {
  Serial,
  claimFolder,
  cut,
  namesIn,
  readRecord,
  recordIn,
  removeDurably,
  renameDurably,
  tryWriting,
  unlessMissing,
  writeDurably,
  writeWhole,
} from "./durable.ts";
import type { Forwarded } from "./forwarded.ts";
import type { Letter } from "./letters.ts";

/** One recipient's copy. */
export interface Consignment {
  /** Address as written in RCPT TO. */
  readonly recipient: string;
  /** Base64; absent for a notice of our own, which has no session at the broker. */
  readonly ticket?: string;
  readonly notify: readonly string[];
  readonly originalRecipient?: string;
  /** Octets of the message behind the first line, from and to. */
  readonly from: number;
  readonly to: number;
}

/** By which the broker and the register know a copy; undefined for a notice of our own. */
export function sessionOf({ ticket }: Pick<Consignment, "ticket">): string | undefined {
  return ticket === undefined ? undefined : ticketHash(Buffer.from(ticket, "base64"));
}

/** What stands in the first line of a spool file. */
export interface Entry {
  readonly id: string;
  /** Reverse-path; empty for notices. */
  readonly sender: string;
  readonly messageId: string;
  /** ISO 8601. */
  readonly acceptedAt: string;
  readonly envelopeId?: string;
  readonly returns?: "FULL" | "HDRS";
  /** What the mail server in front said of its client. */
  readonly forwarded?: Forwarded;
  /** What the register of sent letters has to hold before the first copy leaves; absent for notices. */
  readonly register?: Letter;
  readonly consignments: readonly Consignment[];
}

/**
 * How far a copy is. `relayed`: the next hop took it; `reported`: and the broker knows. `refused`: it is given up; `failed`: and the
 * broker and the sender know.
 */
export type Progress =
  | { readonly stage: "waiting" | "relayed" | "reported" | "failed" }
  | { readonly stage: "refused"; /** The enhanced status code. */ readonly status: string; readonly answer: string };

export interface Spooled {
  readonly entry: Entry;
  readonly progress: Progress[];
  /** Octets of the first line. */
  readonly head: number;
  /** Copies, by their place, which the broker knows to be on their way; for this life only. */
  readonly announced: Set<number>;
  /** Copies, by their place, whose transaction with the next hop runs. */
  readonly sending: Set<number>;
}

/** Whether nothing more is to be done for a copy. */
export function isFinished({ stage }: Progress): boolean {
  return stage === "reported" || stage === "failed";
}

/** Whether nothing goes wrong where a loss of power takes what was kept of this, and the copies are sent once more. */
function isForgivable({ consignments }: Entry, progress: readonly Progress[]): boolean {
  return (
    consignments.every(({ ticket }) => ticket !== undefined) && progress.every(({ stage }) => stage !== "refused" && stage !== "failed")
  );
}

const LETTER = ".letter";
const STATE = ".state";
const DONE = ".done";
function rethrow(_id: string, thrown: unknown): never {
  throw thrown;
}

const CHUNK_OCTETS = 64 << 10;

function readSmall(path: string, into: Buffer, from: number): number {
  const file = openSync(path, "r");
  try {
    return readSync(file, into, 0, into.length, from);
  } finally {
    closeSync(file);
  }
}

async function readLarge(path: string, into: Buffer, from: number): Promise<number> {
  const file = await open(path);
  try {
    return (await file.read(into, 0, into.length, from)).bytesRead;
  } finally {
    await file.close();
  }
}

/** The first line of a file with its end, and how large the file is; an empty line where it has no end. */
function firstLineOf(path: string): { readonly line: Buffer; readonly size: number } {
  const { size } = statSync(path);
  for (let length = Math.min(size, CHUNK_OCTETS); length > 0; length = Math.min(size, length * 2)) {
    const start = Buffer.allocUnsafe(length);
    const end = start.subarray(0, readSmall(path, start, 0)).indexOf("\n") + 1;
    if (end > 0 || length === size) return { line: start.subarray(0, end), size };
  }
  return { line: Buffer.alloc(0), size };
}

export class Spool {
  readonly #folder: string;
  readonly #serial = new Serial();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Makes the folder, and clears away what a crash left half done in it. */
  async prepare(): Promise<void> {
    await claimFolder(this.#folder);
    for (const id of await namesIn(this.#folder, LETTER)) {
      const { line, size } = firstLineOf(this.#path(id, LETTER));
      const cutOff = line.length === size ? await this.#read(id).catch(() => undefined) : undefined;
      const wasFinished = cutOff?.entry.consignments.some(({ to }) => to > 0);
      if (wasFinished) await renameDurably(this.#path(id, LETTER), this.#path(id, DONE)); // power took the name that it had got
    }
    const waiting = new Set(await namesIn(this.#folder, LETTER));
    for (const id of await namesIn(this.#folder, STATE)) if (!waiting.has(id)) await removeDurably(this.#path(id, STATE));
    for (const id of await namesIn(this.#folder, DONE)) {
      const path = this.#path(id, DONE);
      const { line, size } = firstLineOf(path);
      if (size > line.length) truncateSync(path, line.length); // its time says since when it is remembered
    }
  }

  /** What the register holds of letters that are finished and remembered. @param broken as of `all` */
  async registered(broken: (id: string, thrown: unknown) => void = rethrow): Promise<Letter[]> {
    const found: Letter[] = [];
    for (const id of await namesIn(this.#folder, DONE)) {
      const path = this.#path(id, DONE);
      const { line } = firstLineOf(path);
      try {
        const entry = line.length === 0 ? undefined : (recordIn(line, path) as Entry);
        if (entry?.register) found.push(entry.register);
      } catch (thrown) {
        broken(id, thrown);
      }
    }
    return found;
  }

  /** Whether a letter could be written now. @returns octets that are free. @throws Fault `storage-full`, or the system's error */
  async probe(): Promise<number> {
    await tryWriting(this.#folder);
    const { bavail, bsize } = await statfs(this.#folder);
    return bavail * bsize;
  }

  /** Runs the work, unless a submission of this id was accepted before; two of one id never run at once. @returns whether it ran */
  once(id: string, work: () => Promise<void>): Promise<boolean> {
    return this.#serial.run(`once ${id}`, async () => {
      if ([LETTER, DONE].some((ending) => existsSync(this.#path(id, ending)))) return false;
      await work();
      return true;
    });
  }

  /**
   * Writes a submission; when it resolves the submission survives a crash.
   * @param copies messages in the order of their recipients
   * @param written runs when everything is on the disk, before it counts; where it throws, nothing stays
   */
  async put(
    entry: Omit<Entry, "consignments">,
    copies: readonly (Omit<Consignment, "from" | "to"> & { readonly message: Octets })[],
    written?: () => Promise<void>,
  ): Promise<Spooled> {
    let at = 0;
    const consignments = copies.map(({ message, ...rest }) => ({ ...rest, from: at, to: (at += octetsIn(message)) }));
    const whole: Entry = { ...entry, consignments };
    const head = Buffer.from(`${JSON.stringify(whole)}\n`);
    if (existsSync(this.#path(entry.id, STATE))) await removeDurably(this.#path(entry.id, STATE)); // of a former one, killed at its end
    await writeDurably(this.#path(entry.id, LETTER), inPieces(head, ...copies.map(({ message }) => message)), () => {
      haltAt("a6");
      return written?.();
    });
    return {
      entry: whole,
      progress: consignments.map(() => ({ stage: "waiting" })),
      head: head.length,
      announced: new Set(),
      sending: new Set(),
    };
  }

  /** Sessions of copies that no next hop took yet; of another process's spool, as it was written last. */
  async sessionsWaiting(): Promise<ReadonlySet<string>> {
    const waiting = (await this.all(() => undefined)).flatMap(({ entry, progress }) =>
      entry.consignments.filter((_, at) => ["waiting", "refused"].includes(progress[at]?.stage ?? "")),
    );
    return new Set(waiting.flatMap((consignment) => sessionOf(consignment) ?? []));
  }

  /** Everything that is not finished, the oldest first. @param broken is told of an entry that cannot be read; without it, that throws */
  async all(broken: (id: string, thrown: unknown) => void = rethrow): Promise<Spooled[]> {
    const found: Spooled[] = [];
    for (const id of await namesIn(this.#folder, LETTER)) {
      try {
        const spooled = await unlessMissing(this.#read(id)); // it may have been finished meanwhile
        if (spooled) found.push(spooled);
      } catch (thrown) {
        broken(id, thrown);
      }
    }
    return found.sort((a, b) => a.entry.acceptedAt.localeCompare(b.entry.acceptedAt));
  }

  /** A copy's octets; undefined where the file does not hold them any more. */
  async message({ entry, head }: Spooled, { from, to }: Consignment): Promise<Buffer | undefined> {
    const message = Buffer.allocUnsafe(to - from);
    const path = this.#path(entry.id, LETTER);
    const octets = message.length > CHUNK_OCTETS ? await readLarge(path, message, head + from) : readSmall(path, message, head + from);
    return octets < message.length ? undefined : message;
  }

  /**
   * Keeps how far the copies are. What the next hop took is not synced: sent again after a loss of power, its recipient's gateway knows
   * its session. What was given up is, for its sender is told so.
   */
  keep({ entry, progress }: Spooled): Promise<void> {
    const state = Buffer.from(JSON.stringify(progress));
    const path = this.#path(entry.id, STATE);
    return this.#serial.run(entry.id, () => (isForgivable(entry, progress) ? writeWhole(path, state) : writeDurably(path, [state])));
  }

  /** Takes a finished submission out, and remembers its id. */
  async finish({ entry, progress, head }: Spooled): Promise<void> {
    const [letter, done, state] = [LETTER, DONE, STATE].map((ending) => this.#path(entry.id, ending)) as [string, string, string];
    const isRenamed = !existsSync(letter) && existsSync(done); // the last attempt failed behind that
    if (!isRenamed && isForgivable(entry, progress)) renameSync(letter, done);
    else if (!isRenamed) await renameDurably(letter, done);
    await cut(done, head);
    if (existsSync(state)) await rm(state);
  }

  /** Remembers an id whose submission never was in the spool. @param written as of `put` */
  async remember(id: string, written: () => Promise<void>): Promise<void> {
    await writeDurably(this.#path(id, DONE), [], written);
  }

  /** Forgets the ids that were finished before a time, in milliseconds since the epoch. */
  async forget(before: number): Promise<void> {
    for (const id of await namesIn(this.#folder, DONE)) {
      const facts = await unlessMissing(stat(this.#path(id, DONE)));
      if (facts && facts.mtimeMs < before) await removeDurably(this.#path(id, DONE));
    }
  }

  /** Only the first line, however large the copies are. */
  async #read(id: string): Promise<Spooled> {
    const path = this.#path(id, LETTER);
    const { line } = firstLineOf(path);
    const entry = line.length > 0 && (recordIn(line, path) as Entry);
    if (!entry || !Array.isArray(entry.consignments)) throw new Fault("internal", `spool entry ${id} cannot be read`);
    const progress = await this.#progressOf(id, entry);
    return { entry, progress, head: line.length, announced: new Set(), sending: new Set() };
  }

  /** All wait where nothing that can be read says otherwise: a loss of power leaves an empty file of what was not synced (`keep`). */
  async #progressOf(id: string, { consignments }: Entry): Promise<Progress[]> {
    const state = await readRecord<Progress[]>(this.#path(id, STATE)).catch((thrown: unknown) => {
      if (thrown instanceof Fault) return undefined;
      throw thrown;
    });
    return state?.length === consignments.length ? state : consignments.map(() => ({ stage: "waiting" }));
  }

  #path(id: string, ending: string): string {
    return join(this.#folder, `${id}${ending}`);
  }
}
