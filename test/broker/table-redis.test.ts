/** What only the session table in Redis has: crashes, lost functions, settings, outages, and a server that holds no more keys than it says. */
import { afterEach, beforeAll, afterAll, beforeEach, describe, expect, test } from "@jest/globals";
import { setTimeout as pause } from "node:timers/promises";
import { openRedisTable } from "../../broker/table-redis.ts";
import type { Table } from "../../broker/table.ts";
import { type RedisOptions, type RedisServer, startRedis } from "../servers/redis.ts";
import { BOB, confirmationOf, confirmedLetter, DAY, freshHash, GATEWAY, HOUR, letter, next, NOW, OUTCOMES } from "./table-homes.ts";
import { redisPlace, releaseFrom, type RedisPlace, releasedLetter, RETENTION } from "./table-homes.ts";

const BETWEEN_TRIES = 10; // milliseconds, as below
const BACK_WITHIN = 10_000;

let redis: RedisServer;
let place: RedisPlace;
let table: Table;

beforeAll(async () => void (redis = await startRedis()));
afterAll(() => redis.stop());
beforeEach(async () => {
  place = redisPlace(redis);
  table = await place.open();
});
afterEach(() => table.close());

/** Resolves when the table answers again. */
async function back(): Promise<void> {
  const patience = AbortSignal.timeout(BACK_WITHIN);
  for (;;) {
    try {
      return void (await table.find(freshHash()));
    } catch {
      await pause(BETWEEN_TRIES, undefined, { signal: patience });
    }
  }
}

const keyOf = (kind: string, session: string): string => `${place.prefix}${kind}:{b${session.slice(0, 2)}}`;
/** Without what stands behind the hash tag. */
const bare = (key: string): string => key.slice(0, key.indexOf("}") + 1);
const rowKey = (session: string): string => `${keyOf("row", session)}:${session}`;

test("after a kill -9 everything that was acknowledged is there, and the table goes on by itself", async () => {
  const rows = Array.from({ length: 200 }, () => letter());
  await table.declare(rows, NOW + DAY);
  const released = await releasedLetter(table);
  const confirmed = await confirmedLetter(table);
  await table.keepReceipt(confirmed, Buffer.from("receipt"));
  await redis.kill();
  await redis.restart();
  await back();
  for (const row of rows) expect(await table.find(row.session)).toEqual({ ...row, state: "declared" });
  expect(await table.find(released.session)).toEqual(released);
  expect(await table.find(confirmed.session)).toEqual(confirmed);
  expect(await table.pending()).toEqual([{ evidence: confirmed.evidence, session: confirmed.session }]);
  expect(await table.receipt(confirmed)).toEqual(Buffer.from("receipt"));
  expect(await table.confirm(confirmationOf(released))).toMatchObject({ state: "confirmed" });
});

test("a kill -9 while letters are being declared loses none that was acknowledged", async () => {
  const acknowledged: string[] = [];
  const declareUntilRefused = async (): Promise<never> => {
    for (;;) {
      const row = letter();
      await table.declare([row], NOW + DAY);
      acknowledged.push(row.session);
      if (acknowledged.length === 300) await redis.kill();
    }
  };
  const outcomes = await Promise.allSettled(Array.from({ length: 20 }, declareUntilRefused));
  for (const outcome of outcomes) expect(outcome).toMatchObject({ status: "rejected", reason: { code: "unavailable" } });
  await redis.restart();
  await back();
  expect(acknowledged.length).toBeGreaterThanOrEqual(300);
  for (const session of acknowledged) expect(await table.find(session)).toMatchObject({ state: "declared" });
});

test("a Redis that has lost the functions gets them again, once for all who miss them", async () => {
  redis.cli("FUNCTION", "FLUSH");
  redis.cli("CONFIG", "RESETSTAT");
  const rows = Array.from({ length: 50 }, () => letter());
  await Promise.all(rows.map((row) => table.declare([row], NOW + DAY)));
  for (const row of rows) expect(await table.find(row.session)).toMatchObject({ state: "declared" });
  expect(redis.cli("INFO", "commandstats")).toMatch(/cmdstat_function\|load:calls=1,/);
});

test.each([["confirmed"], ["withdrawn"], ["expired"]])(
  "redis-cli finds no octet of the key of a %s letter, nor of its next ticket",
  async (end) => {
    const row = letter({ wrappedKey: Buffer.from("the wrapped key, easily found"), expiresAt: NOW + 3 * HOUR });
    await table.declare([row], NOW + DAY);
    expect(place.stored()).toContain("easily found");
    if (end === "withdrawn") await table.withdraw(row.session, GATEWAY, NOW);
    else {
      const offer = { ...next(), ticket: Buffer.from("a ticket to be found") };
      const released = await releaseFrom(table, { session: row.session, recipient: BOB, at: NOW, next: offer });
      expect(place.stored()).toContain("a ticket to be found");
      if (end === "confirmed" && released) await table.confirm(confirmationOf(released));
    }
    if (end === "expired") await table.sweep(row.expiresAt, OUTCOMES);
    expect(await table.find(row.session)).toMatchObject({ state: end });
    expect(place.stored()).toContain(`row:{b${row.session.slice(0, 2)}}`);
    expect(place.stored()).not.toContain("easily found");
    expect(place.stored()).not.toContain("ticket to be found");
  },
);

