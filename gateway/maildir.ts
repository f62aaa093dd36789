/** A Maildir as a mailbox (maildir(5), Maildir++): files are written to tmp and synced before they are seen, and nothing is rewritten in place. */
import { randomBytes } from "node:crypto";
import { watch, type FSWatcher } from "node:fs";
import { mkdir, open, readFile, readdir, stat, unlink, utimes } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import type { MaildirConfig } from "../config/schema-maildir.ts";
import { toCrlf } from "../mime/entity.ts";
import { Fault } from "../mime/fault.ts";
import { fieldsNamed, splitMessage, valueOf } from "../mime/headers.ts";
import { codeOf, removeDurably, renameDurably, unlessMissing } from "./durable.ts";
import type { Mailbox, Seen } from "./mailbox.ts";
import { structureOf, UNREADABLE } from "./structure.ts";

/** The letters behind `:2,` in a name, and what they mean. */
const FLAGS: Readonly<Record<string, string>> = { D: "\\Draft", F: "\\Flagged", R: "\\Answered", S: "\\Seen", T: "\\Deleted" };
/** A message larger than this is no letter of ours; nobody looks into it. */
const LARGEST_OCTETS = 512 << 20;
/** A file that is renamed more often than this while it is wanted has to wait. */
const MOST_NAMES = 5;

interface Marker {
  readonly name: string;
  readonly value: string;
}

export class Maildir implements Mailbox {
  /** Numbers hold for this life: in the next one everything is looked at anew, and letters are known by their tickets. */
  readonly uidValidity = randomBytes(8).readBigUInt64BE().toString();
  readonly #config: MaildirConfig;
  readonly #watchers: FSWatcher[] = [];
  /** By the key, and back to a name that the file had; of files that are there. */
  readonly #uids = new Map<string, number>();
  readonly #names = new Map<number, string>();
  #lastUid = 0;
  /** What is fetched is read anew each time. */
  readonly use = "spend";
  usable = true;
  canIdle = true;
  readonly mayHaveMissed = false;

  private constructor(config: MaildirConfig) {
    this.#config = config;
  }

  /** @param changed called whenever the folder may hold something new. @throws Fault `unavailable`: it is no Maildir, or not ours to read */
  static async open(config: MaildirConfig, changed: () => void): Promise<Maildir> {
    const mailbox = new Maildir(config);
    try {
      for (const name of [config.watch, config.opened, config.sealed]) if (name !== "remove") await mailbox.#make(name);
      for (const part of ["new", "cur"]) mailbox.#listen(join(mailbox.#folder(config.watch), part), changed);
      return mailbox;
    } catch (cause) {
      await mailbox.close();
      throw new Fault("unavailable", `the Maildir ${config.path} cannot be opened`, { cause });
    }
  }

