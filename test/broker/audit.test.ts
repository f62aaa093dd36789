/** The audit log's chain: whoever edits, removes or reorders an entry is found out, in both homes, also after a backup was restored. */
import { createHash, randomInt } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Redis } from "ioredis";
import Database from "libsql";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { entryHash, firstBroken, type AuditLog } from "../../broker/audit.ts";
import { backup, restore } from "../../broker/backup.ts";
import type { Table } from "../../broker/table.ts";
import { temporaryFolder } from "../servers/process.ts";
import { startRedis, type RedisServer } from "../servers/redis.ts";
import {
  confirmedLetter,
  DAY,
  embeddedPlace,
  freshHash,
  letter,
  MALLORY,
  NOW,
  recallFor,
  redisPlace,
  releaseFrom,
  next,
} from "./table-homes.ts";

/** One log with ways to write it past the broker; entries by their number. */
interface Lab {
  readonly table: Table;
  edit(n: number, field: "event" | "session" | "at" | "who" | "hash", value: string): Promise<void>;
  remove(n: number): Promise<void>;
  /** Two entries take each other's place. */
  swap(n: number, other: number): Promise<void>;
}

/** In one bucket, so that Redis has one log too. */
const inBucket = (): string => `b0${freshHash().slice(2)}`;

async function fill(table: Table): Promise<void> {
  for (let count = 0; count < 4; count++) {
    const row = letter({ session: inBucket() });
    await table.declare([row], NOW + DAY);
    await recallFor(table, row.session, NOW + count, count % 2 === 0 ? [row.sender] : [MALLORY]);
    await releaseFrom(table, { session: inBucket(), recipient: `böb${"x".repeat(randomInt(200))}@b.example`, at: NOW, next: next() });
  }
}

const logOf = async (table: Table): Promise<AuditLog> => {
  for await (const log of table.auditLogs()) if (log.entries.length > 0) return log;
  throw new Error("no log");
};

let redis: RedisServer;
let client: Redis;
let folder: string;
beforeAll(async () => {
  [redis, folder] = await Promise.all([startRedis(), temporaryFolder("audit")]);
  client = new Redis(redis.url);
});
afterAll(async () => {
  await client?.quit();
  await redis?.stop();
});

let made = 0;
async function embeddedLab(): Promise<Lab> {
  const path = join(folder, `${made++}.db`);
  const table = await embeddedPlace(path).open();
  const run = async (sql: string, ...values: (string | number)[]): Promise<void> => {
    const db = new Database(path);
    try {
      db.prepare(sql).run(values);
    } finally {
      db.close();
    }
  };
  return {
    table,
    edit: (n, field, value) => run(`UPDATE audit SET "${field}" = ? WHERE id = ?`, value, n),
    remove: (n) => run("DELETE FROM audit WHERE id = ?", n),
    async swap(n, other) {
      for (const [from, to] of [
        [n, -1],
        [other, n],
        [-1, other],
      ] as const)
        await run("UPDATE audit SET id = ? WHERE id = ?", to, from);
    },
  };
}

async function redisLab(): Promise<Lab> {
  const place = redisPlace(redis);
  const table = await place.open();
  const stream = `${place.prefix}aud:{bb0}`;
  const read = async (): Promise<string[][]> => (await client.xrange(stream, "-", "+")).map(([, fields]) => fields);
  /** A stream cannot be edited, only written anew. */
  const write = async (entries: string[][]): Promise<void> => {
    const pipeline = client.pipeline().del(stream);
    for (const entry of entries) pipeline.xadd(stream, "*", ...entry);
    await pipeline.exec();
  };
  return {
    table,
    async edit(n, field, value) {
      const entries = await read();
      const edited = (entry: string[]) => entry.map((text, at) => (at % 2 === 1 && entry[at - 1] === field ? value : text));
      await write(entries.map((entry, at) => (at === n - 1 ? edited(entry) : entry)));
    },
    remove: async (n) => write((await read()).filter((_entry, at) => at !== n - 1)),
    async swap(n, other) {
      const entries = await read();
      const [one = [], two = []] = [entries[n - 1], entries[other - 1]];
      await write(entries.map((entry, at) => (at === n - 1 ? two : at === other - 1 ? one : entry)));
    },
  };
}

const HOMES: [string, () => Promise<Lab>][] = [
  ["embedded", embeddedLab],
  ["redis", redisLab],
];

