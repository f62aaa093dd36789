/** What only the embedded session table has: a private file that holds its promises by itself, and other processes beside it. */
import { beforeEach, describe, expect, test } from "@jest/globals";
import { chmodSync, copyFileSync, existsSync, statSync } from "node:fs";
import { join } from "node:path";
import Database from "libsql";
import { openEmbeddedTable } from "../../broker/table-embedded.ts";
import { temporaryFolder } from "../servers/process.ts";
import {
  BOB,
  confirmationOf,
  DAY,
  embeddedPlace,
  freshHash,
  GATEWAY,
  HOUR,
  letter,
  next,
  NOW,
  releaseFrom,
  releasedLetter,
  RETENTION,
  OUTCOMES,
} from "./table-homes.ts";

let path: string;
beforeEach(async () => void (path = join(await temporaryFolder("table"), "new", "sessions.db")));

const open = (file = path) => openEmbeddedTable(file, { retention: RETENTION });
const modeOf = (file: string): string => (statSync(file).mode & 0o777).toString(8);

const stored = (): string => embeddedPlace(path).stored();

/** What kill -9 leaves behind: the files as they are, with nothing closed. */
function leftBehind(): string {
  const copy = `${path}.copy`;
  for (const suffix of ["", "-wal"]) copyFileSync(path + suffix, copy + suffix);
  return copy;
}

/** Another process that writes: it holds the lock until it lets go. */
function writer(): { letGo(): void } {
  const db = new Database(path);
  db.exec("BEGIN IMMEDIATE");
  return {
    letGo() {
      db.exec("ROLLBACK");
      db.close();
    },
  };
}

test("its files can be read by their owner only, whatever the umask, and also where the file was open to others before", async () => {
  const umask = process.umask(0);
  try {
    const table = await open();
    await table.declare([letter()], NOW + DAY);
    for (const suffix of ["", "-wal", "-shm"]) expect(modeOf(path + suffix)).toBe("600");
    expect(modeOf(join(path, ".."))).toBe("700");
    await table.close();
    const other = join(path, "..", "other.db");
    copyFileSync(path, other);
    chmodSync(other, 0o666);
    await (await open(other)).close();
    expect(modeOf(other)).toBe("600");
  } finally {
    process.umask(umask);
  }
});

test("after a kill -9 everything that was acknowledged is there", async () => {
  const table = await open();
  const acknowledged = [];
  for (let count = 0; count < 50; count++) acknowledged.push(await releasedLetter(table));
  const confirmed = await table.confirm(confirmationOf(await releasedLetter(table)));
  const copy = await open(leftBehind());
  for (const row of acknowledged) expect(await copy.find(row.session)).toEqual(row);
  expect(await copy.find(confirmed?.session ?? "")).toEqual(confirmed);
  expect(await copy.pending()).toHaveLength(1);
  await Promise.all([table.close(), copy.close()]);
});

test("a declaration of several rows is written as a whole or not at all", async () => {
  const table = await open();
  const [known, fresh] = [letter(), letter()];
  await table.declare([known], NOW + DAY);
  await expect(table.declare([fresh, { ...known, recipient: "m@m.example" }], NOW + DAY)).rejects.toMatchObject({ code: "forbidden" });
  expect(await table.find(fresh.session)).toBeUndefined();
  await table.close();
});

test("the sweep clears away an invite, and what it was used for, a day after its expiry, and nothing else of the registry", async () => {
  const table = await open();
  const [old, fresh, broken] = [freshHash(), freshHash(), freshHash()];
  const use = { key: freshHash(), certificate: "the certificate that was issued" };
  for (const [token, expiresAt] of [[old, NOW] as const, [fresh, NOW + 1] as const, [broken, NOW] as const])
    await table.addInvite({ token, scope: ["a.example"], expiresAt });
  await table.takeInvite(old, NOW - 1, use);
  await table.putGateway({ fingerprint: GATEWAY, name: "a", scope: ["a.example"], serial: "5a", enrolledAt: NOW });
  const db = new Database(path);
  db.prepare("UPDATE registry SET record = 'no JSON' WHERE kind = 'invite' AND name = ?").run([broken]);
  db.close();
  await table.sweep(NOW + DAY - 1, OUTCOMES);
  expect(stored()).toContain(old);
  expect(stored()).toContain(use.certificate);
  await table.sweep(NOW + DAY, OUTCOMES);
  expect(stored()).not.toContain(old);
  expect(stored()).not.toContain(use.certificate);
  expect(stored()).toContain(broken);
  expect(await table.findInvite(fresh, NOW)).toBeDefined();
  expect(await table.findGateway(GATEWAY)).toBeDefined();
  await table.close();
});

