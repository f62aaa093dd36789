/** What is to be seen of the letters from outside: mailboxes, spool, queue, records, the broker's rows, and secrets on disks. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { Redis } from "ioredis";
import { COMMAND } from "../walks/kakitome.ts";
import { ALICE } from "../walks/place.ts";
import { filesWith } from "./disk.ts";
import { RECIPIENTS, type CrashPlace } from "./place.ts";

/** An opened letter in a recipient's mailbox. */
export interface OpenedCopy {
  readonly recipient: string;
  readonly token: string;
  readonly messageId: string;
}

/** One recipient of a letter in the sender's register. */
export interface RegisterEntry {
  readonly messageId: string;
  readonly address: string;
  readonly session: string;
  readonly state: string;
  readonly evidence?: string;
}

/** A row of the broker's table. */
export interface Row {
  /** Hash of the session ID: its name in the table. */
  readonly name: string;
  /** Hash of the ticket: its name everywhere else. */
  readonly session: string;
  readonly state: string;
  readonly messageId: string;
  readonly recipient: string;
  readonly evidence: string;
  readonly holdsKey: boolean;
}

export interface Facts {
  readonly opened: readonly OpenedCopy[];
  /** Sealed letters that lie in the recipients' mailboxes. */
  readonly sealed: number;
  /** Texts of failure notices in the sender's mailbox. */
  readonly notices: readonly string[];
  readonly register: readonly RegisterEntry[];
  readonly rows: readonly Row[];
  /** Receipts that the broker has not mailed yet. */
  readonly unsent: number;
  /** Evidence whose receipt is not the same bytes at the broker and at the sender. */
  readonly unequal: readonly string[];
  /** Files in the sender's spool, but for the marks of what is finished. */
  readonly spooled: readonly string[];
  /** Mails in the queue of the mail server between the gateways. */
  readonly queued: number;
}

interface Stored {
  readonly owner: string;
  readonly kind: "opened" | "sealed" | "notice" | "other";
  readonly token: string;
  readonly messageId: string;
  readonly text: string;
}

const PREFIX = "kakitome:";
const BUCKETS = Array.from({ length: 256 }, (_none, byte) => byte.toString(16).padStart(2, "0"));

/** Missing folders and files are empty: servers make and move them meanwhile. */
function quiet<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}
const namesIn = (folder: string): string[] => quiet(() => readdirSync(folder), []);

/** Looks from outside; a mail that was read once is not read again. */
export class Observer {
  readonly #place: CrashPlace;
  readonly #redis: Redis;
  /** What was seen once and cannot change any more. */
  readonly #read = new Map<string, Stored>();
  readonly #confirmed = new Map<string, Row>();
  readonly #equal = new Set<string>();

  constructor(place: CrashPlace) {
    this.#place = place;
    this.#redis = new Redis(place.redis.url, { retryStrategy: () => 100 });
    this.#redis.on("error", () => undefined); // Redis is killed now and then
  }

  close(): void {
    this.#redis.disconnect();
  }