test("all keys of a letter are in one slot, and none is left but its audit and the bucket's decoy when it is forgotten", async () => {
  const row = await confirmedLetter(table);
  await table.keepReceipt(row, Buffer.from("receipt"));
  await table.done(row);
  const kinds = ["aud", "decoy", "due", "head", "receipt", "row"].map((kind) => keyOf(kind, row.session));
  expect(place.keys().map(bare).toSorted()).toEqual(kinds);
  await table.sweep(row.confirmedAt + RETENTION + 1, OUTCOMES);
  expect(place.keys().toSorted()).toEqual(["aud", "decoy", "head"].map((kind) => keyOf(kind, row.session)));
});

describe("ready", () => {
  test.each<[string, string, string, RedisOptions]>([
    ["appendonly", "no", "yes", { appendonly: false }],
    ["appendfsync", "everysec", "always", { appendfsync: "everysec" }],
    ["maxmemory-policy", "allkeys-lru", "noeviction", { policy: "allkeys-lru" }],
  ])("refuses a Redis with %s %s, by name, and says how to mend it", async (name, wrong, right, options) => {
    const server = await startRedis(options);
    const opened = await redisPlace(server).open();
    await expect(opened.ready()).rejects.toMatchObject({
      code: "unavailable",
      message: `Redis may lose what it acknowledged: ${name} is ${wrong} and must be ${right}`,
      advice: `Put "${name} ${right}" into redis.conf and restart Redis.`,
    });
    await opened.close();
    await server.stop();
  });

  test.each([
    ["-config", /CONFIG GET/, /\+config\|get/],
    ["-function", /FUNCTION LOAD/, /\+function\|load/],
  ])("refuses a Redis whose user lacks rights (%s), and says which", async (lacks, message, advice) => {
    redis.cli("ACL", "SETUSER", "limited", "reset", "on", ">limited", "~*", "&*", "+@all", lacks);
    const url = redis.url.replace("default:testpass", "limited:limited");
    const limited = await openRedisTable({ url, prefix: place.prefix, retention: RETENTION });
    await expect(limited.ready()).rejects.toMatchObject({
      code: "unavailable",
      message: expect.stringMatching(message),
      advice: expect.stringMatching(advice),
    });
    await limited.close();
  });
});

describe("a Redis that does not answer", () => {
  test("is unavailable at once for every step, and the table recovers when it is back", async () => {
    const [row, givenUp] = [letter(), letter()];
    await table.declare([row], NOW + DAY);
    await redis.stop();
    const began = performance.now();
    const release = releaseFrom(table, { session: row.session, recipient: BOB, at: NOW, next: next() });
    const steps = [
      release,
      table.ready(),
      table.sweep(NOW, OUTCOMES),
      table.pending(),
      table.declare([letter()], NOW + DAY),
      table.findGateway(GATEWAY),
    ];
    for (const outcome of await Promise.allSettled(steps)) {
      expect(outcome).toMatchObject({ status: "rejected", reason: { code: "unavailable", message: "session table did not answer" } });
    }
    expect(performance.now() - began).toBeLessThan(1_000);
    await expect(place.open()).rejects.toMatchObject({ code: "unavailable" });
    await redis.restart();
    await back();
    expect(await table.find(row.session)).toEqual({ ...row, state: "declared" });
    expect(await table.find(givenUp.session)).toBeUndefined();
  });

  test("because the connection broke under a step is unavailable at once, not only when the time is over", async () => {
    const row = letter();
    redis.cli("CLIENT", "PAUSE", "60000", "WRITE");
    const began = performance.now();
    const declared = table.declare([row], NOW + DAY);
    redis.cli("CLIENT", "KILL", "TYPE", "normal");
    await expect(declared).rejects.toMatchObject({ code: "unavailable" });
    expect(performance.now() - began).toBeLessThan(1_000);
    redis.cli("CLIENT", "UNPAUSE");
    await back();
    await table.declare([row], NOW + DAY);
    expect(await table.find(row.session)).toEqual({ ...row, state: "declared" });
  });

  test("in time is unavailable, and the same step asked for again happens once", async () => {
    const row = letter();
    await table.declare([row], NOW + DAY);
    redis.cli("CLIENT", "PAUSE", "60000", "WRITE");
    const release = () => releaseFrom(table, { session: row.session, recipient: BOB, at: NOW, next: next() });
    await expect(release()).rejects.toMatchObject({ code: "unavailable" });
    redis.cli("CLIENT", "UNPAUSE");
    const [first, second] = [await release(), await release()];
    expect(first).toMatchObject({ state: "released" });
    expect({ ...second, releases: first?.releases }).toEqual(first); // counted once more if Redis carried the first one out after all
    expect(place.audit(row.session).map(({ event }) => event)).toEqual(["declared", "released"]);
  });

  test("because of a wrong password is unavailable, and the cause says so", async () => {
    const options = { url: redis.url.replace("testpass", "wrong"), prefix: place.prefix, retention: RETENTION };
    await expect(openRedisTable(options)).rejects.toMatchObject({
      code: "unavailable",
      cause: { message: expect.stringContaining("WRONGPASS") },
    });
  });
});

