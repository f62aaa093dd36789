/**
 * The wrapping keys of Kc: one for each day, in files outside the session table, destroyed when no letter of that day waits any more.
 * From then on an old copy of the table opens no letter of that day, whatever keys its holder has (docs/protocol.md, section 6).
 */
import { createCipheriv, createDecipheriv, randomBytes, randomFillSync } from "node:crypto";
import { closeSync, fsyncSync, linkSync, mkdirSync, openSync, readFileSync, readdirSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";
import { Fault } from "../mime/fault.ts";

const DAY_MS = 86_400_000;
/** A day is over for good this long after its end: until then a declaration of its last moment may still be on its way into the table. */
const MARGIN_MS = 60 * 60_000;

const KEY_OCTETS = 32;
const NONCE_OCTETS = 12;
const TAG_OCTETS = 16;
const ENDING = ".key";

/** The number of a time's day, UTC. @param time milliseconds since the epoch */
export function dayOf(time: number): number {
  return Math.floor(time / DAY_MS);
}

export class DayKeys {
  readonly #folder: string;
  readonly #master: Buffer;
  readonly #known = new Map<number, Buffer>();

  /** @param folder shared by all brokers of one table @param master 32 octets, under which the files are encrypted */
  constructor(folder: string, master: Buffer) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    this.#folder = folder;
    this.#master = master;
  }

  /** The key of a day; made when it is asked for the first time. @throws Fault `internal`: its file cannot be read or written */
  make(day: number): Buffer {
    return this.find(day) ?? this.#make(day);
  }

  /** The key of a day; undefined where it was destroyed or never made. @throws Fault `internal`: its file cannot be read */
  find(day: number): Buffer | undefined {
    const known = this.#known.get(day);
    if (known) return known;
    const file = readIfPresent(this.#path(day));
    if (!file) return undefined;
    const key = this.#opened(day, file);
    this.#known.set(day, key);
    return key;
  }

  /** Destroys the keys of past days on which no letter waits any more. @param used days that are still needed @returns the days */
  destroy(used: ReadonlySet<number>, now: number): number[] {
    const isPast = (day: number): boolean => day < dayOf(now - MARGIN_MS) && !used.has(day);
    for (const [day, key] of this.#known) {
      if (!isPast(day)) continue; // its file may be gone already, by another broker
      key.fill(0);
      this.#known.delete(day);
    }
    const past = this.#days().filter(isPast);
    for (const day of past) {
      overwrite(this.#path(day));
      removeIfPresent(this.#path(day));
    }
    if (past.length > 0) syncFolder(this.#folder);
    return past;
  }

  #days(): number[] {
    const names = readdirSync(this.#folder).filter((name) => name.endsWith(ENDING));
    return names.map((name) => Number(name.slice(0, -ENDING.length))).filter(Number.isSafeInteger);
  }

  /** Several brokers may make it at once: the first file that gets the name is everybody's. */
  #make(day: number): Buffer {
    const nonce = randomBytes(NONCE_OCTETS);
    const cipher = createCipheriv("aes-256-gcm", this.#master, nonce, { authTagLength: TAG_OCTETS }).setAAD(nameOf(day));
    const key = randomBytes(KEY_OCTETS);
    const file = Buffer.concat([nonce, cipher.update(key), cipher.final(), cipher.getAuthTag()]);
    key.fill(0);
    const unfinished = `${this.#path(day)}.${randomBytes(6).toString("hex")}`;
    try {
      synced(unfinished, "wx", (open) => writeSync(open, file));
      linkSync(unfinished, this.#path(day));
    } catch (cause) {
      if (codeOf(cause) !== "EEXIST") throw new Fault("internal", `the wrapping key of day ${day} cannot be written`, { cause });
    } finally {
      removeIfPresent(unfinished);
    }
    syncFolder(this.#folder);
    const made = this.find(day);
    if (!made) throw new Fault("internal", `the wrapping key of day ${day} has gone`);
    return made;
  }

  #opened(day: number, file: Buffer): Buffer {
    try {
      const decipher = createDecipheriv("aes-256-gcm", this.#master, file.subarray(0, NONCE_OCTETS), { authTagLength: TAG_OCTETS });
      decipher.setAAD(nameOf(day)).setAuthTag(file.subarray(-TAG_OCTETS));
      return Buffer.concat([decipher.update(file.subarray(NONCE_OCTETS, -TAG_OCTETS)), decipher.final()]);
    } catch (cause) {
      throw new Fault("internal", `${this.#path(day)} was altered, or belongs to another master key`, { cause });
    }
  }

  #path(day: number): string {
    return join(this.#folder, `${day}${ENDING}`);
  }
}

const nameOf = (day: number): Buffer => Buffer.from(`kakitome day key ${day}`);

function overwrite(path: string): void {
  try {
    synced(path, "r+", (open) => writeSync(open, randomFillSync(Buffer.alloc(NONCE_OCTETS + KEY_OCTETS + TAG_OCTETS))));
  } catch (cause) {
    if (codeOf(cause) !== "ENOENT") throw cause; // another broker was first
  }
}

function synced(path: string, flags: string, work: (open: number) => void): void {
  const open = openSync(path, flags, 0o600);
  try {
    work(open);
    fsyncSync(open);
  } finally {
    closeSync(open);
  }
}

const syncFolder = (folder: string): void => synced(folder, "r", () => undefined);

function readIfPresent(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (cause) {
    if (codeOf(cause) === "ENOENT") return undefined;
    throw new Fault("internal", `${path} cannot be read`, { cause });
  }
}

function removeIfPresent(path: string): void {
  try {
    unlinkSync(path);
  } catch (cause) {
    if (codeOf(cause) !== "ENOENT") throw cause;
  }
}

function codeOf(thrown: unknown): unknown {
  return typeof thrown === "object" && thrown !== null && "code" in thrown ? thrown.code : undefined;
}
