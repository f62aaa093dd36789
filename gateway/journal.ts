/** The inbound journal: what was done with which session, so that a crash neither loses a letter nor files it twice. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { claimFolder, namesIn, readIfPresent, writeDurably } from "./durable.ts";

/** `begun`: a key may have been asked for. `filed`: the opened letter is in the mailbox. `confirmed`: and the broker knows. `failed`: left as it is. */
export type Stage =
  | { readonly stage: "begun" }
  | { readonly stage: "filed"; readonly nextTicket: string; readonly receipt: string; readonly openingValue?: string }
  | { readonly stage: "confirmed"; readonly evidence: string }
  | { readonly stage: "failed"; readonly fault: string; readonly reason: string };

export type JournalEntry = Stage & {
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

  constructor(folder: string) {
    this.#folder = folder;
  }

  async prepare(): Promise<void> {
    await claimFolder(this.#folder);
  }

  /** @param session SHA-256 of the ticket, hex */
  async find(session: string): Promise<JournalEntry | undefined> {
    const bytes = await readIfPresent(join(this.#folder, `${session}${SESSION}`));
    return bytes && (JSON.parse(bytes.toString()) as JournalEntry);
  }

  async put(session: string, entry: JournalEntry): Promise<void> {
    await writeDurably(join(this.#folder, `${session}${SESSION}`), [Buffer.from(JSON.stringify(entry))]);
  }

  async all(): Promise<(JournalEntry & { session: string })[]> {
    const sessions = await namesIn(this.#folder, SESSION);
    const entries = await Promise.all(sessions.map(async (session) => ({ session, entry: await this.find(session) })));
    return entries.flatMap(({ session, entry }) => (entry ? [{ ...entry, session }] : [])).sort((a, b) => a.at.localeCompare(b.at));
  }

  async position(mailbox: string, folder: string): Promise<Position | undefined> {
    const bytes = await readIfPresent(this.#positionPath(mailbox, folder));
    return bytes && (JSON.parse(bytes.toString()) as Position);
  }

  async keepPosition(mailbox: string, folder: string, position: Position): Promise<void> {
    await writeDurably(this.#positionPath(mailbox, folder), [Buffer.from(JSON.stringify(position))]);
  }

  #positionPath(mailbox: string, folder: string): string {
    return join(this.#folder, `${createHash("sha256").update(`${mailbox}\0${folder}`).digest("hex")}${POSITION}`);
  }
}
