/** What a disk may hold after the power failed, out of what a process did to it (recorder.ts): only what was synced is sure to be there. */
import { chmodSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Chance } from "../fuzz/mutate.ts";
import { RECORD, type Done } from "./recorder.ts";

/**
 * `unsynced`: everything that was not synced is gone, names and contents. `contents`: the names are there, what was not synced in the
 * files is not (as with a file system that writes names first). A number: of each folder's changes the first so many, of each file what
 * was synced or the beginning of what was written, as this seed has it.
 */
export type Loss = "unsynced" | "contents" | number;

interface Inode {
  /** What is on the disk for sure; undefined before the first sync. */
  synced: Buffer | undefined;
  /** When it was written last, counted as in the record. */
  written: number;
  syncedBefore: number;
}

interface Change {
  readonly at: number;
  readonly make: (names: Map<string, Inode>) => void;
}

/** One folder with everything below it. */
export class Disk {
  readonly #root: string;
  /** By their numbers, the newest that has it. */
  readonly #inodes = new Map<number, Inode>();
  /** As the process sees them, and as they are on the disk for sure. */
  readonly #names = new Map<string, Inode>();
  readonly #synced: Map<string, Inode>;
  /** Of each folder, not synced yet. */
  readonly #changes = new Map<string, Change[]>();

  /** Takes what is there for synced: nothing runs on it yet. */
  constructor(root: string) {
    this.#root = root;
    for (const [path, inode] of filesBelow(root)) {
      const file = { synced: readFileSync(path), written: 0, syncedBefore: 0 };
      this.#inodes.set(inode, file);
      this.#names.set(path, file);
    }
    this.#synced = new Map(this.#names);
  }

  /** Takes in what was done. @param folder the recorder's */
  read(folder: string): void {
    const lines = readFileSync(join(folder, RECORD), "utf8").split("\n");
    for (const line of lines.slice(0, -1)) this.#take(JSON.parse(line) as Done, folder);
  }

  #take(done: Done, folder: string): void {
    const { at } = done;
    if (done.did === "make") {
      const made: Inode = { synced: undefined, written: at, syncedBefore: 0 };
      this.#inodes.set(done.inode, made);
      this.#change(at, done.path, (names) => void names.set(done.path, made));
    } else if (done.did === "write") {
      const inode = this.#inodes.get(done.inode);
      if (inode) inode.written = at;
    } else if (done.did === "sync") {
      const inode = this.#inodes.get(done.inode);
      if (inode) Object.assign(inode, { synced: readFileSync(join(folder, done.content)), syncedBefore: done.before });
    } else if (done.did === "sync-names") {
      const changes = this.#changes.get(done.path) ?? [];
      for (const { at: when, make } of changes) if (when <= done.before) make(this.#synced);
      this.#changes.set(
        done.path,
        changes.filter(({ at: when }) => when > done.before),
      );
    } else if (done.did === "remove") {
      this.#change(at, done.path, (names) => void names.delete(done.path));
    } else if (done.did === "rename" || done.did === "link") {
      const inode = this.#names.get(done.path);
      if (!inode) return;
      if (dirname(done.path) !== dirname(done.to)) throw new Error("a file that changes its folder");
      this.#change(at, done.path, (names) => {
        if (done.did === "rename") names.delete(done.path);
        names.set(done.to, inode);
      });
    }
  }

  #change(at: number, path: string, make: Change["make"]): void {
    make(this.#names);
    const folder = dirname(path);
    this.#changes.set(folder, [...(this.#changes.get(folder) ?? []), { at, make }]);
  }

  /** Leaves in the folder what the loss leaves of it. Nothing may run on it. */
  lose(loss: Loss): void {
    const chance = new Chance(typeof loss === "number" ? loss : 0);
    const live = new Map(filesBelow(this.#root).map(([path, inode]) => [this.#inodes.get(inode), readFileSync(path)]));
    const names = new Map(this.#synced);
    for (const changes of this.#changes.values()) {
      const kept = typeof loss === "number" ? chance.below(changes.length + 1) : loss === "contents" ? changes.length : 0;
      for (const { make } of changes.slice(0, kept)) make(names);
    }
    const content = (inode: Inode): Buffer => {
      const synced = inode.synced ?? Buffer.alloc(0);
      const written = live.get(inode);
      if (inode.written <= inode.syncedBefore || !written || typeof loss !== "number" || chance.below(2) === 0) return synced;
      const sure = sameOctets(synced, written); // what is cut off behind them loses none of them
      return written.subarray(0, sure + chance.below(written.length - sure + 1));
    };
    const left = [...names].map(([path, inode]) => [path, content(inode)] as const);
    for (const [path] of filesBelow(this.#root)) rmSync(path);
    for (const [path, octets] of left) {
      if (!existsSync(dirname(path))) mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      writeFileSync(path, octets, { mode: 0o600 });
      chmodSync(path, 0o600);
    }
  }
}

/** How many octets both begin with. */
function sameOctets(one: Buffer, other: Buffer): number {
  const shorter = Math.min(one.length, other.length);
  for (let at = 0; at < shorter; at++) if (one[at] !== other[at]) return at;
  return shorter;
}

/** Every regular file, with the number of its inode. */
function filesBelow(folder: string): (readonly [path: string, inode: number])[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => [path, statSync(path).ino] as const);
}
