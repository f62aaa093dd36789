/** Erased means erased: old copies of everything, with every key that the broker still has, open no letter that was opened. */
import { randomBytes } from "node:crypto";
import { cpSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "@jest/globals";
import { backup } from "../../broker/backup.ts";
import { dayOf } from "../../broker/day-keys.ts";
import type { MasterKey } from "../../broker/master-key.ts";
import type { NewRow } from "../../broker/session.ts";
import { openEmbeddedTable } from "../../broker/table-embedded.ts";
import { openRedisTable } from "../../broker/table-redis.ts";
import type { Table } from "../../broker/table.ts";
import { ContentKey } from "../../mime/key.ts";
import { temporaryFolder } from "../servers/process.ts";
import { startRedis } from "../servers/redis.ts";
import { BOB, confirmationOf, DAY, HOUR, letter, masterOf, NOW, next, releaseFrom, RETENTION, OUTCOMES } from "./table-homes.ts";

const running: { stop(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of running.splice(0).toReversed()) await one.stop();
});

interface Home {
  readonly table: Table;
  /** A table on a copy of everything the home has on its disk now. */
  steal(): Promise<Table>;
}

const keep = (table: Table): Table => {
  running.push({ stop: () => table.close() });
  return table;
};

const HOMES: readonly [string, () => Promise<Home>][] = [
  [
    "redis",
    async () => {
      const open = async (folder?: string) => {
        const redis = await startRedis(folder === undefined ? {} : { folder });
        running.push(redis);
        return { redis, table: keep(await openRedisTable({ url: redis.url, prefix: "k:", retention: RETENTION })) };
      };
      const { redis, table } = await open();
      return {
        table,
        async steal() {
          const copy = await temporaryFolder("stolen");
          cpSync(redis.folder, copy, { recursive: true });
          return (await open(copy)).table;
        },
      };
    },
  ],
  [
    "embedded",
    async () => {
      const folder = await temporaryFolder("home");
      const open = async (where: string) => keep(await openEmbeddedTable(join(where, "table.db"), { retention: RETENTION }));
      return {
        table: await open(folder),
        async steal() {
          const copy = await temporaryFolder("stolen");
          cpSync(folder, copy, { recursive: true });
          return open(copy);
        },
      };
    },
  ],
];

/** How many of these letters' keys come out of a table with these keys. */
async function opened(table: Table, master: MasterKey, rows: readonly NewRow[]): Promise<number> {
  let count = 0;
  for (const { session } of rows) {
    const row = await table.find(session);
    if (!row || !("wrappedKey" in row)) continue;
    try {
      master.unwrap(row.wrappedKey, row).wipe();
      count++;
    } catch {
      // this one stays shut
    }
  }
  return count;
}

describe.each(HOMES)("%s", (_name, start) => {
  test("copies of before the confirmations open all of 100 letters that day, and none once the day's key is destroyed", async () => {
    const { table, steal } = await start();
    const octets = randomBytes(32);
    const days = join(await temporaryFolder("days"), "days");
    const master = masterOf(octets, days);
    const rows = Array.from({ length: 100 }, () => {
      const row = letter();
      return { ...row, wrappedKey: master.wrap(ContentKey.generate(), row) };
    });
    await table.declare(rows, NOW + DAY);
    const stolen = await steal();
    const path = join(await temporaryFolder("backup"), "table.backup");
    await table.begin("an epoch", "");
    await backup(table, path, new Date(NOW));
    for (const { session } of rows) {
      const released = await releaseFrom(table, { session, recipient: BOB, at: NOW + HOUR, next: next() });
      if (released) await table.confirm(confirmationOf(released));
    }
    expect(await opened(stolen, masterOf(octets, days), rows)).toBe(100); // the same day: the drill has teeth
    expect(master.destroy(await table.daysInUse(), NOW + 30 * HOUR)).toEqual([dayOf(NOW)]);
    await table.compact();
    const after = masterOf(octets, days); // every key the broker still has
    expect(await opened(stolen, after, rows)).toBe(0);
    expect(await opened(await steal(), after, rows)).toBe(0);
    expect(await opened(await steal(), master, rows)).toBe(0); // nor does the broker itself
  });

  test("the key of a day on which one letter waits is kept, and that letter still opens", async () => {
    const { table } = await start();
    const master = masterOf(randomBytes(32), join(await temporaryFolder("days"), "days"));
    const row = letter();
    const waiting = { ...row, wrappedKey: master.wrap(ContentKey.generate(), row) };
    await table.declare([waiting], NOW + 5 * DAY);
    await table.dispatched([row.session], row.gateway, NOW);
    expect([...(await table.daysInUse())]).toEqual([dayOf(NOW)]);
    expect(master.destroy(await table.daysInUse(), NOW + 3 * DAY)).toEqual([]);
    expect(await opened(table, master, [waiting])).toBe(1);
    await table.sweep(row.expiresAt, OUTCOMES);
    expect(await table.daysInUse()).toEqual(new Set());
  });
});
