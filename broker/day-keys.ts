/**
 * The wrapping keys of Kc: one for each day, in files outside the session table, destroyed when no letter of that day waits any more.
 * From then on an old copy of the table opens no letter of that day, whatever keys its holder has (docs/protocol.md, section 6).
 */
import { createCipheriv, createDecipheriv, randomBytes, randomFillSync } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { haltAt } from "../config/halt.ts";
import { demandPrivate } from "../config/secrets.ts";
import { Fault } from "../mime/fault.ts";

const DAY_MS = 86_400_000;
/** A day is over for good this long after its end: until then a declaration of its last moment may still be on its way into the table. */
const MARGIN_MS = 60 * 60_000;

const KEY_OCTETS = 32;
const NONCE_OCTETS = 12;
const TAG_OCTETS = 16;
const ENDING = ".key";
/** A file under its first name, before it gets its own; one that is older than this is what a crash left. */
const UNFINISHED = /^\d+\.key\.[0-9a-f]{12}$/u;
const UNFINISHED_MS = 60_000;

/** The number of a time's day, UTC. @param time milliseconds since the epoch */
export function dayOf(time: number): number {
  return Math.floor(time / DAY_MS);
}

/** The keys under which the days' files are encrypted, 32 octets each. */
export interface Masters {
  /** New files are encrypted under the first one; the others were it before. */
  current(): readonly [Buffer, ...Buffer[]];
  /** Looks for a newer one, since a rotation may have come meanwhile. */
  reload(): void;
}

export class DayKeys {
  readonly #folder: string;
  readonly #masters: Masters;
  readonly #known = new Map<number, Buffer>();

  /**
   * @param folder shared by all brokers of one table
   * @throws Fault `malformed`: the folder or a file in it is open to group or others
   */
  constructor(folder: string, masters: Masters) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    this.#folder = folder;
    this.#masters = masters;
    for (const path of [folder, ...this.#days().map((day) => this.#path(day))]) demandPrivate(path);
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
    const key = this.#openedBy(day, file) ?? this.#openedAnew(day);
    if (key) this.#known.set(day, key);
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
    const gone = [...past.map((day) => this.#path(day)), ...this.#left()];
    for (const path of gone) {
      overwrite(path);
      removeIfPresent(path);
    }
    if (gone.length > 0) syncFolder(this.#folder);
    return past;
  }

  /**
   * Encrypts every file anew that is not under the current master key. One that another broker destroys at this very moment may come
   * back; the next `destroy`, of any broker, ends it.
   */
  reseal(): void {
    const [master] = this.#masters.current();
    for (const day of this.#days()) {
      const file = readIfPresent(this.#path(day));
      if (!file || decrypted(day, file, master)) continue;
      const key = this.#openedBy(day, file);
      if (!key) continue; // who asks for this day learns it
      const unfinished = this.#unfinished(day);
      synced(unfinished, "wx", (open) => writeSync(open, encrypted(day, key, master)));
      synced(this.#path(day), "r+", (former) => {
        renameSync(unfinished, this.#path(day));
        writeSync(former, noise()); // the octets under the former master key would stay on the disk
      });
      key.fill(0);
      haltAt("m4");
    }
    syncFolder(this.#folder);
  }

  /** A copy of a day's key that nobody would destroy with it. */
  #left(): string[] {
    const paths = readdirSync(this.#folder)
      .filter((name) => UNFINISHED.test(name))
      .map((name) => join(this.#folder, name));
    return paths.filter((path) => {
      const facts = statSync(path, { throwIfNoEntry: false }); // another broker may be at work on it
      return facts !== undefined && Date.now() - facts.mtimeMs > UNFINISHED_MS;
    });
  }

  #days(): number[] {
    const names = readdirSync(this.#folder).filter((name) => name.endsWith(ENDING));
    return names.map((name) => Number(name.slice(0, -ENDING.length))).filter(Number.isSafeInteger);
  }

  /** Several brokers may make it at once: the first file that gets the name is everybody's. */
  #make(day: number): Buffer {
    const key = randomBytes(KEY_OCTETS);
    const file = encrypted(day, key, this.#masters.current()[0]);
    key.fill(0);
    const unfinished = this.#unfinished(day);
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

  /** With what is there now: a rotation puts another file into the place of one that was opened, and overwrites that. */
  #openedAnew(day: number): Buffer | undefined {
    this.#masters.reload();
    const file = readIfPresent(this.#path(day));
    const key = file && this.#openedBy(day, file);
    if (file && !key) throw new Fault("internal", `${this.#path(day)} was altered, or belongs to another master key`);
    return key;
  }

  #openedBy(day: number, file: Buffer): Buffer | undefined {
    return this.#masters.current().reduce<Buffer | undefined>((key, master) => key ?? decrypted(day, file, master), undefined);
  }

  #unfinished(day: number): string {
    return `${this.#path(day)}.${randomBytes(6).toString("hex")}`;
  }

  #path(day: number): string {
    return join(this.#folder, `${day}${ENDING}`);
  }
}

const nameOf = (day: number): Buffer => Buffer.from(`kakitome day key ${day}`);

const noise = (): Buffer => randomFillSync(Buffer.alloc(NONCE_OCTETS + KEY_OCTETS + TAG_OCTETS));

function encrypted(day: number, key: Buffer, master: Buffer): Buffer {
  const nonce = randomBytes(NONCE_OCTETS);
  const cipher = createCipheriv("aes-256-gcm", master, nonce, { authTagLength: TAG_OCTETS }).setAAD(nameOf(day));
  return Buffer.concat([nonce, cipher.update(key), cipher.final(), cipher.getAuthTag()]);
}

/** Undefined where the file is not under this master key, or was altered. */
function decrypted(day: number, file: Buffer, master: Buffer): Buffer | undefined {
  try {
    const decipher = createDecipheriv("aes-256-gcm", master, file.subarray(0, NONCE_OCTETS), { authTagLength: TAG_OCTETS });
    decipher.setAAD(nameOf(day)).setAuthTag(file.subarray(-TAG_OCTETS));
    return Buffer.concat([decipher.update(file.subarray(NONCE_OCTETS, -TAG_OCTETS)), decipher.final()]);
  } catch {
    return undefined;
  }
}

function overwrite(path: string): void {
  try {
    synced(path, "r+", (open) => writeSync(open, noise()));
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
