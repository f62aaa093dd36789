/**
 * Files that survive a crash: written beside their place, synced, renamed, the folder synced. What waits for the disk (a sync, much
 * content) is done by other threads; the rest is done at once, for the trip there costs several times the call itself.
 */
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import { closeSync, fchmodSync, fchownSync, openSync, readFileSync, realpathSync, renameSync, statSync, writeFileSync } from "node:fs";
import { mkdir, readdir, rename, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import { Fault } from "../mime/fault.ts";

const UNFINISHED = ".tmp";

/** Makes a folder that only its owner can enter. */
export async function makeFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
}

/** Makes the folder for its one writer, and removes what a crash left unfinished in it. */
export async function claimFolder(path: string): Promise<void> {
  await makeFolder(path);
  for (const name of await readdir(path)) if (name.endsWith(UNFINISHED)) await removeDurably(join(path, name));
}

const [sync, shorten, writeLarge] = [promisify(fs.fsync), promisify(fs.ftruncate), promisify(fs.writeFile)];

type Written = () => void | Promise<void>;

/** A part that is larger is written by another thread. */
const AT_ONCE_OCTETS = 256 << 10;

/**
 * Replaces or makes a file; when it resolves, the whole content is on the disk under its name.
 * @param written runs when the content is on the disk, before the name is given; where it throws, nothing stays
 * @throws Fault `storage-full`: nothing of it stays; or the system's error
 */
export async function writeDurably(path: string, parts: Iterable<Buffer>, written?: Written): Promise<void> {
  await beside(path, async (file) => {
    for (const part of together(parts)) {
      if (part.length > AT_ONCE_OCTETS) await writeLarge(file, part);
      else writeFileSync(file, part);
    }
    await sync(file);
    return written;
  });
  await syncFolder(dirname(path));
}

/** Small parts in one, as long as that is no large one: each costs a call to the system. */
function* together(parts: Iterable<Buffer>): Generator<Buffer> {
  let small: Buffer[] = [];
  let octets = 0;
  for (const part of parts) {
    if (octets + part.length > AT_ONCE_OCTETS) {
      if (octets > 0) yield Buffer.concat(small);
      [small, octets] = [[], 0];
    }
    if (part.length > AT_ONCE_OCTETS) yield part;
    else {
      small.push(part);
      octets += part.length;
    }
  }
  if (octets > 0) yield Buffer.concat(small);
}

/**
 * Replaces somebody's file, behind a symbolic link or not: it stays in its place, with its mode and its owner.
 * @throws as `writeDurably`, and the file is as it was; also where the owner cannot be kept
 */
export async function replaceDurably(path: string, content: Buffer): Promise<void> {
  const place = realpathSync(path);
  const { mode, uid, gid } = statSync(place);
  await beside(place, async (file) => {
    writeFileSync(file, content);
    fchownSync(file, uid, gid);
    fchmodSync(file, mode & 0o7777);
    await sync(file);
    return undefined;
  });
  await syncFolder(dirname(place));
}

/** Replaces or makes a file whole, for whoever reads it from now on; after a loss of power the former one may be there again. */
export async function writeWhole(path: string, content: Buffer): Promise<void> {
  await beside(path, (file) => writeFileSync(file, content));
}

/** @param write resolves when everything is in the file, to what is to run before the file gets its name */
async function beside(path: string, write: (file: number) => Promise<Written | undefined> | void): Promise<void> {
  const unfinished = unfinishedAt(path);
  try {
    const file = openSync(unfinished, "wx", 0o600);
    let written: Written | undefined | void;
    try {
      written = await write(file);
    } finally {
      closeSync(file);
    }
    await written?.();
    renameSync(unfinished, path);
  } catch (thrown) {
    await unlink(unfinished).catch(() => undefined); // room for what is tried next
    throw storageFault(thrown);
  }
}

const unfinishedAt = (path: string): string => `${path}.${randomBytes(6).toString("hex")}${UNFINISHED}`;

/** Writes something small and takes it away again. @throws as `writeDurably` */
export async function tryWriting(folder: string): Promise<void> {
  const path = unfinishedAt(join(folder, "probe"));
  try {
    writeFileSync(path, "probe", { mode: 0o600 });
  } catch (thrown) {
    throw storageFault(thrown);
  } finally {
    await unlink(path).catch(() => undefined); // also where there was room for the name alone
  }
}

const FULL: ReadonlySet<unknown> = new Set(["ENOSPC", "EDQUOT", "EROFS"]);

/** A full or read-only disk is for the administrator to mend, and the same attempt succeeds afterwards. */
function storageFault(thrown: unknown): unknown {
  const code = codeOf(thrown);
  return FULL.has(code) ? new Fault("storage-full", `nothing can be written to the disk: ${String(code)}`, { cause: thrown }) : thrown;
}