describe.each(HOMES)("%s", (home, start) => {
  test("chains every entry with SHA-256 as node:crypto makes it, whatever its length, and states the newest one", async () => {
    const { table } = await start();
    for (let length = 0; length < 140; length++)
      await table.restore({ kind: "audit", log: "", n: 0, hash: "", event: "e", session: inBucket(), at: length, who: "é".repeat(length) });
    const log = await logOf(table);
    expect(log.entries).toHaveLength(140);
    let former = "";
    for (const [at, { n, event, session, at: time, who, hash }] of log.entries.entries()) {
      expect([n, event, time, who]).toEqual([at + 1, "e", at, "é".repeat(at)]);
      const fields = [n, event, session, time, who].map((value) => `${Buffer.byteLength(String(value))}:${value}`);
      expect(hash).toBe(
        createHash("sha256")
          .update([former, ...fields].join(","))
          .digest("hex"),
      );
      former = hash;
    }
    expect(log.head).toEqual({ n: 140, hash: former });
    expect(await table.auditHead(inBucket())).toBe(former);
    expect(firstBroken(log)).toBeUndefined();
    await table.close();
  });

  test("is read as a whole, however long it is, while steps go on", async () => {
    const { table } = await start();
    const add = (at: number) => table.restore({ kind: "audit", log: "", n: 0, hash: "", event: "e", session: inBucket(), at, who: "" });
    for (let at = 0; at < 2_100; at += 100) await Promise.all(Array.from({ length: 100 }, (_none, more) => add(at + more)));
    const [log] = await Promise.all([logOf(table), ...Array.from({ length: 50 }, (_none, at) => add(at))]);
    expect(log.entries.length).toBeGreaterThanOrEqual(2_100);
    expect(firstBroken(log)).toBeUndefined();
    await table.close();
  });

  test("of a hundred tampered logs a hundred are named with the first entry that is not as it was written", async () => {
    const lab = await start();
    await fill(lab.table);
    const { entries } = await logOf(lab.table);
    const count = entries.length;
    expect(count).toBeGreaterThan(10);
    const wrong: unknown[] = [];
    for (let turn = 0; turn < 100; turn++) {
      const way = turn % 7;
      const n = 1 + randomInt(way === 6 ? count - 1 : count);
      const entry = entries[n - 1];
      if (!entry) throw new Error("no entry");
      const undo: (() => Promise<void>)[] = [];
      const edit = async (field: "event" | "session" | "at" | "who" | "hash", value: string): Promise<void> => {
        await lab.edit(n, field, value);
        undo.push(() => lab.edit(n, field, String(entry[field])));
      };
      if (way === 0) await edit("event", "forgotten");
      else if (way === 1) await edit("session", freshHash());
      else if (way === 2) await edit("at", String(entry.at + 1));
      else if (way === 3) await edit("who", "nobody");
      else if (way === 4) await edit("hash", freshHash());
      else if (way === 5) {
        const copy = await start(); // what is removed does not come back
        await fill(copy.table);
        await copy.remove(n);
        const found = firstBroken(await logOf(copy.table));
        if (found?.n !== n) wrong.push([turn, way, n, found]);
        await copy.table.close();
        continue;
      } else {
        const other = n + 1 + randomInt(count - n);
        await lab.swap(n, other);
        undo.push(() => lab.swap(n, other));
      }
      const found = firstBroken(await logOf(lab.table));
      if (found?.n !== n) wrong.push([turn, way, n, found]);
      for (const step of undo) await step();
    }
    expect(wrong).toEqual([]);
    expect(firstBroken(await logOf(lab.table))).toBeUndefined();
    await lab.table.close();
  });

  test("an entry that was edited together with its own hash gives the next one away, the last one the head", async () => {
    const lab = await start();
    await fill(lab.table);
    const { entries } = await logOf(lab.table);
    for (const n of [3, entries.length]) {
      const [former, entry] = [entries[n - 2]?.hash ?? "", entries[n - 1]];
      if (!entry) throw new Error("no entry");
      await lab.edit(n, "who", "nobody");
      await lab.edit(n, "hash", entryHash(former, { ...entry, who: "nobody" }));
      expect(firstBroken(await logOf(lab.table))?.n).toBe(Math.min(n + 1, entries.length));
      await lab.edit(n, "who", entry.who);
      await lab.edit(n, "hash", entry.hash);
    }
    await lab.table.close();
  });

  test.each(HOMES)(
    "a chain restored from its backup into %s holds, and goes on; in the same home it is the same",
    async (target, startTarget) => {
      const [lab, other] = [await start(), await startTarget()];
      await fill(lab.table);
      await confirmedLetter(lab.table);
      await lab.table.begin("e".repeat(10), "");
      const path = join(folder, `${made++}.backup`);
      await backup(lab.table, path, new Date(NOW));
      await restore(other.table, path, "erase", new Date(NOW));
      const count = async (table: Table): Promise<number> => {
        let sum = 0;
        for await (const log of table.auditLogs()) {
          expect(firstBroken(log)).toBeUndefined();
          sum += log.entries.length;
        }
        return sum;
      };
      expect(await count(other.table)).toBe(await count(lab.table));
      if (home === target) expect(await other.table.auditHead(inBucket())).toBe(await lab.table.auditHead(inBucket()));
      await fill(other.table);
      expect(await count(other.table)).toBe((await count(lab.table)) + 12);
      await Promise.all([lab.table.close(), other.table.close()]);
    },
  );

  test("a backup whose audit log was edited is not restored", async () => {
    const [lab, other] = [await start(), await start()];
    await fill(lab.table);
    await lab.table.begin("e".repeat(10), "");
    const path = join(folder, `${made++}.backup`);
    await backup(lab.table, path, new Date(NOW));
    writeFileSync(path, readFileSync(path, "utf8").replace('"who":"mallory@m.example"', '"who":"bob@b.example"'));
    await expect(restore(other.table, path, "erase", new Date(NOW))).rejects.toThrow(/entry \d+ of its audit log/u);
    for await (const stored of other.table.stored()) throw new Error(`something was restored: ${stored.kind}`);
    await Promise.all([lab.table.close(), other.table.close()]);
  });
});
