/** The inbound journal: what was done with which session, so that a crash neither loses a letter nor files it twice. */
import { hash } from "node:crypto";
import { join } from "node:path";
import { Serial, claimFolder, readRecord, readRecords, removeDurably, writeDurably } from "./durable.ts";

/**
 * `recalling`: its sender recalled it, and a note of that goes into the mailbox. `recalled`: the note is there.
 * `begun`: a key may have been asked for. `filed`: the opened letter is in the mailbox. `confirmed`: and the broker knows. `failed`: left as it is.
 * `opened`: plain S/MIME, which has no ticket, and the opened mail is in the mailbox.
 */
export type Stage =
  | { readonly stage: "begun" }
  | { readonly stage: "filed"; readonly nextTicket: string; readonly receipt: string; readonly openingValue?: string }
  | { readonly stage: "confirmed"; readonly evidence: string }
  | { readonly stage: "opened" }
  | { readonly stage: "recalling"; /** Finds the note again. */ readonly marker: string }
  | { readonly stage: "recalled" }
  | {
      readonly stage: "failed";
      readonly fault: string;
      readonly reason: string;
      /** SHA-256 of the body that did not open, hex. */ readonly content?: string;
    };

export type JournalEntry = Stage & {
  /** SHA-256 of the ticket, hex; of the envelope where that has none. */
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
    return readRecord<JournalEntry>(this.#path(mailbox, session, SESSION));
  }

  async put(entry: JournalEntry): Promise<void> {
    await writeDurably(this.#path(entry.mailbox, entry.session, SESSION), [Buffer.from(JSON.stringify(entry))]);
  }

  /** All entries, oldest first. @param broken is told of one that cannot be read; without it, that throws */
  async all(broken?: (thrown: unknown) => void): Promise<JournalEntry[]> {
    const entries = await readRecords<JournalEntry>(this.#folder, SESSION, broken);
    return entries.sort((a, b) => a.at.localeCompare(b.at));
  }

  /** Forgets what was done with sessions before a time, ISO 8601: their letters cannot be opened again by anyone. */
  async forget(before: string): Promise<void> {
    for (const { mailbox, session, at, stage } of await this.all(() => undefined)) {
      if (at < before && ["confirmed", "failed", "opened", "recalled"].includes(stage))
        await removeDurably(this.#path(mailbox, session, SESSION));
    }
  }

  /** A position that cannot be read is none: everything is looked at anew, and sessions are known by their tickets. */
  async position(mailbox: string, folder: string): Promise<Position | undefined> {
    const kept = await readRecord<Partial<Position>>(this.#path(mailbox, folder, POSITION)).catch(() => undefined);
    return typeof kept?.uidValidity === "string" && Number.isSafeInteger(kept.uid) ? (kept as Position) : undefined;
  }

  async keepPosition(mailbox: string, folder: string, position: Position): Promise<void> {
    await writeDurably(this.#path(mailbox, folder, POSITION), [Buffer.from(JSON.stringify(position))]);
  }

  /** File names come from digests: nothing of a mail or a mailbox ever names a file. */
  #path(mailbox: string, name: string, ending: string): string {
    return join(this.#folder, `${hash("sha256", `${mailbox}\0${name}`)}${ending}`);
  }
}