  /** Everything about one mail; with `undefined` about all. @param told what `kakitome status` told, where that is to count */
  async facts(messageId?: string, told?: readonly RegisterEntry[]): Promise<Facts> {
    const register = told ?? (messageId === undefined ? this.#wholeRegister() : this.register(messageId));
    const rows = (await this.#rows()).filter((row) => messageId === undefined || row.messageId === messageId);
    const [unsent, unequal] = [await this.#unsent(), await this.#unequal(register, rows)];
    const stored = this.#stored();
    const ours = stored.filter((mail) => messageId === undefined || mail.messageId === messageId);
    return {
      opened: ours.filter(({ kind }) => kind === "opened").map(({ owner, token, messageId }) => ({ recipient: owner, token, messageId })),
      sealed: stored.filter(({ kind }) => kind === "sealed").length,
      notices: stored.filter(({ kind, owner }) => kind === "notice" && owner === ALICE).map(({ text }) => text),
      register,
      rows,
      unsent,
      unequal,
      spooled: namesIn(join(this.#place.a.data, "spool")).filter((name) => !name.endsWith(".done")),
      queued: this.#queued(),
    };
  }

  /** The sender's record of one mail. */
  register(messageId: string): RegisterEntry[] {
    const name = `${createHash("sha256").update(`${ALICE}\0${messageId}`).digest("hex")}.json`;
    const path = join(this.#place.a.data, "letters", name);
    return quiet(() => entriesOf(JSON.parse(readFileSync(path, "utf8")) as Letter), []); // a loss of power can leave a part of it, for a while
  }

  /** Files outside the mailboxes that hold this text, plain or in base64. */
  filesWith(secret: string): string[] {
    return filesWith([this.#place.folder, this.#place.redis.folder, this.#place.postfix.folder], secret);
  }

  /** All records, as `kakitome status` tells them. */
  async status(): Promise<RegisterEntry[]> {
    const args = [COMMAND, "status", "--json", "--config", this.#place.a.config];
    const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 2 ** 30 });
    return (JSON.parse(stdout) as { sent: Letter[] }).sent.flatMap(entriesOf);
  }

  #wholeRegister(): RegisterEntry[] {
    const folder = join(this.#place.a.data, "letters");
    const names = namesIn(folder).filter((name) => name.endsWith(".json"));
    return names.flatMap((name) => entriesOf(JSON.parse(readFileSync(join(folder, name), "utf8")) as Letter));
  }

  #stored(): Stored[] {
    const now: Stored[] = [];
    for (const owner of [ALICE, ...RECIPIENTS]) {
      const names = new Map<string, string>(); // a mail moves from new to cur
      for (const folder of ["new", "cur"]) {
        const path = join(this.#place.dovecot.maildir(owner), folder);
        for (const name of namesIn(path)) names.set(`${owner}/${name.split(":")[0]}`, join(path, name));
      }
      for (const [key, path] of names) {
        const stored = this.#read.get(key) ?? quiet(() => storedOf(owner, readFileSync(path, "latin1")), undefined);
        if (!stored) continue;
        this.#read.set(key, stored);
        now.push(stored);
      }
    }
    return now;
  }

  #queued(): number {
    const queue = (name: string): string[] => namesIn(join(this.#place.postfix.folder, "spool", name));
    const deferred = queue("deferred").flatMap((name) => queue(join("deferred", name)));
    return ["maildrop", "incoming", "active"].flatMap(queue).length + deferred.length;
  }

  async #unsent(): Promise<number> {
    const asked = this.#redis.pipeline();
    for (const bucket of BUCKETS) asked.hlen(`${PREFIX}out:{b${bucket}}`);
    const answers = await asked.exec();
    return (answers ?? []).reduce((sum, [, length]) => sum + Number(length), 0);
  }

  async #unequal(register: readonly RegisterEntry[], rows: readonly Row[]): Promise<string[]> {
    const unequal: string[] = [];
    const names = new Map(rows.map(({ session, name }) => [session, name]));
    for (const { session, evidence } of register) {
      if (evidence === undefined || this.#equal.has(evidence)) continue;
      const name = names.get(session) ?? "";
      const atBroker = await this.#redis.getBuffer(`${PREFIX}receipt:{b${name.slice(0, 2)}}:${evidence}`);
      const atSender = quiet(() => readFileSync(join(this.#place.a.data, "letters", `${evidence}.receipt.eml`)), undefined);
      if (atBroker && atSender && sameMail(atBroker, atSender)) this.#equal.add(evidence);
      else unequal.push(evidence);
    }
    return unequal;
  }

  async #rows(): Promise<Row[]> {
    const names = new Set<string>();
    const scan = this.#redis.scanStream({ match: `${PREFIX}row:*`, count: 1_000 }) as AsyncIterable<string[]>;
    for await (const keys of scan) for (const key of keys) names.add(key.slice(key.lastIndexOf(":") + 1));
    const unknown = [...names].filter((name) => !this.#confirmed.has(name));
    const asked = this.#redis.pipeline();
    for (const name of unknown) asked.hgetall(`${PREFIX}row:{b${name.slice(0, 2)}}:${name}`);
    const answers = (await asked.exec()) ?? [];
    const rows = answers.map(([, answer], at) => rowOf(unknown[at] ?? "", answer as Readonly<Record<string, string>>));
    for (const row of rows) if (row.state === "confirmed") this.#confirmed.set(row.name, row);
    const known = [...this.#confirmed.values()].filter(({ name }) => names.has(name));
    return [...known, ...rows.filter(({ state }) => state !== "confirmed")];
  }
}

function rowOf(name: string, fields: Readonly<Record<string, string>>): Row {
  const { ticketHash = "", state = "none", messageId = "", recipient = "", evidence = "" } = fields;
  return { name, session: ticketHash, state, messageId, recipient, evidence, holdsKey: "wrappedKey" in fields };
}

interface Letter {
  readonly messageId: string;
  readonly recipients: readonly Omit<RegisterEntry, "messageId">[];
}

function entriesOf({ messageId, recipients }: Letter): RegisterEntry[] {
  return recipients.map((one) => ({ ...one, messageId }));
}

function storedOf(owner: string, text: string): Stored {
  const header = text.slice(0, text.search(/\r?\n\r?\n/u));
  const kind = header.includes("Kakitome-Session: ")
    ? "opened"
    : text.includes("registered.p7m")
      ? "sealed"
      : text.includes("Action: failed")
        ? "notice"
        : "other";
  const token = /The text of the letter: (\S+)/u.exec(text)?.[1] ?? "";
  const messageId = /^Message-ID:\s*(\S+)/imu.exec(header)?.[1] ?? "";
  return { owner, kind, token, messageId, text: kind === "notice" ? text : "" };
}

/** Delivery puts trace fields above a mail and may choose its own line ends. */
function sameMail(sent: Buffer, kept: Buffer): boolean {
  const plain = (mail: Buffer): string => mail.toString("latin1").replaceAll("\r\n", "\n").trimEnd();
  return plain(kept).endsWith(plain(sent));
}
