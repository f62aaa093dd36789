/** Keys that cannot print: the content key Kc of one letter for one recipient, lent for a moment and wiped (patent S2-S4, S7-S9). */
import { randomBytes } from "node:crypto";
import { Fault } from "./fault.ts";

const CONTENT_KEY_OCTETS = 32;

/** A one-time content key of 256 bits. Its octets are reachable only inside `lend`; every way of printing says [ContentKey]. */
export class ContentKey {
  #octets: Buffer | undefined;

  private constructor(octets: Buffer) {
    this.#octets = octets;
  }

  /** A fresh random key. */
  static generate(random: (size: number) => Buffer = randomBytes): ContentKey {
    return new ContentKey(random(CONTENT_KEY_OCTETS));
  }

  /** Takes over the octets; the caller's buffer is wiped with the key. @throws Fault `malformed`: not 32 octets. */
  static adopt(octets: Buffer): ContentKey {
    if (octets.length !== CONTENT_KEY_OCTETS) throw new Fault("malformed", "a content key has 32 octets");
    return new ContentKey(octets);
  }

  /** Lends the octets for the time of `use`; they must not be kept. @throws Fault `internal` after `wipe`. */
  lend<T>(use: (octets: Buffer) => T): T {
    if (!this.#octets) throw new Fault("internal", "the content key was wiped");
    return use(this.#octets);
  }

  /** Overwrites the key; it cannot be lent again. */
  wipe(): void {
    this.#octets?.fill(0);
    this.#octets = undefined;
  }

  toString(): string {
    return "[ContentKey]";
  }

  toJSON(): string {
    return "[ContentKey]";
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return "[ContentKey]";
  }
}