test("a hundred rows of a bucket that cannot be read hold up none behind them, and are looked at again after an hour", async () => {
  const inOneBucket = (count: number) => Array.from({ length: count }, () => letter({ session: `00${freshHash().slice(2)}` }));
  const [broken, [whole]] = [inOneBucket(100), inOneBucket(1)];
  await table.declare(broken, NOW + HOUR);
  await table.declare([whole!], NOW + 2 * HOUR);
  redis.cli("ZADD", keyOf("due", whole!.session), String(NOW), "no session"); // what names no row at all is put aside, too
  for (const { session } of broken) redis.cli("HSET", rowKey(session), "state", "nonsense");
  await expect(table.sweep(NOW + DAY, OUTCOMES)).rejects.toMatchObject({ code: "internal" });
  expect(await table.find(whole!.session)).toBeUndefined();
  expect(await table.sweep(NOW + DAY + HOUR - 1, OUTCOMES)).toBe(0);
  for (const { session } of broken) redis.cli("HSET", rowKey(session), "state", "declared");
  redis.cli("ZREM", keyOf("due", whole!.session), "no session");
  expect(await table.sweep(NOW + DAY + HOUR, OUTCOMES)).toBe(100);
});

test("a Redis at the limit of its memory refuses letters as unavailable, writes no half of one, and still erases keys", async () => {
  const [kept, refused] = [letter(), letter()];
  await table.declare([kept], NOW + DAY);
  redis.cli("CONFIG", "SET", "maxmemory", "1mb");
  try {
    await expect(table.declare([refused], NOW + DAY)).rejects.toMatchObject({ code: "unavailable" });
    expect(place.stored()).not.toContain(refused.session);
    expect(await table.withdraw(kept.session, GATEWAY, NOW)).toBe(true);
  } finally {
    redis.cli("CONFIG", "SET", "maxmemory", "0");
  }
});

describe("a step that cannot be finished", () => {
  test.each([["aud"], ["due"], ["out"]])("because %s is not ours changes nothing", async (kind) => {
    const row = await releasedLetter(table);
    const key = keyOf(kind, row.session);
    redis.cli("DEL", key);
    redis.cli("SET", key, "something else");
    const before = place.stored();
    await expect(table.confirm(confirmationOf(row))).rejects.toMatchObject({ code: "internal" });
    expect(place.stored()).toBe(before);
  });

  test.each([
    ["state", "open"],
    ["expiresAt", "soon"],
  ])("because the row's %s is broken changes nothing and is a fault, and the sweep goes on with the others", async (field, value) => {
    const [broken, other] = [letter({ session: `00${freshHash().slice(2)}` }), letter({ session: `01${freshHash().slice(2)}` })];
    await table.declare([broken, other], NOW + DAY);
    await table.dispatched([broken.session, other.session], GATEWAY, NOW);
    redis.cli("HSET", rowKey(broken.session), field, value);
    const before = redis.cli("HGETALL", rowKey(broken.session));
    const release = releaseFrom(table, { session: broken.session, recipient: BOB, at: NOW, next: next() });
    for (const step of [table.find(broken.session), release, table.sweep(broken.expiresAt, OUTCOMES)]) {
      await expect(step).rejects.toMatchObject({ code: "internal" });
    }
    expect(redis.cli("HGETALL", rowKey(broken.session))).toBe(before);
    expect(await table.find(other.session)).toMatchObject({ state: "expired" });
  });

  test("because the row's key is missing gives nothing out", async () => {
    const row = letter();
    await table.declare([row], NOW + DAY);
    redis.cli("HDEL", rowKey(row.session), "wrappedKey");
    const release = releaseFrom(table, { session: row.session, recipient: BOB, at: NOW, next: next() });
    await expect(release).rejects.toMatchObject({ code: "internal" });
    expect(redis.cli("HGET", rowKey(row.session), "state")).toBe("declared");
  });
});

test("a prefix with a brace is refused: it would move keys of one letter into different slots", async () => {
  await expect(openRedisTable({ url: redis.url, prefix: "{k}:", retention: RETENTION })).rejects.toMatchObject({ code: "internal" });
});
