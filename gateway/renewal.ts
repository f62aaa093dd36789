/** Renews the gateway's certificates while it runs, the channel's first; what does not work is tried again and said, each time. */
import type { BrokerClient } from "../broker/client.ts";
import { Endings } from "../config/endings.ts";
import { pause } from "../config/lifecycle.ts";
import { reasonOf, type Log } from "../config/log.ts";
import type { Certificate } from "../mime/certificate.ts";
import { isDue, type Identities } from "./identities.ts";
import type { OpenChannel } from "./identity.ts";

const LOOK_EVERY_MS = 60 * 60_000;
const RETRY_FIRST_MS = 60_000;

export interface RenewalParts {
  readonly channel: Pick<OpenChannel, "channel" | "renew">;
  readonly broker: BrokerClient;
  readonly identities: Identities;
  readonly log: Log;
  now(): Date;
}

/** Renews whatever is due now. @returns whether all of it is done */
export async function renewDue({ channel, broker, identities, log, now }: RenewalParts, signal: AbortSignal): Promise<boolean> {
  let isDone = true;
  if (isDue([channel.channel()], now())) {
    await channel.renew(signal).catch((thrown: unknown) => {
      isDone = false;
      const until = channel.channel().notAfter.toISOString();
      log.error({ event: "channel.not-renewed", until, reason: reasonOf(thrown) });
    });
  }
  return (await identities.renew(broker, now(), signal)) && isDone;
}

/**
 * Looks now and every hour until the signal aborts; sooner where something did not work.
 * @param others certificates that an administrator renews, of which it warns
 */
export async function keepRenewed(
  parts: RenewalParts,
  signal: AbortSignal,
  others: () => Readonly<Record<string, Certificate>>,
): Promise<void> {
  const warnings = new Endings(parts.log);
  for (let wait = RETRY_FIRST_MS; !signal.aborted;) {
    warnings.look(others(), parts.now());
    const isDone = await renewDue(parts, signal);
    await pause(isDone ? LOOK_EVERY_MS : Math.min(wait, LOOK_EVERY_MS), signal);
    wait = isDone ? RETRY_FIRST_MS : wait * 2;
  }
}