/** Renames a file within its folder; when it resolves, it has the new name for good. */
export async function renameDurably(from: string, to: string): Promise<void> {
  await rename(from, to);
  await syncFolder(dirname(to));
}

/** Cuts a file off behind so many octets; by another thread, for the disk may have to be waited for. */
export async function cut(path: string, octets: number): Promise<void> {
  const file = openSync(path, "r+");
  try {
    await shorten(file, octets);
  } finally {
    closeSync(file);
  }
}

/** Removes a file; a missing one is as good. @returns whether it was there */
export async function removeDurably(path: string): Promise<boolean> {
  const removed = await unlessMissing(unlink(path).then(() => true));
  await syncFolder(dirname(path));
  return removed ?? false;
}

/** Syncs of folders that have not begun yet, and those that run. */
const [waitingSyncs, runningSyncs] = [new Map<string, Promise<void>>(), new Map<string, Promise<void>>()];

/** One sync serves everybody who asked before it began: under load many letters share it. @returns when a sync ended that began after the call */
function syncFolder(path: string): Promise<void> {
  const waiting = waitingSyncs.get(path);
  if (waiting) return waiting;
  const before = runningSyncs.get(path) ?? Promise.resolve();
  const next = before
    .catch(() => undefined)
    .then(async () => {
      waitingSyncs.delete(path);
      runningSyncs.set(path, next);
      const folder = openSync(path, "r");
      try {
        await sync(folder);
      } finally {
        closeSync(folder);
        if (runningSyncs.get(path) === next) runningSyncs.delete(path);
      }
    });
  waitingSyncs.set(path, next);
  return next;
}

/** The file's bytes; undefined where it is missing. */
export async function readIfPresent(path: string): Promise<Buffer | undefined> {
  try {
    return readFileSync(path);
  } catch (thrown) {
    if (codeOf(thrown) === "ENOENT") return undefined;
    throw thrown;
  }
}

/** What a file operation gives; undefined where the file is missing. */
export async function unlessMissing<T>(operation: Promise<T>): Promise<T | undefined> {
  try {
    return await operation;
  } catch (thrown) {
    if (codeOf(thrown) === "ENOENT") return undefined;
    throw thrown;
  }
}

/** Names in a folder that end so, without the ending; a missing folder has none. */
export async function namesIn(folder: string, ending: string): Promise<string[]> {
  const names = (await unlessMissing(readdir(folder))) ?? [];
  return names.filter((name) => name.endsWith(ending)).map((name) => basename(name, ending));
}

/** What the system calls its error; undefined where it is none of the system's. */
export function codeOf(thrown: unknown): unknown {
  return typeof thrown === "object" && thrown !== null && "code" in thrown ? thrown.code : undefined;
}

/**
 * Reads a record of ours.
 * @returns undefined where there is none
 * @throws Fault `internal`: the disk gives back something else than was written
 */
export async function readRecord<T extends object>(path: string): Promise<T | undefined> {
  const bytes = await readIfPresent(path);
  return bytes && (recordIn(bytes, path) as T); // a disk that changes a record seldom leaves it JSON
}

/** The record in these octets. @param path where they come from @throws Fault `internal` as above */
export function recordIn(bytes: Buffer, path: string): object {
  let record: unknown;
  try {
    record = JSON.parse(bytes.toString());
  } catch (cause) {
    throw damaged(path, cause);
  }
  if (typeof record !== "object" || record === null) throw damaged(path);
  return record;
}

/** Every record of a folder whose name has this ending. @param broken is told of one that cannot be read; without it, that throws */
export async function readRecords<T extends object>(folder: string, ending: string, broken?: (thrown: unknown) => void): Promise<T[]> {
  const read = async (name: string): Promise<T[]> => {
    try {
      const record = await readRecord<T>(join(folder, `${name}${ending}`));
      return record ? [record] : [];
    } catch (thrown) {
      if (!broken) throw thrown;
      broken(thrown);
      return [];
    }
  };
  return (await Promise.all((await namesIn(folder, ending)).map(read))).flat();
}

function damaged(path: string, cause?: unknown): Fault {
  return new Fault("internal", `${path} is damaged: bring it back from a backup, or move it away`, { cause });
}

/** Runs steps on one key one after the other; steps on other keys run beside them. */
export class Serial {
  readonly #last = new Map<string, Promise<unknown>>();

  run<T>(key: string, step: () => Promise<T>): Promise<T> {
    const mine = (this.#last.get(key) ?? Promise.resolve()).then(step, step);
    const settled = mine
      .catch(() => undefined)
      .then(() => {
        if (this.#last.get(key) === settled) this.#last.delete(key);
      });
    this.#last.set(key, settled);
    return mine;
  }
}
