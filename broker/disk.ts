/** Files of the broker's that survive a power cut as a whole, and keys of which nothing stays. */
import { randomBytes, randomFillSync } from "node:crypto";
import { closeSync, fsyncSync, fstatSync, openSync, renameSync, unlinkSync, writeFileSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";

/** What others may read, and what only the owner may. */
export const OPEN = 0o644;
export const SECRET = 0o600;

/** Makes or replaces a file; at every moment its name leads to the whole of the former content or of this one. */
export function put(path: string, text: string, mode: number): void {
  const unfinished = join(dirname(path), `unfinished-${randomBytes(6).toString("hex")}`); // a name that nobody looks for
  writeFileSync(unfinished, text, { mode, flag: "wx", flush: true });
  move(unfinished, path);
}

/** Renames a file; afterwards it has the new name for good. */
export function move(from: string, to: string): void {
  renameSync(from, to);
  syncFolder(dirname(to));
}

/** Removes a file. */
export function remove(path: string): void {
  unlinkSync(path);
  syncFolder(dirname(path));
}

/** Overwrites a key's octets, which would otherwise stay on the disk, and removes its file. */
export function destroy(path: string): void {
  synced(path, "r+", (open) => void writeSync(open, randomFillSync(Buffer.alloc(fstatSync(open).size))));
  remove(path);
}

function syncFolder(path: string): void {
  synced(path, "r", () => undefined);
}

function synced(path: string, flags: string, work: (open: number) => void): void {
  const open = openSync(path, flags);
  try {
    work(open);
    fsyncSync(open);
  } finally {
    closeSync(open);
  }
}
