/** Kills that no named point can do: the reply that is lost on its way, and a Redis that dies, or comes back with older data, under the broker. */
import { cpSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Kill } from "./kill.ts";
import type { Account, Ledger } from "./ledger.ts";
import { RECIPIENTS, type CrashPlace } from "./place.ts";
import { attempt } from "./sender.ts";

export interface Scene {
  readonly place: CrashPlace;
  readonly ledger: Ledger;
  readonly kill: Kill;
  /** The letter that is judged. */
  readonly account: Account;
  readonly signal: AbortSignal;
}

const SETTLED_WITHIN_MS = 10_000;

/** k7: the next hop has taken a receipt and says 250; the broker dies before it reads it. */
export async function killAtLostReply({ place, ledger, kill, account, signal }: Scene): Promise<void> {
  const { c } = place.parts;
  let left = 1 + (kill.round % kill.shape);
  const killed = new Promise<void>((resolve, reject) => {
    place.onRelayReply((text) => {
      if (!/^250 2\.0\.0 Ok: queued/mu.test(text) || --left !== 0) return text;
      c.kill().then(resolve, reject);
      return "";
    });
  });
  await ledger.send(account, signal);
  await killed;
  place.onRelayReply((text) => text);
  await c.start();
}

/** k9: Redis dies while the broker stands before a step; the broker says so to everybody, and goes on once Redis is back. */
export async function killRedisUnderBroker({ place, ledger, kill, account, signal }: Scene): Promise<void> {
  const { c, redis } = place.parts;
  await c.arm(`k1@${1 + (kill.round % (6 * kill.shape))}`);
  const sending = ledger.send(account, signal);
  sending.catch(() => undefined);
  await c.halted();
  await redis.kill();
  c.process.signal("SIGCONT");
  await expectRefusal(place, ledger);
  await redis.start();
  await sending;
}

/** k10: Redis comes back with the data of yesterday. The broker must not serve from it; with the newer data all goes on. */
export async function bringBackOldData({ place, ledger, account, signal }: Scene): Promise<void> {
  const { redis, c } = place.parts;
  const data = join(place.redis.folder, "appendonlydir");
  const [old, newer] = [`${data}.old`, `${data}.newer`];
  await place.redis.stop();
  cpSync(data, old, { recursive: true });
  await redis.start();
  const before = ledger.open(account.mail.recipients);
  await ledger.send(before, signal);
  const unsettled = await ledger.settle(before, SETTLED_WITHIN_MS);
  if (unsettled.length > 0) throw new Error(`the letter before was not settled: ${unsettled[0]?.what}`);
  await redis.kill();
  renameSync(data, newer);
  renameSync(old, data);
  const [seen, broker] = [c.process.lines.length, c.process];
  await redis.start();
  try {
    await expectRefusal(place, ledger);
    await broker.until("word that the table went back", (line) => line.event === "table.went-back" && broker.lines.indexOf(line) >= seen);
  } finally {
    await redis.kill();
    rmSync(data, { recursive: true });
    renameSync(newer, data);
    await redis.start();
  }
  await ledger.send(account, signal);
}

/** A client that asks now is told to come back later. @throws Error where it is told anything else */
async function expectRefusal(place: CrashPlace, ledger: Ledger): Promise<void> {
  const probe = ledger.open(RECIPIENTS.slice(0, 1));
  const answer = await attempt(place, probe.mail);
  probe.answers.push(answer);
  if (answer !== "4xx") throw new Error(`a client was told ${answer} while the broker's table was away`);
}
