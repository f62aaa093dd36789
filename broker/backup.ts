/** Backup and restoring of the session table, with the rule that a key given out since then is not given out again unless an operator says so. */
import { randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { createInterface } from "node:readline";
import { z } from "zod";
import { Fault } from "../mime/fault.ts";
import { firstBroken, type AuditLog, type ChainedEntry } from "./audit.ts";
import { expired, isUnfinished, REGISTERED, type Stored } from "./table-copy.ts";
import type { Table } from "./table.ts";

/** What becomes of letters that were not opened when the copy was made: some of them may have been opened since. */
export type Unopened = "erase" | "release-again";

const FORMAT = "kakitome backup 2";
const head = z.strictObject({ format: z.literal(FORMAT), epoch: z.string(), at: z.iso.datetime() });
const tail = z.strictObject({ end: z.int() });
const item = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("row"),
    session: z.string(),
    fields: z.record(z.string(), z.union([z.string(), z.number()])),
    waits: z.array(z.string()),
  }),
  z.strictObject({ kind: z.literal("receipt"), session: z.string(), evidence: z.string(), bytes: z.string() }),
  z.strictObject({
    kind: z.literal("audit"),
    log: z.string(),
    n: z.number(),
    event: z.string(),
    session: z.string(),
    at: z.number(),
    who: z.string(),
    hash: z.string(),
  }),
  z.strictObject({ kind: z.literal("head"), log: z.string(), n: z.number(), hash: z.string() }),
  z.strictObject({ kind: z.literal("registry"), of: z.enum(REGISTERED), name: z.string(), record: z.string() }),
]);

/** Writes the whole table into a new file; the broker may run meanwhile. @returns how many things it holds. @throws Fault `malformed`: the file is there */
export async function backup(table: Table, path: string, now: Date): Promise<number> {
  const epoch = await table.epoch();
  if (epoch === undefined) throw new Fault("malformed", "the session table is empty: there is nothing to keep");
  const file = await open(path, "wx", 0o600).catch((cause: unknown) => {
    throw new Fault("malformed", `${path} cannot be written; a backup never replaces a file`, { cause });
  });
  try {
    let count = 0;
    await file.write(`${JSON.stringify({ format: FORMAT, epoch, at: now.toISOString() })}\n`);
    for await (const stored of table.stored()) {
      await file.write(`${JSON.stringify(stored)}\n`);
      count++;
    }
    await file.write(`${JSON.stringify({ end: count })}\n`);
    await file.sync();
    return count;
  } finally {
    await file.close();
  }
}

/**
 * Fills an empty table from a backup. @returns how many things, and how many letters lost their keys
 * @throws Fault `malformed`: no whole backup, its audit log was edited, or the table holds something
 */
export async function restore(table: Table, path: string, unopened: Unopened, now: Date): Promise<{ count: number; erased: number }> {
  for await (const stored of table.stored()) throw new Fault("malformed", `the session table is not empty: it holds a ${stored.kind}`);
  const { epoch } = await demandWhole(path);
  let [count, erased] = [0, 0];
  for await (const line of linesOf(path)) {
    const found = item.safeParse(parsed(line));
    if (!found.success) continue; // the first and the last line
    const stored = settled(found.data, unopened, now);
    if (stored !== found.data) erased++;
    await table.restore(stored);
    count++;
  }
  await table.begin(randomUUID(), epoch);
  return { count, erased };
}

/** Accepts an older copy that stands in the table's place already. @param lost the epoch that witnesses know */
export async function accept(table: Table, lost: string, unopened: Unopened, now: Date): Promise<{ erased: number }> {
  const rows: Stored[] = [];
  for await (const stored of table.stored()) {
    const after = settled(stored, unopened, now);
    if (after !== stored) rows.push(after);
  }
  for (const row of rows) await table.restore(row);
  await table.begin(randomUUID(), lost);
  return { erased: rows.length };
}

function settled(stored: Stored, unopened: Unopened, now: Date): Stored {
  if (stored.kind !== "row" || unopened === "release-again" || !isUnfinished(stored.fields)) return stored;
  return { ...stored, fields: expired(stored.fields, now.getTime()) };
}

/** Reads the file once before anything is written. */
async function demandWhole(path: string): Promise<{ epoch: string }> {
  const broken = (what: string, cause?: unknown): Fault => new Fault("malformed", `${path} is no whole backup: ${what}`, { cause });
  let [first, end, count]: [{ epoch: string } | undefined, number | undefined, number] = [undefined, undefined, 0];
  const entries: ChainedEntry[] = [];
  try {
    for await (const line of linesOf(path)) {
      const value = parsed(line);
      if (!first) first = head.parse(value);
      else if (tail.safeParse(value).success) end = tail.parse(value).end;
      else {
        const found = item.parse(value);
        if (found.kind === "audit") entries.push(found);
        else if (found.kind === "head") demandChain({ name: found.log, entries: entries.splice(0), head: found });
        count++;
      }
    }
  } catch (cause) {
    if (cause instanceof Fault) throw broken(cause.message, cause);
    throw broken(`line ${count + 1} cannot be read`, cause);
  }
  if (!first || end !== count) throw broken(`it ends after ${count} things`);
  if (entries.length > 0) throw broken(`the head of an audit log is missing`);
  return first;
}

/** @throws Fault `malformed` */
function demandChain(log: AuditLog): void {
  const wrong = firstBroken(log);
  if (wrong) throw new Fault("malformed", `entry ${wrong.n} of its audit log ${log.name} is ${wrong.what}`);
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function linesOf(path: string): AsyncIterable<string> {
  return createInterface({ input: createReadStream(path), crlfDelay: Number.POSITIVE_INFINITY });
}
