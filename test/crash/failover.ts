/** k11: the primary Redis dies while the broker stands before a step; a sentinel makes the replica the primary, and nothing acknowledged is lost. */
import { setTimeout as pause } from "node:timers/promises";
import { startRedis, type RedisServer } from "../servers/redis.ts";
import { startSentinel, type Sentinel } from "../servers/sentinel.ts";
import { amend, type CrashPlace } from "./place.ts";
import type { Scene } from "./special.ts";

interface Pair {
  readonly servers: readonly RedisServer[];
  readonly sentinel: Sentinel;
}

const WITHIN_MS = 30_000;
const LOOK_EVERY_MS = 50;
const pairs = new WeakMap<CrashPlace, Pair>();

/** Kills the primary, whichever it is now; it comes back as the replica of the other. */
export async function failOver({ place, ledger, kill, account, signal }: Scene): Promise<void> {
  const { c } = place.parts;
  const { servers, sentinel } = pairs.get(place) ?? (await pairUp(place));
  const primary = servers.find((server) => server.cli("INFO", "replication").includes("role:master"));
  if (!primary) throw new Error("there is no primary");
  await c.arm(`k1@${1 + (kill.round % (6 * kill.shape))}`);
  const sending = ledger.send(account, signal);
  sending.catch(() => undefined);
  await c.halted();
  const before = sentinel.switches();
  await primary.kill();
  c.process.signal("SIGCONT");
  await until("failover", () => sentinel.switches() > before);
  await primary.restart();
  const heir = servers.find((server) => server !== primary);
  primary.cli("REPLICAOF", "127.0.0.1", String(heir?.port)); // the sentinel would do it too, after ten seconds
  await until("replica", () => primary.cli("INFO", "replication").includes("master_link_status:up"));
  await sending;
}

/** Gives the place a replica and a sentinel, and tells the broker of them; both stay. */
async function pairUp(place: CrashPlace): Promise<Pair> {
  const replica = await startRedis({ replicaOf: place.redis.port });
  await until("replica", () => replica.cli("INFO", "replication").includes("master_link_status:up"));
  const sentinel = await startSentinel(place.redis);
  await until("sentinel", () => place.redis.cli("CLIENT", "LIST").includes("sentinel-"));
  amend(place.broker.config, (file) => {
    const hosts = [`127.0.0.1:${sentinel.port}`];
    file["table"] = { sentinel: { name: sentinel.name, hosts }, user: "default", passwordFile: "redis.password", replicas: 1 };
  });
  const pair = { servers: [place.redis, replica], sentinel };
  pairs.set(place, pair);
  return pair;
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (const deadline = Date.now() + WITHIN_MS; !holds(); await pause(LOOK_EVERY_MS))
    if (Date.now() > deadline) throw new Error(`no ${what} within ${WITHIN_MS} ms`);
}
