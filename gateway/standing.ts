/** How the gateway's lines to others stand, learned from what it writes into its log: the watchers' mailboxes and the next hop. */
import type { Facts } from "../config/log.ts";

export interface Line {
  readonly ready: boolean;
  /** Since when, milliseconds since the epoch. */
  readonly since: number;
  readonly reason: string;
}

export class Standing {
  readonly #now: () => Date;
  readonly #watchers = new Map<string, Line>();
  #nextHop: Line | undefined;

  /** @param watched addresses of mailboxes that are to be watched */
  constructor(watched: readonly string[], now: () => Date) {
    this.#now = now;
    for (const address of watched) this.#watchers.set(address, this.#line(false, "not connected yet"));
  }

  /** By address. */
  get watchers(): ReadonlyMap<string, Line> {
    return this.#watchers;
  }

  /** What became of the last transaction with the next hop; undefined before the first. */
  get nextHop(): Line | undefined {
    return this.#nextHop;
  }

  hear(facts: Facts): void {
    const { event, reason } = facts;
    const mailbox = String(facts["mailbox"] ?? "");
    if (event === "mailbox.watched") this.#watchers.set(mailbox, this.#line(true, "connected"));
    if (event === "mailbox.waits" && this.#watchers.has(mailbox)) {
      const before = this.#watchers.get(mailbox);
      const now = this.#line(false, String(reason));
      this.#watchers.set(mailbox, before && !before.ready ? { ...now, since: before.since } : now);
    }
    if (event === "letter.relayed" || event === "message.passed-unsealed") this.#nextHop = this.#line(true, "took the last letter");
    if (event === "relay.refused") this.#nextHop = this.#line(isAnswer(facts["code"]), String(reason));
  }

  #line(ready: boolean, reason: string): Line {
    return { ready, since: this.#now().getTime(), reason };
  }
}

/** A hop that refuses one letter for good works; one that says "later", or nothing, does not, nor one that refuses our password (530, 535). */
function isAnswer(code: unknown): boolean {
  return typeof code === "number" && code >= 500 && code !== 530 && code !== 535;
}
