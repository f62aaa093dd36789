/**
 * Remembers outside the session table how far the table was, so that an older copy in its place is noticed before it gives a key out a
 * second time: after a failover, a restored backup, a cut-off log.
 */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { z } from "zod";
import { Fault } from "../mime/fault.ts";

/** How far a table is. */
export interface Mark {
  /** Names this table since its making or its last restoring; undefined in an empty one. */
  readonly epoch: string | undefined;
  /** The epoch before an operator accepted an older copy. */
  readonly follows: string | undefined;
  /** By audit log: the ID of its newest entry. */
  readonly heads: ReadonlyMap<string, string>;
}

/** What was known of a table at one time. */
export type Known = Pick<Mark, "epoch" | "heads">;

/** What a table asks of whoever remembers how far it was. */
export interface TableWitness {
  /** A step was acknowledged with this newest audit entry. */
  saw(log: string, head: string): void;
  /** Compares how far the table is with what was known before it was read. @throws Fault `unavailable` as `Witness.check` */
  examine(read: () => Promise<Mark>): Promise<void>;
}

const kept = z.strictObject({ epoch: z.string(), heads: z.record(z.string(), z.string()) });

export class Witness implements TableWitness {
  readonly #path: string;
  readonly #alarm: (fault: Fault) => void;
  #isAlarmed = false;
  #epoch: string | undefined;
  #heads = new Map<string, string>();
  #changed = false;

  /**
   * @param path where it remembers over a restart
   * @param alarm is told once, when a table is found to have gone back
   * @throws Fault `malformed`: the file cannot be read
   */
  constructor(path: string, alarm: (fault: Fault) => void = () => undefined) {
    this.#path = path;
    this.#alarm = alarm;
    const text = readText(path);
    if (text === undefined) return;
    const found = kept.safeParse(parsed(text));
    if (!found.success) throw new Fault("malformed", `${path} cannot be read; remove it only if the session table is as it was last`);
    this.#epoch = found.data.epoch;
    this.#heads = new Map(Object.entries(found.data.heads));
  }

  /** The table that it knows. */
  get epoch(): string | undefined {
    return this.#epoch;
  }

  /** What it knows now, for a comparison with what is read from now on. */
  known(): Known {
    return { epoch: this.#epoch, heads: new Map(this.#heads) };
  }

  saw(log: string, head: string): void {
    if (!isBefore(this.#heads.get(log), head)) return;
    this.#heads.set(log, head);
    this.#changed = true;
  }

  async examine(read: () => Promise<Mark>): Promise<void> {
    const known = this.known(); // before: steps go on while it is read, in other processes too
    this.check(await read(), known);
  }

  /**
   * @param known what the mark must have
   * @throws Fault `unavailable`: the table lacks steps that it acknowledged, or is another one
   */
  check(mark: Mark, known: Known): void {
    try {
      compare(mark, known);
      this.#take(mark);
      this.#isAlarmed = false;
    } catch (thrown) {
      if (!this.#isAlarmed) this.#alarm(Fault.from(thrown));
      this.#isAlarmed = true;
      throw thrown;
    }
  }

  #take(mark: Mark): void {
    if (mark.epoch !== this.#epoch) {
      this.#heads.clear(); // an operator accepted it as it is
      this.#changed = true;
    }
    this.#epoch = mark.epoch;
    for (const [log, head] of mark.heads) this.saw(log, head);
  }

  /** Writes down what it knows; cheap where nothing changed. */
  keep(): void {
    if (!this.#changed || this.#epoch === undefined) return;
    const text = JSON.stringify({ epoch: this.#epoch, heads: Object.fromEntries(this.#heads) });
    const unfinished = `${this.#path}.tmp`;
    synced(unfinished, "w", (file) => writeSync(file, text));
    renameSync(unfinished, this.#path);
    synced(dirname(this.#path), "r");
    this.#changed = false;
  }
}

function compare(mark: Mark, { epoch, heads }: Known): void {
  if (epoch !== undefined && mark.epoch !== epoch && mark.follows !== epoch) throw wentBack("it is another table");
  if (mark.epoch !== epoch) return; // an operator accepted it as it is
  for (const [log, head] of heads) {
    const now = mark.heads.get(log);
    if (isBefore(now, head)) throw wentBack(`audit log ${log || "of the table"} ends at ${now ?? "nothing"}, after it was at ${head}`);
  }
}

const ADVICE =
  "Bring the newest copy of the session table back and restart. If it is lost, stop the broker and accept the table as it is by " +
  '"kakitome broker restore --in-place", or fill an empty one from a backup by "kakitome broker restore FILE", each with --unopened erase or release-again; its --help says what they cost.';

function wentBack(how: string): Fault {
  return new Fault("unavailable", `the session table went back in time: ${how}`, { advice: ADVICE });
}

/** Stream IDs (`ms-number`) and row numbers, compared as numbers. */
function isBefore(one: string | undefined, other: string): boolean {
  if (one === undefined) return true;
  const [a, b] = [one, other].map((id) => id.split("-").map(Number));
  for (const [at, part] of (b ?? []).entries()) if ((a?.[at] ?? 0) !== part) return (a?.[at] ?? 0) < part;
  return false;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new Fault("malformed", `${path} cannot be read`, { cause });
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function synced(path: string, flags: string, work?: (file: number) => void): void {
  const file = openSync(path, flags, 0o600);
  try {
    work?.(file);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