  seenAbove(uid: number): Promise<Seen[]> {
    return this.#try("list messages", async () => {
      const found: Seen[] = [];
      const paths = await this.#files(this.#config.watch);
      const keys = new Set(paths.map(keyOf));
      for (const key of this.#uids.keys()) if (!keys.has(key)) this.#forget(key);
      for (const path of paths) {
        const number = this.#uidOf(path);
        if (number <= uid) continue;
        const seen = await this.#reach(this.#config.watch, path, (at) => unlessMissing(seenAt(at, number)));
        if (seen) found.push(seen);
        else this.#forget(keyOf(path)); // should it be there again, it is new: the place may have moved on past this number
      }
      return found.sort((a, b) => a.uid - b.uid);
    });
  }

  fetch(uid: number): Promise<Buffer | undefined> {
    return this.#try("fetch a message", async () => {
      const mail = await this.#reach(this.#config.watch, this.#names.get(uid), (path) => unlessMissing(readFile(path)));
      return mail && toCrlf(mail); // files have line ends of their own
    });
  }

  hasOpened(header: Marker): Promise<boolean> {
    return this.#try("search for an opened letter", async () => (await this.#marked(header)).length > 0);
  }

  keepOne(header: Marker): Promise<void> {
    return this.#try("look for a second copy", async () => {
      const [, ...surplus] = await this.#marked(header);
      for (const path of surplus) await this.#remove(this.#config.opened, path);
    });
  }

  append(letter: Buffer, { flags, internalDate }: Seen, demandTurn: () => void = () => undefined): Promise<void> {
    return this.#try("file an opened letter", async () => {
      const folder = this.#folder(this.#config.opened);
      const kept = Object.entries(FLAGS).filter(([letterOf, flag]) => letterOf !== "T" && flags.includes(flag));
      const name = uniqueName();
      const written = join(folder, "tmp", name);
      try {
        const file = await open(written, "wx", 0o600);
        try {
          await file.writeFile(Buffer.from(letter.toString("latin1").replaceAll("\r\n", "\n"), "latin1"));
          await file.sync();
        } finally {
          await file.close();
        }
        if (internalDate) await utimes(written, internalDate, internalDate);
        const target = kept.length > 0 ? join("cur", `${name}:2,${kept.map(([one]) => one).join("")}`) : join("new", name);
        demandTurn();
        await renameDurably(written, join(folder, target));
      } catch (thrown) {
        await unlink(written).catch(() => undefined); // it holds the text, and a full disk needs the room
        throw thrown;
      }
    });
  }

  /** A Maildir has no word for it; the journal knows, and the log. */
  async flagNotOpened(): Promise<void> {}

  retire(uid: number): Promise<void> {
    return this.#try("put the sealed original away", async () => {
      const { watch: watched, sealed } = this.#config;
      const path = this.#names.get(uid);
      if (sealed === "remove") return this.#remove(watched, path);
      const move = async (from: string): Promise<true> => {
        const name = from.slice(from.lastIndexOf("/") + 1);
        await renameDurably(from, join(this.#folder(sealed), "cur", name.includes(":2,") ? name : `${name}:2,`));
        return true;
      };
      await this.#reach(watched, path, (at) => unlessMissing(move(at)));
    });
  }

  async idle(): Promise<void> {}
  async noop(): Promise<void> {}

  async close(): Promise<void> {
    this.usable = false;
    for (const one of this.#watchers) one.close();
  }

  #folder(name: string): string {
    return name.toUpperCase() === "INBOX" ? this.#config.path : join(this.#config.path, `.${name}`);
  }

  /** The Maildir itself must be there: a wrong path is not to become a mailbox that nobody reads. */
  async #make(name: string): Promise<void> {
    const folder = this.#folder(name);
    if (folder === this.#config.path) await stat(join(folder, "cur"));
    for (const part of ["tmp", "new", "cur"]) await mkdir(join(folder, part), { recursive: true, mode: 0o700 });
  }

  #listen(folder: string, changed: () => void): void {
    try {
      const watcher = watch(folder, { persistent: false }, changed);
      watcher.on("error", () => (this.canIdle = false));
      this.#watchers.push(watcher);
    } catch {
      this.canIdle = false; // no notices here: it is asked
    }
  }

  /** Each file under one name. One that moves from new to cur meanwhile is seen in both, and never in neither. */
  async #files(name: string): Promise<string[]> {
    const found = new Map<string, string>();
    for (const part of ["new", "cur"]) {
      const folder = join(this.#folder(name), part);
      for (const file of await readdir(folder)) if (!file.startsWith(".")) found.set(keyOf(file), join(folder, file));
    }
    return [...found].sort(([a], [b]) => a.localeCompare(b)).map(([, path]) => path);
  }

  #uidOf(path: string): number {
    const key = keyOf(path);
    const uid = this.#uids.get(key) ?? ++this.#lastUid;
    this.#uids.set(key, uid);
    this.#names.set(uid, path);
    return uid;
  }

  #forget(key: string): void {
    const uid = this.#uids.get(key);
    this.#uids.delete(key);
    if (uid !== undefined) this.#names.delete(uid);
  }

  /**
   * Does something with a file under the name that it has now: readers rename it at any moment, from new to cur or with another flag.
   * @param path a name that it had; undefined where it never had one
   * @param step resolves to undefined where nothing has this name
   * @returns undefined where the file has gone
   */
  async #reach<T>(folder: string, path: string | undefined, step: (path: string) => Promise<T | undefined>): Promise<T | undefined> {
    const key = path && keyOf(path);
    let at = path;
    for (let names = 0; at !== undefined; names++) {
      if (names === MOST_NAMES) throw Object.assign(new Error(`${at} cannot be reached by its name`), { code: "ENOENT" });
      const done = await step(at);
      if (done !== undefined) return done;
      at = (await this.#files(folder)).find((one) => keyOf(one) === key);
    }
    return undefined;
  }

  async #marked({ name, value }: Marker): Promise<string[]> {
    const found: string[] = [];
    const { opened } = this.#config;
    for (const path of await this.#files(opened)) {
      const mail = await this.#reach(opened, path, (at) => unlessMissing(readFile(at)));
      if (mail && fieldsNamed(splitMessage(toCrlf(mail)).fields, name.toLowerCase()).some((item) => valueOf(item).trim() === value))
        found.push(path);
    }
    return found;
  }

  async #remove(folder: string, path: string | undefined): Promise<void> {
    await this.#reach(folder, path, async (at) => (await removeDurably(at)) || undefined);
  }

  async #try<T>(what: string, step: () => Promise<T>): Promise<T> {
    try {
      return await step();
    } catch (cause) {
      if (cause instanceof Fault) throw cause;
      const code = codeOf(cause);
      if (code === "ENOENT") this.usable = false; // somebody deleted a folder, which is made when the Maildir is opened again
      const isFull = code === "ENOSPC";
      throw new Fault("unavailable", `the Maildir ${this.#config.path} did not let us ${what}${isFull ? ": the disk is full" : ""}`, {
        cause,
      });
    }
  }
}

/** What stays the same of a name while readers change its flags. */
const keyOf = (path: string): string => path.slice(path.lastIndexOf("/") + 1).replace(/:2,.*$/u, "");

/** @throws what the file system says */
async function seenAt(path: string, uid: number): Promise<Seen> {
  const { size: octets, mtime: internalDate } = await stat(path);
  const described = octets > LARGEST_OCTETS ? UNREADABLE : await structureOf(path);
  return { uid, octets, flags: flagsIn(path), internalDate, ...described };
}

function flagsIn(path: string): string[] {
  const letters = /:2,([A-Za-z]*)$/u.exec(path)?.[1] ?? "";
  return [...letters].map((letter) => FLAGS[letter] ?? "").filter(Boolean);
}

let count = 0;

/** maildir(5): seconds, what is unique in this second, the host. */
function uniqueName(): string {
  const host = hostname().replaceAll("/", "\\057").replaceAll(":", "\\072");
  return `${Math.floor(Date.now() / 1_000)}.P${process.pid}Q${++count}R${randomBytes(6).toString("hex")}.${host}`;
}
