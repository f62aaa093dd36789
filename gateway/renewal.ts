/** Keeps the gateway's certificates new while it runs, and what it knows of the broker's roots; what does not work is tried again and said, each time. */
import type { BrokerClient } from "../broker/client.ts";
import { Endings } from "../config/endings.ts";
import { pause } from "../config/lifecycle.ts";
import { reasonOf, type Log } from "../config/log.ts";
import type { Certificate } from "../mime/certificate.ts";
import { dueAt, isDue, type Identities } from "./identities.ts";
import type { OpenChannel } from "./identity.ts";

const LOOK_EVERY_MS = 60 * 60_000;
const RETRY_FIRST_MS = 60_000;

export interface RenewalParts {
  readonly channel: Pick<OpenChannel, "channel" | "renew" | "learn">;
  readonly broker: BrokerClient;
  readonly identities: Identities;
  readonly log: Log;
  now(): Date;
}

/** Learns the broker's roots and renews whatever is due now. @returns whether all of it is done */
export async function renewDue({ channel, broker, identities, log, now }: RenewalParts, signal: AbortSignal): Promise<boolean> {
  let isDone = true;
  await channel.learn(signal).catch((thrown: unknown) => {
    isDone = false;
    log.warn({ event: "roots.not-learned", reason: reasonOf(thrown) });
  });
  if (isDue([channel.channel()], now())) {
    await channel.renew(signal).catch((thrown: unknown) => {
      isDone = false;
      const until = channel.channel().notAfter.toISOString();
      log.error({ event: "channel.not-renewed", until, reason: reasonOf(thrown) });
    });
  }
  return (await identities.renew(broker, now(), signal)) && isDone;
}

export class Renewal {
  readonly #parts: RenewalParts;
  /** Ends the pause that there is. */
  #wake = new AbortController();

  constructor(parts: RenewalParts) {
    this.#parts = parts;
  }

  /** Looks at once, or again after the look that is under way. */
  lookNow(): void {
    this.#wake.abort();
  }

  /**
   * Looks now, every hour and whenever something is due, until the signal aborts; sooner where something did not work.
   * @param others certificates that an administrator renews, of which it warns
   */
  async keep(signal: AbortSignal, others: () => Readonly<Record<string, Certificate>>): Promise<void> {
    const warnings = new Endings(this.#parts.log);
    for (let wait = RETRY_FIRST_MS; !signal.aborted;) {
      this.#wake = new AbortController();
      warnings.look(others(), this.#parts.now());
      const isDone = await renewDue(this.#parts, signal);
      const longest = Math.min(LOOK_EVERY_MS, Math.max(this.#untilDue(), RETRY_FIRST_MS));
      await pause(isDone ? longest : Math.min(wait, longest), signal, this.#wake.signal);
      wait = isDone ? RETRY_FIRST_MS : wait * 2;
    }
  }

  /** Milliseconds; certificates may be for less than the hours between two looks. */
  #untilDue(): number {
    const { channel, identities, now } = this.#parts;
    const all = [channel.channel(), ...identities.all().flatMap(({ certificates }) => certificates ?? [])];
    return all.reduce((first, one) => Math.min(first, dueAt(one)), Number.POSITIVE_INFINITY) - now().getTime();
  }
}
