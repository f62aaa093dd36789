/** The spool: sealed copies that were accepted and are on their way (S5). One file a submission, synced before the 250; never a key, never a text. */
import { join } from "node:path";
import { Serial, claimFolder, namesIn, readIfPresent, removeDurably, writeDurably } from "./durable.ts";
import { haltAt } from "../config/halt.ts";
import { Fault } from "../mime/fault.ts";

/** One recipient's copy. */
export interface Consignment {
  /** Address as written in RCPT TO. */
  readonly recipient: string;
  /** Base64; absent for a notice of our own, which has no session at the broker. */
  readonly ticket?: string;
  readonly notify: readonly string[];
  readonly originalRecipient?: string;
  /** Octets of the message behind the first line, from and to. */
  readonly from: number;
  readonly to: number;
}

/** What stands in the first line of a spool file. */
export interface Entry {
  readonly id: string;
  /** Reverse-path; empty for notices. */
  readonly sender: string;
  readonly messageId: string;
  /** ISO 8601. */
  readonly acceptedAt: string;
  readonly envelopeId?: string;
  readonly returns?: "FULL" | "HDRS";
  readonly consignments: readonly Consignment[];
}

/** `relayed`: the next hop took it. `reported`: and the broker knows. `failed`: given up, the sender was told. */
type Progress = "waiting" | "relayed" | "reported" | "failed";

export interface Spooled {
  readonly entry: Entry;
  readonly progress: Progress[];
}

const LETTER = ".letter";
const STATE = ".state";

export class Spool {
  readonly #folder: string;
  readonly #serial = new Serial();

  constructor(folder: string) {
    this.#folder = folder;
  }

  async prepare(): Promise<void> {
    await claimFolder(this.#folder);
  }

  /** Writes a submission; when it resolves the submission survives a crash. @param copies messages in the order of their recipients */
  async put(
    entry: Omit<Entry, "consignments">,
    copies: readonly (Omit<Consignment, "from" | "to"> & { readonly message: Buffer })[],
  ): Promise<Spooled> {
    let at = 0;
    const consignments = copies.map(({ message, ...rest }) => ({ ...rest, from: at, to: (at += message.length) }));
    const whole: Entry = { ...entry, consignments };
    const bytes = [Buffer.from(`${JSON.stringify(whole)}\n`), ...copies.map(({ message }) => message)];
    await writeDurably(this.#path(entry.id, LETTER), bytes, () => haltAt("a6"));
    return { entry: whole, progress: consignments.map(() => "waiting") };
  }

  /** Everything that is not finished. */
  async all(): Promise<Spooled[]> {
    const ids = await namesIn(this.#folder, LETTER);
    const found: Spooled[] = [];
    for (const id of ids) {
      const { entry } = await this.#read(id);
      const state = await readIfPresent(this.#path(id, STATE));
      found.push({ entry, progress: state ? (JSON.parse(state.toString()) as Progress[]) : entry.consignments.map(() => "waiting") });
    }
    return found.sort((a, b) => a.entry.acceptedAt.localeCompare(b.entry.acceptedAt));
  }

  async message(id: string, { from, to }: Consignment): Promise<Buffer> {
    const { body } = await this.#read(id);
    return body.subarray(from, to);
  }

  /** Keeps how far the copies are. */
  keep({ entry, progress }: Spooled): Promise<void> {
    return this.#serial.run(entry.id, () => writeDurably(this.#path(entry.id, STATE), [Buffer.from(JSON.stringify(progress))]));
  }

  async remove(id: string): Promise<void> {
    await removeDurably(this.#path(id, LETTER));
    await removeDurably(this.#path(id, STATE));
  }

  async #read(id: string): Promise<{ entry: Entry; body: Buffer }> {
    const bytes = await readIfPresent(this.#path(id, LETTER));
    const end = bytes?.indexOf("\n") ?? -1;
    if (!bytes || end < 0) throw new Fault("internal", `spool entry ${id} cannot be read`);
    return { entry: JSON.parse(bytes.subarray(0, end).toString()) as Entry, body: bytes.subarray(end + 1) };
  }

  #path(id: string, ending: string): string {
    return join(this.#folder, `${id}${ending}`);
  }
}