test.each([["confirmed"], ["withdrawn"], ["expired"]])(
  "no octet of the key of a %s letter is in any file after the next sweep",
  async (end) => {
    const table = await open();
    const wrappedKey = Buffer.from("the wrapped key of this letter, easily found");
    const row = letter({ wrappedKey, expiresAt: NOW + 3 * HOUR });
    await table.declare([row, ...Array.from({ length: 50 }, () => letter())], NOW + DAY);
    expect(stored()).toContain("easily found");
    if (end === "withdrawn") await table.withdraw(row.session, GATEWAY, NOW);
    else {
      const offer = { ...next(), ticket: Buffer.from("a next ticket to be found") };
      const released = await releaseFrom(table, { session: row.session, recipient: BOB, at: NOW, next: offer });
      expect(stored()).toContain("next ticket to be found");
      if (end === "confirmed" && released) await table.confirm(confirmationOf(released));
    }
    await table.sweep(end === "expired" ? row.expiresAt : NOW, OUTCOMES);
    expect(await table.find(row.session)).toMatchObject({ state: end });
    expect(stored()).not.toContain("easily found");
    expect(stored()).not.toContain("ticket to be found");
    await table.close();
  },
);

describe("while another process writes", () => {
  test("a step that has to wait too long is refused as unavailable and leaves nothing behind", async () => {
    const [table, other] = [await open(), writer()];
    const row = letter();
    await expect(table.declare([row], NOW + DAY)).rejects.toMatchObject({ code: "unavailable" });
    expect(await table.find(row.session)).toBeUndefined();
    other.letGo();
    await table.declare([row], NOW + DAY);
    expect(await table.find(row.session)).toMatchObject({ state: "declared" });
    await table.close();
  });

  test("the table is not ready", async () => {
    const [table, other] = [await open(), writer()];
    await expect(table.ready()).rejects.toMatchObject({ code: "unavailable" });
    other.letGo();
    await expect(table.ready()).resolves.toBeUndefined();
    await table.close();
  });
});

test("a file of another version is refused with its version, and not touched", async () => {
  await (await open()).close();
  const db = new Database(path);
  db.exec("PRAGMA user_version = 7");
  await expect(open()).rejects.toMatchObject({ code: "unavailable", message: expect.stringContaining("version 7") });
  expect(db.prepare("PRAGMA user_version").get([])).toMatchObject({ user_version: 7 });
  db.close();
});

test("a path that is no file is refused as unavailable", async () => {
  await expect(open("/dev/null/sessions.db")).rejects.toMatchObject({ code: "unavailable" });
  await expect(open("/")).rejects.toMatchObject({ code: "unavailable" });
  expect(existsSync(path)).toBe(false);
});

test.each([
  ["of no known state", "state = 'open'"],
  ["released without its key", "wrappedKey = NULL"],
  ["with a next session that is no hash", "nextSession = 'next'"],
  ["confirmed with its key still there", "state = 'confirmed', confirmedAt = 1, evidence = 'e', certificate = 'c'"],
])("a stored row %s is a fault, not an answer", async (_what, change) => {
  const table = await open();
  const { session } = await releasedLetter(table);
  const db = new Database(path);
  db.exec(`UPDATE session SET ${change}`);
  db.close();
  await expect(table.find(session)).rejects.toMatchObject({ code: "internal" });
  await expect(releaseFrom(table, { session, recipient: BOB, at: NOW, next: next() })).rejects.toMatchObject({ code: "internal" });
  await table.close();
});
