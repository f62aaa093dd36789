/** Letters whose key another gateway of the mailbox has. Who cannot open one does not hold it: a presentation renews its claim at the broker. */
import type { Identity } from "../broker/client.ts";
import { Recent } from "./recent.ts";

/** A letter that is forgotten is presented once too early. */
const MOST_LETTERS = 10_000;

export class Elsewhere {
  /** By `performance.now()`. */
  readonly #until = new Recent<number>(MOST_LETTERS);

  /**
   * Remembers a letter that none of these keys opens.
   * @param session SHA-256 of its ticket, hex @param claimedFor how long no other gateway gets its key, in milliseconds from now at most
   */
  add(session: string, openers: Identity["openers"], claimedFor: number): void {
    const ending = performance.now() + claimedFor;
    this.#until.set(nameOf(session, openers), ending + claimedFor); // as long again for whoever can open it, who asks twice a minute
  }

  /** Whether it is still to be left to others; not with other keys than before. */
  has(session: string, openers: Identity["openers"]): boolean {
    return performance.now() < (this.#until.get(nameOf(session, openers)) ?? 0);
  }
}

const nameOf = (session: string, openers: Identity["openers"]): string =>
  [session, ...openers.map(({ certificate }) => certificate.fingerprint)].join(" ");
