/** The days' wrapping keys: one for all brokers of a table, readable with the master key only, and gone when they are destroyed. */
import { randomBytes } from "node:crypto";
import { copyFileSync, readFileSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { beforeEach, expect, test } from "@jest/globals";
import { DayKeys, dayOf } from "../../broker/day-keys.ts";
import { temporaryFolder } from "../servers/process.ts";

const DAY = 86_400_000;
const NOW = Date.UTC(2026, 10, 23, 12);
const TODAY = dayOf(NOW);
const master = randomBytes(32);
let folder: string;

beforeEach(async () => {
  folder = join(await temporaryFolder("days"), "days");
});

const daysUnder = (...masters: [Buffer, ...Buffer[]]): DayKeys => new DayKeys(folder, { current: () => masters, reload: () => undefined });

test("every broker of a table has the same key for a day, whoever made it, and another one for the next day", () => {
  const [one, other] = [daysUnder(master), daysUnder(master)];
  const key = one.make(TODAY);
  expect(other.make(TODAY)).toEqual(key);
  expect(other.find(TODAY)).toEqual(key);
  expect(one.make(TODAY + 1)).not.toEqual(key);
  expect(other.find(TODAY + 2)).toBeUndefined();
});

test("its file is its owner's, holds the key only encrypted, and is refused under another master key or altered", () => {
  const key = daysUnder(master).make(TODAY);
  const path = join(folder, `${TODAY}.key`);
  expect(readdirSync(folder)).toEqual([`${TODAY}.key`]);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  const file = readFileSync(path);
  expect(file.includes(key)).toBe(false);
  expect(() => daysUnder(randomBytes(32)).find(TODAY)).toThrow(expect.objectContaining({ code: "internal" }));
  file[20] = (file[20] ?? 0) ^ 1;
  writeFileSync(path, file);
  expect(() => daysUnder(master).find(TODAY)).toThrow(expect.objectContaining({ code: "internal" }));
});

test("a file that a rotation overwrites while it is read is read again, and one that is destroyed then is gone", () => {
  const key = daysUnder(master).make(TODAY);
  const path = join(folder, `${TODAY}.key`);
  const file = readFileSync(path);
  const whileReading = (then: () => void): DayKeys => {
    writeFileSync(path, randomBytes(file.length));
    return new DayKeys(folder, { current: () => [master], reload: then });
  };
  expect(whileReading(() => writeFileSync(path, file)).find(TODAY)).toEqual(key);
  expect(whileReading(() => rmSync(path)).find(TODAY)).toBeUndefined();
});

test("only past days on which no letter waits are destroyed, in the file, in memory, and in every broker", () => {
  const [one, other] = [daysUnder(master), daysUnder(master)];
  for (const day of [TODAY - 3, TODAY - 2, TODAY - 1, TODAY]) one.make(day);
  const kept = other.find(TODAY - 3);
  const gone = one.find(TODAY - 2);
  expect(one.destroy(new Set([TODAY - 3]), NOW)).toEqual(expect.arrayContaining([TODAY - 2, TODAY - 1]));
  expect(gone?.every((octet) => octet === 0)).toBe(true);
  expect(readdirSync(folder).sort()).toEqual([`${TODAY - 3}.key`, `${TODAY}.key`].sort());
  expect(one.find(TODAY - 2)).toBeUndefined();
  expect(one.find(TODAY - 3)).toEqual(kept);
  expect(other.destroy(new Set(), NOW)).toEqual([TODAY - 3]);
  expect(kept?.every((octet) => octet === 0)).toBe(true);
});

test("a day that ended within the last hour is kept: a declaration of its last moment may still be on its way", () => {
  const keys = daysUnder(master);
  const midnight = (TODAY + 1) * DAY;
  keys.make(TODAY);
  expect(keys.destroy(new Set(), midnight + 59 * 60_000)).toEqual([]);
  expect(keys.destroy(new Set(), midnight + 61 * 60_000)).toEqual([TODAY]);
});

test("what a crash left of a file under its first name goes with the next destruction, unless a broker is still at work on it", () => {
  const keys = daysUnder(master);
  keys.make(TODAY);
  const [left, fresh] = ["00112233aabb", "44556677ccdd"].map((name) => join(folder, `${TODAY - 9}.key.${name}`)) as [string, string];
  for (const path of [left, fresh]) copyFileSync(join(folder, `${TODAY}.key`), path);
  utimesSync(left, new Date(), new Date(Date.now() - 2 * 60_000));
  expect(keys.destroy(new Set(), NOW)).toEqual([]);
  expect(readdirSync(folder).sort()).toEqual([`${TODAY}.key`, basename(fresh)].sort());
});
