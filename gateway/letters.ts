/** What was sent and what came of it: one record a letter, and the receipts that came back, each with the signature that it speaks of. */
import { hash } from "node:crypto";
import { rename } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "../mime/fault.ts";
import { Serial, claimFolder, readRecord, readRecords, writeDurably, writeWhole } from "./durable.ts";
import type { Neighbours } from "./neighbours.ts";

export interface LetterRecipient {
  readonly address: string;
  /** SHA-256 of the ticket, hex. */
  readonly session: string;
  /** SHA-256 of the value that only who opened this recipient's copy knows, hex. */
  readonly commit: string;
  /** The key travels inside the letter: what becomes of its session says nothing of who can read it. */
  readonly isEnclosed?: true;
  /** The session ID sealed to the broker, base64: what a recall and a question show. Absent for plain S/MIME and in old records. */
  readonly ticket?: string;
  /** The signature that its receipt must speak of, DER as base64; beside the receipt it is a file. */
  readonly original?: string;
  /** `without-broker`: plain S/MIME, of which nothing more will be heard. `handed-over`: shown of what was accepted and waits no longer. `delayed` stays until one of the last three. */
  readonly state: "accepted" | "without-broker" | "handed-over" | "delayed" | "failed" | "opened" | "expired" | "recalled";
  /** When the state was reached, ISO 8601. */
  readonly at: string;
  readonly reason?: string;
  readonly evidence?: string;
}

export interface Letter {
  readonly messageId: string;
  readonly sender: string;
  readonly acceptedAt: string;
  readonly recipients: readonly LetterRecipient[];
}

const RECORD = ".json";

/** Message-IDs are the clients' own, so two senders may use one: a letter is named by both. */
type LetterName = Pick<Letter, "sender" | "messageId">;

const nameOf = ({ sender, messageId }: LetterName): string => `${sender}\0${messageId}`;

/** File names come from digests: nothing of a mail ever names a file. */
function fileOf(name: LetterName): string {
  return `${hash("sha256", nameOf(name))}${RECORD}`;
}

/** What the broker's signature says ended. */
const ENDED: readonly (LetterRecipient["state"] | undefined)[] = ["opened", "expired", "recalled"];

/** A receipt can overtake the next hop's answer; what was opened stays opened, and what ended ended. */
function mayBecome(before: LetterRecipient["state"], next: LetterRecipient["state"] | undefined): boolean {
  if (before === "opened" || (ENDED.includes(before) && next !== "opened")) return false;
  return before !== "delayed" || ENDED.includes(next);
}

const encoded = (letter: Letter): Buffer => Buffer.from(`${JSON.stringify(letter, null, 1)}\n`);

export class Letters {
  readonly #folder: string;
  readonly #neighbours: Pick<Neighbours, "isOurs" | "add" | "change"> | undefined;
  readonly #serial = new Serial();

  /** @param neighbours whose letters are theirs to change; absent where there is one process */
  constructor(folder: string, neighbours?: Pick<Neighbours, "isOurs" | "add" | "change">) {
    this.#folder = folder;
    this.#neighbours = neighbours;
  }

  async prepare(): Promise<void> {
    await claimFolder(this.#folder);
  }

  /**
   * Adds a letter. What is there already stays as it is: it may have gone further. It is not synced: what a loss of power takes is
   * restored from the spool, which holds it for a day.
   */
  add(letter: Letter): Promise<void> {
    const neighbours = this.#neighbours;
    return neighbours && !neighbours.isOurs(letter.sender) ? neighbours.add(letter) : this.#add(letter, writeWhole);
  }

  /** The same for good, after a loss of power. */
  restore(letter: Letter): Promise<void> {
    return this.#add(letter, (path, content) => writeDurably(path, [content]));
  }

  async #add(letter: Letter, write: (path: string, content: Buffer) => Promise<void>): Promise<void> {
    await this.#serial.run(nameOf(letter), async () => {
      const before = (await this.#intact(letter))?.recipients ?? [];
      const known = new Set(before.map(({ session }) => session));
      const added = letter.recipients.filter(({ session }) => !known.has(session));
      if (added.length > 0) await write(this.#pathOf(letter), encoded({ ...letter, recipients: [...before, ...added] }));
    });
  }

  /** A record that was not on the disk as a whole when the power went is none, and is laid aside. */
  async #intact(name: LetterName): Promise<Letter | undefined> {
    try {
      return await this.find(name);
    } catch (thrown) {
      if (!(thrown instanceof Fault)) throw thrown;
      await rename(this.#pathOf(name), `${this.#pathOf(name)}.damaged`);
      return undefined;
    }
  }

  /** Changes one recipient's state. @returns whether there is such a recipient */
  async change(name: LetterName, session: string, change: Omit<Partial<LetterRecipient>, "session">): Promise<boolean> {
    const neighbours = this.#neighbours;
    if (neighbours && !neighbours.isOurs(name.sender)) return neighbours.change(name, session, change);
    return this.#serial.run(nameOf(name), async () => {
      const letter = await this.find(name);
      if (!letter?.recipients.some((one) => one.session === session)) return false;
      const recipients = letter.recipients.map((one) =>
        one.session === session && mayBecome(one.state, change.state) ? { ...one, ...change } : one,
      );
      await this.#write({ ...letter, recipients });
      return true;
    });
  }

  /** Keeps a receipt or another report, and the signature that a receipt speaks of, DER. */
  async keepReceipt(evidence: string, mail: Buffer, about?: { readonly session: string; readonly original: Buffer }): Promise<void> {
    if (about) await writeDurably(join(this.#folder, `${about.session}.original.p7s`), [about.original]);
    await writeDurably(join(this.#folder, `${evidence}.receipt.eml`), [mail]);
  }

  async find(name: LetterName): Promise<Letter | undefined> {
    return readRecord<Letter>(this.#pathOf(name));
  }

  /** All letters, oldest first. */
  async all(): Promise<Letter[]> {
    const letters = await readRecords<Letter>(this.#folder, RECORD);
    return letters.sort((a, b) => a.acceptedAt.localeCompare(b.acceptedAt));
  }

  /** Where a receipt or a signature is kept, for a person to look at. */
  pathOf(name: string): string {
    return join(this.#folder, name);
  }

  async #write(letter: Letter): Promise<void> {
    await writeDurably(this.#pathOf(letter), [encoded(letter)]);
  }

  #pathOf(name: LetterName): string {
    return join(this.#folder, fileOf(name));
  }
}
