/** The inbound journal: what was done with which session, so that a crash neither loses a letter nor files it twice. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { Serial, claimFolder, namesIn, readIfPresent, removeDurably, writeDurably } from "./durable.ts";

/** `begun`: a key may have been asked for. `filed`: the opened letter is in the mailbox. `confirmed`: and the broker knows. `failed`: left as it is. */
export type Stage =
  | { readonly stage: "begun" }
  | { readonly stage: "filed"; readonly nextTicket: string; readonly receipt: string; readonly openingValue?: string }
  | { readonly stage: "confirmed"; readonly evidence: string }
  | { readonly stage: "failed"; readonly fault: string; readonly reason: string };

export type JournalEntry = Stage & {
  /** SHA-256 of the ticket, hex. */
  readonly session: string;
  /** Mailbox whose letter it is. */
  readonly mailbox: string;
  readonly messageId: string;
  /** ISO 8601. */
  readonly at: string;
};

/** How far a folder was looked through: every UID up to `uid` is settled. */
export interface Position {
  readonly uidValidity: string;
  readonly uid: number;
}

const SESSION = ".session";
const POSITION = ".position";

export class Journal {
  readonly #folder: string;
  readonly #serial = new Serial();

  constructor(folder: string) {
    this.#folder = folder;
  }

  async prepare(): Promise<void> {
    await claimFolder(this.#folder);
  }

  /** Runs a step with a session while no other step with it runs: a mail server can deliver two copies of one letter. */
  alone<T>(session: string, step: () => Promise<T>): Promise<T> {
    return this.#serial.run(session, step);
  }

  /** What one mailbox has done with a session; a letter may come to several mailboxes of a gateway, and only one of them is its recipient's. */
  async find(mailbox: string, session: string): Promise<JournalEntry | undefined> {
    const bytes = await readIfPresent(this.#path(mailbox, session, SESSION));
    return bytes && (JSON.parse(bytes.toString()) as JournalEntry);
  }

  async put(entry: JournalEntry): Promise<void> {
    await writeDurably(this.#path(entry.mailbox, entry.session, SESSION), [Buffer.from(JSON.stringify(entry))]);
  }

  /** All entries, oldest first. */
  async all(): Promise<JournalEntry[]> {
    const names = await namesIn(this.#folder, SESSION);
    const entries = await Promise.all(names.map((name) => readIfPresent(join(this.#folder, `${name}${SESSION}`))));
    return entries
      .flatMap((bytes) => (bytes ? [JSON.parse(bytes.toString()) as JournalEntry] : []))
      .sort((a, b) => a.at.localeCompare(b.at));
  }

  /** Forgets what was done with sessions before a time, ISO 8601: their letters cannot be opened again by anyone. */
  async forget(before: string): Promise<void> {
    for (const { mailbox, session, at, stage } of await this.all()) {
      if (at < before && (stage === "confirmed" || stage === "failed")) await removeDurably(this.#path(mailbox, session, SESSION));
    }
  }

  async position(mailbox: string, folder: string): Promise<Position | undefined> {
    const bytes = await readIfPresent(this.#path(mailbox, folder, POSITION));
    return bytes && (JSON.parse(bytes.toString()) as Position);
  }

  async keepPosition(mailbox: string, folder: string, position: Position): Promise<void> {
    await writeDurably(this.#path(mailbox, folder, POSITION), [Buffer.from(JSON.stringify(position))]);
  }

  /** File names come from digests: nothing of a mail or a mailbox ever names a file. */
  #path(mailbox: string, name: string, ending: string): string {
    return join(this.#folder, `${createHash("sha256").update(`${mailbox}\0${name}`).digest("hex")}${ending}`);
  }
}
