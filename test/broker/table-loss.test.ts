/** What a table may lose: nothing that was acknowledged; and what is noticed when an older copy stands in its place. */
import { cpSync, readdirSync, rmSync, statSync, truncateSync, copyFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "@jest/globals";
import { openEmbeddedTable } from "../../broker/table-embedded.ts";
import { openRedisTable } from "../../broker/table-redis.ts";
import type { Table } from "../../broker/table.ts";
import { Witness } from "../../broker/witness.ts";
import { temporaryFolder } from "../servers/process.ts";
import { startRedis, type RedisServer } from "../servers/redis.ts";
import { again, BOB, confirmationOf, DAY, HOUR, letter, NOW, next, releasedLetter, releaseFrom, RETENTION } from "./table-homes.ts";

const running: { stop(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of running.splice(0).toReversed()) await one.stop();
});

async function redisAt(folder?: string): Promise<RedisServer> {
  const redis = await startRedis(folder === undefined ? {} : { folder });
  running.push(redis);
  return redis;
}

async function tableAt(redis: RedisServer, witness?: Witness): Promise<Table> {
  const table = await openRedisTable({ url: redis.url, prefix: "k:", retention: RETENTION, ...(witness && { witness }) });
  running.push({ stop: () => table.close() });
  return table;
}

const witnessIn = async (folder?: string): Promise<Witness> =>
  new Witness(join(folder ?? (await temporaryFolder("witness")), "table.witness"));

test("Redis killed in the midst of work has every step that it acknowledged, three times over", async () => {
  const redis = await redisAt();
  const table = await tableAt(redis);
  const acknowledged = new Map<string, string>();
  for (let life = 0; life < 3; life++) {
    const killed = new AbortController();
    const work = Array.from({ length: 32 }, async () => {
      while (!killed.signal.aborted) {
        const row = letter();
        const note = (state: string) => acknowledged.set(row.session, state);
        try {
          await table.declare([row], NOW + DAY);
          note("declared");
          const released = await releaseFrom(table, { session: row.session, recipient: BOB, at: NOW + HOUR, next: next() });
          note("released");
          if (released && (await table.confirm(confirmationOf(released)))) note("confirmed");
        } catch {
          return; // not acknowledged
        }
      }
    });
    while (acknowledged.size <= 300 * (life + 1)) await new Promise((resolve) => setImmediate(resolve));
    await redis.kill();
    killed.abort();
    await Promise.all(work);
    await redis.restart();
    await again(() => table.ready());
  }
  const order = ["declared", "released", "confirmed"];
  const after = await tableAt(redis);
  for (const [session, state] of acknowledged) {
    const kept = await after.find(session); // an answer may have been lost on its way, so a row can be further
    expect([session, order.indexOf(kept?.state ?? "")]).toEqual([
      session,
      Math.max(order.indexOf(state), order.indexOf(kept?.state ?? "")),
    ]);
    expect(order.indexOf(kept?.state ?? "")).toBeGreaterThanOrEqual(order.indexOf(state));
  }
  expect(acknowledged.size).toBeGreaterThan(900);
});

/** Every octet with KAKITOME_CUTS=1; in the suite one in twenty-three. */
const EVERY = Number(process.env["KAKITOME_CUTS"] ?? 23);

test(
  "a log that ends anywhere within its last step has that step whole or not at all",
  async () => {
    const redis = await redisAt();
    const table = await tableAt(redis);
    const released = await releasedLetter(table);
    const log = (folder: string): string => {
      const name = readdirSync(join(folder, "appendonlydir")).find((file) => file.endsWith(".incr.aof"));
      return join(folder, "appendonlydir", name ?? "");
    };
    const before = statSync(log(redis.folder)).size;
    await table.confirm(confirmationOf(released));
    const whole = statSync(log(redis.folder)).size;
    expect(whole - before).toBeGreaterThan(500);
    await redis.stop();
    const counts = { released: 0, confirmed: 0 };
    for (let length = before; length <= whole; length = length === whole ? whole + 1 : Math.min(length + EVERY, whole)) {
      const folder = await temporaryFolder("cut");
      cpSync(redis.folder, folder, { recursive: true });
      truncateSync(log(folder), length);
      const cut = await startRedis({ folder });
      const state = cut.cli("HGET", `k:row:{b${released.session.slice(0, 2)}}:${released.session}`, "state");
      const hasKey = cut.cli("HEXISTS", `k:row:{b${released.session.slice(0, 2)}}:${released.session}`, "wrappedKey");
      const outbox = cut.cli("HLEN", `k:out:{b${released.session.slice(0, 2)}}`);
      const audited = cut.cli("XLEN", `k:aud:{b${released.session.slice(0, 2)}}`);
      await cut.stop();
      rmSync(folder, { recursive: true });
      const found = { length, state, hasKey, outbox, audited };
      if (state === "confirmed") expect(found).toEqual({ length, state, hasKey: "0", outbox: "1", audited: "3" });
      else expect(found).toEqual({ length, state: "released", hasKey: "1", outbox: "0", audited: "2" });
      counts[state as "released" | "confirmed"]++;
    }
    expect(counts.confirmed).toBe(1); // only the whole log
    expect(counts.released).toBeGreaterThan(500 / EVERY);
  },
  40 * 60_000,
);

