/** `kakitome recall` and `kakitome status --broker`: one question to the broker in the name of the senders of this gateway. */
import { join } from "node:path";
import type { Log } from "../config/log.ts";
import type { GatewayConfig } from "../config/schema.ts";
import { atDesk } from "./filter.ts";
import { Letters } from "./letters.ts";
import { recall, type Recalled, type RecallOrder } from "./recall.ts";
import { FOLDERS, withBroker, type Status } from "./status.ts";
import { WORDS, type RecallWord } from "./words.ts";

/** Recalls at the broker; a running gateway finds out by itself that what waits in its spool is dead. @throws Fault `unavailable`, `forbidden` */
export async function recallHere(
  config: GatewayConfig,
  order: RecallOrder,
  log: Log,
  signal: AbortSignal,
): Promise<readonly Recalled[] | undefined> {
  const letters = new Letters(join(config.data, FOLDERS.letters));
  return atDesk(config, log, signal, async ({ broker, identities }) => {
    const parts = { hand: broker, letters, log, identityOf: identities.of.bind(identities), now: () => new Date() };
    return recall(parts, order, signal);
  });
}

/** Adds what the broker says. @throws Fault `unavailable`, `forbidden` */
export async function askBroker(config: GatewayConfig, status: Status, log: Log, signal: AbortSignal): Promise<Status> {
  return atDesk(config, log, signal, async ({ broker, identities }) =>
    withBroker(status, { hand: broker, identityOf: identities.of.bind(identities) }, signal),
  );
}

/** For people at a terminal. */
export const recallWords = (outcome: RecallWord): string => WORDS.en.recallOutcome(outcome);
