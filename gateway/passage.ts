/** A mail on its way through us, as the inbound walk sees a letterbox: to file is to hand on, and the original is in the queue of whoever brought it. */
import { fieldsNamed, splitMessage, valueOf } from "../mime/headers.ts";
import type { Letterbox, Seen } from "./mailbox.ts";
import { MARKER_FIELD } from "./opening.ts";
import { Recent } from "./recent.ts";

/** Marks that are remembered; a letter whose mark is forgotten after a failure may come twice. */
const MOST_MARKS = 10_000;

/** What this process has handed on, by its mark: where the journal could not be written afterwards, it is not handed on again. A crash forgets it. */
export class HandedOn {
  readonly #marks = new Recent<true>(MOST_MARKS);

  has(mailbox: string, mark: string): boolean {
    return this.#marks.get(`${mailbox}\0${mark}`) ?? false;
  }

  add(mailbox: string, mark: string): void {
    this.#marks.set(`${mailbox}\0${mark}`, true);
  }
}

export interface Passing {
  /** Whose it is. */
  readonly mailbox: string;
  readonly mail: Buffer;
  readonly handedOn: HandedOn;
  /** The transaction with the delivery server. @throws what `Delivery.deliver` throws */
  handOn(letter: Buffer): Promise<void>;
}

export class Passage implements Letterbox {
  /** What cannot be opened goes on as it came. */
  readonly use = "keep";
  readonly #passing: Passing;

  constructor(passing: Passing) {
    this.#passing = passing;
  }

  async fetch(): Promise<Buffer> {
    return this.#passing.mail;
  }

  async hasOpened({ value }: { name: string; value: string }): Promise<boolean> {
    return this.#passing.handedOn.has(this.#passing.mailbox, value);
  }

  async append(letter: Buffer, _seen: Seen, demandTurn: () => void = () => undefined): Promise<void> {
    demandTurn();
    const { mailbox, handedOn, handOn } = this.#passing;
    await handOn(letter);
    for (const mark of fieldsNamed(splitMessage(letter).fields, MARKER_FIELD.toLowerCase())) handedOn.add(mailbox, valueOf(mark));
  }

  /** Nobody can look into the reader's mailbox. */
  async keepOne(): Promise<void> {}

  /** The journal knows, and the log. */
  async flagNotOpened(): Promise<void> {}

  /** The 250 takes it out of the queue. */
  async retire(): Promise<void> {}
}
