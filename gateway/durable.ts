/** Files that survive a crash: written beside their place, synced, renamed, the folder synced. */
import { randomBytes } from "node:crypto";
import { mkdir, open, readFile, readdir, rename, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
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

/**
 * Replaces or makes a file; when it resolves, the whole content is on the disk under its name.
 * @param written runs before the name is given
 * @throws Fault `storage-full`: nothing of it stays; or the system's error
 */
export async function writeDurably(path: string, parts: readonly Buffer[], written?: () => void): Promise<void> {
  const unfinished = `${path}.${randomBytes(6).toString("hex")}${UNFINISHED}`;
  try {
    const file = await open(unfinished, "wx", 0o600);
    try {
      for (const part of parts) await file.writeFile(part);
      await file.sync();
    } finally {
      await file.close();
    }
    written?.();
    await rename(unfinished, path);
  } catch (thrown) {
    await unlink(unfinished).catch(() => undefined); // room for what is tried next
    throw storageFault(thrown);
  }
  await syncFolder(dirname(path));
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

/** Removes a file; a missing one is as good. */
export async function removeDurably(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (thrown) {
    if (codeOf(thrown) !== "ENOENT") throw thrown;
  }
  await syncFolder(dirname(path));
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** The file's bytes; undefined where it is missing. */
export async function readIfPresent(path: string): Promise<Buffer | undefined> {
  return unlessMissing(readFile(path));
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

function codeOf(thrown: unknown): unknown {
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
