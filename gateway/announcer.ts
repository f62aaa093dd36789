/** Tells the broker which letters are on their way: one call at a time, and what came meanwhile goes together in the next one. */
import { setTimeout as pause } from "node:timers/promises";
import type { BrokerClient } from "../broker/client.ts";
import { Fault } from "../mime/fault.ts";

interface Waiting {
  readonly ticket: Buffer;
  told(isLost: boolean): void;
  failed(thrown: unknown): void;
}

/** What one call may name (docs/protocol.md, section 6). */
const MOST = 1_000;
/** From one call to the next at least: nobody waits for it, and a call of many costs little more than a call of one. */
const BETWEEN_MS = 25;

export class Announcer {
  readonly #broker: Pick<BrokerClient, "dispatched">;
  readonly #signal: AbortSignal;
  #waiting: Waiting[] = [];
  #isTelling = false;

  constructor(broker: Pick<BrokerClient, "dispatched">, signal: AbortSignal) {
    this.#broker = broker;
    this.#signal = signal;
  }

  /** @returns whether nobody can open the letter any more. @throws Fault as `BrokerClient.dispatched` */
  announce(ticket: Buffer): Promise<boolean> {
    return new Promise((told, failed) => {
      this.#waiting.push({ ticket, told, failed });
      if (!this.#isTelling) void this.#tell();
    });
  }

  async #tell(): Promise<void> {
    this.#isTelling = true;
    while (this.#waiting.length > 0) {
      const together = this.#waiting.slice(0, MOST);
      this.#waiting = this.#waiting.slice(MOST);
      await this.#tellOf(together);
      if (this.#waiting.length < MOST) await pause(BETWEEN_MS);
    }
    this.#isTelling = false;
  }

  /** A ticket that the broker refuses says nothing about the others: they are told of one by one. */
  async #tellOf(together: readonly Waiting[]): Promise<void> {
    try {
      const tickets = together.map(({ ticket }) => ticket);
      const lost = new Set(await this.#broker.dispatched(tickets, this.#signal));
      for (const [at, { told }] of together.entries()) told(lost.has(at));
    } catch (thrown) {
      if (together.length === 1 || Fault.from(thrown).retry === "later") for (const { failed } of together) failed(thrown);
      else for (const one of together) await this.#tellOf([one]);
    }
  }
}