test("what is acknowledged while the table is read for a comparison raises no alarm, and is missed at the next one", async () => {
  const witness = await witnessIn();
  const mark = (head: string) => ({ epoch: "e", follows: undefined, heads: new Map([["00", head]]) });
  await witness.examine(async () => mark("5-0"));
  await witness.examine(async () => {
    witness.saw("00", "7-0"); // by another connection
    return mark("6-0");
  });
  await expect(witness.examine(async () => mark("6-0"))).rejects.toMatchObject({
    message: expect.stringMatching(/ends at 6-0, after it was at 7-0/u),
  });
  await witness.examine(async () => mark("7-0"));
});

describe("an older copy in the table's place", () => {
  test("of Redis is noticed at the next connection, and serves nothing until the newer one is back", async () => {
    const redis = await redisAt();
    const table = await tableAt(redis, await witnessIn());
    await table.ready();
    const row = letter();
    await table.declare([row], NOW + DAY);
    const present = () => releaseFrom(table, { session: row.session, recipient: BOB, at: NOW + HOUR, next: next() });
    await redis.stop();
    const [older, newer] = [await temporaryFolder("older"), await temporaryFolder("newer")];
    cpSync(redis.folder, older, { recursive: true });
    await redis.restart();
    const given = await again(present);
    await redis.stop();
    cpSync(redis.folder, newer, { recursive: true });
    await replace(redis, older);
    await expect(again(present, 500)).rejects.toMatchObject({ code: "unavailable", message: expect.stringMatching(/went back in time/u) });
    await expect(table.ready()).rejects.toMatchObject({
      advice: expect.stringMatching(/kakitome broker restore --in-place.* --unopened erase or release-again/u),
    });
    await replace(redis, newer);
    expect((await again(present))?.nextSession).toBe(given?.nextSession);
  });

  test("of Redis is noticed by a broker that starts anew, and so is an empty Redis", async () => {
    const folder = await temporaryFolder("witness");
    const redis = await redisAt();
    const witness = await witnessIn(folder);
    const table = await tableAt(redis, witness);
    await table.ready();
    await redis.stop();
    const older = await temporaryFolder("older");
    cpSync(redis.folder, older, { recursive: true });
    await redis.restart();
    await again(() => table.declare([letter()], NOW + DAY));
    witness.keep();
    await redis.stop();
    await replace(redis, older);
    await expect((await tableAt(redis, await witnessIn(folder))).ready()).rejects.toMatchObject({
      message: expect.stringMatching(/audit log/u),
    });
    redis.cli("FLUSHALL");
    await expect((await tableAt(redis, await witnessIn(folder))).ready()).rejects.toMatchObject({
      message: expect.stringMatching(/another table/u),
    });
    await expect((await tableAt(redis, await witnessIn())).ready()).resolves.toBeUndefined(); // who never saw it has nothing to compare
  });

  test("of the embedded table is noticed by a broker that starts anew, until an operator accepts it", async () => {
    const folder = await temporaryFolder("embedded");
    const path = join(folder, "kakitome.db");
    const open = async () => {
      const witness = await witnessIn(folder);
      const table = await openEmbeddedTable(path, { retention: RETENTION, witness });
      return { table, witness };
    };
    const first = await open();
    await first.table.ready();
    const waiting = letter();
    await first.table.declare([waiting], NOW + DAY);
    await first.table.close();
    copyFileSync(path, `${path}.older`);
    const second = await open();
    await second.table.ready();
    await releasedLetter(second.table);
    second.witness.keep();
    await second.table.close();
    copyFileSync(`${path}.older`, path);
    const third = await open();
    await expect(third.table.ready()).rejects.toMatchObject({ code: "unavailable", message: expect.stringMatching(/went back in time/u) });
    await third.table.begin("a new epoch", third.witness.epoch ?? "");
    await third.table.ready();
    third.witness.keep();
    await third.table.close();
    const fourth = await open();
    await fourth.table.ready();
    await fourth.table.close();
  });
});

test("of 200 presentations at once of each of 100 tickets, one release is recorded and every answer is the same", async () => {
  const redis = await redisAt();
  const table = await tableAt(redis);
  const rows = Array.from({ length: 100 }, () => letter());
  await table.declare(rows, NOW + DAY);
  for (const { session } of rows) {
    const answers = await Promise.all(
      Array.from({ length: 200 }, () => releaseFrom(table, { session, recipient: BOB, at: NOW + HOUR, next: next() })),
    );
    expect(new Set(answers.map((row) => JSON.stringify({ ...row, releases: 0 }))).size).toBe(1);
  }
  const audited = redis
    .cli("--scan", "--pattern", "k:aud:*")
    .split("\n")
    .flatMap((key) => redis.cli("XRANGE", key, "-", "+").split("\n"));
  expect(audited.filter((word) => word === "released")).toHaveLength(100);
});

async function replace(redis: RedisServer, copy: string): Promise<void> {
  await redis.stop();
  rmSync(join(redis.folder, "appendonlydir"), { recursive: true });
  cpSync(join(copy, "appendonlydir"), join(redis.folder, "appendonlydir"), { recursive: true });
  await redis.restart();
}
