/** Backup and restoring, from each home into each: what comes back is what was there, and no key comes back unasked. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { accept, backup, restore } from "../../broker/backup.ts";
import type { SessionHash } from "../../broker/session.ts";
import type { Table } from "../../broker/table.ts";
import { temporaryFolder } from "../servers/process.ts";
import {
  BOB,
  confirmationOf,
  confirmedLetter,
  DAY,
  freshHash,
  GATEWAY,
  HOMES,
  HOUR,
  letter,
  NOW,
  next,
  releasedLetter,
  releaseFrom,
  type Home,
  OUTCOMES,
} from "./table-homes.ts";

const homes = new Map<string, Home>();
const now = new Date(NOW + 3 * HOUR);
let path: string;

beforeAll(async () => {
  for (const [name, start] of HOMES) homes.set(name, await start());
});
afterAll(async () => {
  for (const home of homes.values()) await home.stop();
});
beforeEach(async () => {
  path = join(await temporaryFolder("backup"), "table.backup");
});

const fresh = async (name: string): Promise<Table> => {
  const home = homes.get(name);
  if (!home) throw new Error(name);
  return home.place().open();
};

/** A table with a letter in every state, a receipt, and everyone who takes part. */
async function filled(name: string): Promise<{ table: Table; waiting: SessionHash; sessions: SessionHash[] }> {
  const table = await fresh(name);
  const [declared, dispatched, withdrawn, late] = [letter(), letter(), letter(), letter({ expiresAt: NOW + 1 })];
  await table.declare([declared, dispatched, withdrawn, late], NOW + DAY);
  await table.dispatched([dispatched.session], GATEWAY, NOW);
  await table.withdraw(withdrawn.session, GATEWAY, NOW);
  await table.sweep(NOW + 1, OUTCOMES);
  const released = await releasedLetter(table);
  const [mailed, unmailed] = [await confirmedLetter(table), await confirmedLetter(table)];
  const entry = { evidence: mailed.evidence, session: mailed.session };
  await table.keepReceipt(entry, Buffer.from([0, 255, 10, 13]));
  await table.done(entry);
  await table.addInvite({ token: "t".repeat(64), scope: ["a.example"], expiresAt: NOW + DAY });
  await table.takeInvite("t".repeat(64), NOW, { key: "k", certificate: "c" });
  await table.putGateway({ fingerprint: GATEWAY, name: "a", scope: ["a.example"], serial: "5a", enrolledAt: NOW });
  await table.revoke({ name: "5a", reason: "superseded", subject: "a", at: NOW }, "operator");
  await table.putMailbox({ address: BOB, gateway: GATEWAY, signingCertificate: "s", encryptionCertificate: "e", enrolledAt: NOW });
  await table.begin("epoch-1", "");
  const rows = [declared, dispatched, withdrawn, late, released, mailed, unmailed];
  return { table, waiting: dispatched.session, sessions: rows.map(({ session }) => session) };
}

describe.each(HOMES.map(([from]) => from).flatMap((from) => HOMES.map(([to]) => [from, to] as const)))("from %s into %s", (from, to) => {
  test("every row, receipt and record comes back as it was, and the sweep still knows when to look", async () => {
    const { table, sessions } = await filled(from);
    await backup(table, path, now);
    const other = await fresh(to);
    expect((await restore(other, path, "release-again", now)).erased).toBe(0);
    for (const session of sessions) expect(await other.find(session)).toEqual(await table.find(session));
    const pending = await table.pending();
    expect(await other.pending()).toHaveLength(pending.length); // in another order between homes
    expect(await other.pending()).toEqual(expect.arrayContaining(pending));
    const mailed = await other.find(sessions.at(-2) ?? "");
    if (mailed?.state !== "confirmed") throw new Error("no confirmed row");
    expect(await other.receipt(mailed)).toEqual(Buffer.from([0, 255, 10, 13]));
    expect(await other.findGateway(GATEWAY)).toEqual(await table.findGateway(GATEWAY));
    expect(await other.findMailbox(BOB)).toEqual(await table.findMailbox(BOB));
    expect(await other.findInvite("t".repeat(64), NOW)).toMatchObject({ scope: ["a.example"] });
    expect(await other.takeInvite("t".repeat(64), NOW, { key: "another", certificate: "d" })).toBeUndefined(); // used before
    expect(await other.revocations()).toEqual(await table.revocations());
    expect(await other.isRevoked(["5a"])).toBe(true);
    for (const at of [NOW + DAY, NOW + 10 * DAY, NOW + 50 * DAY])
      expect(await other.sweep(at, OUTCOMES)).toBe(await table.sweep(at, OUTCOMES));
    await Promise.all([table.close(), other.close()]);
  });

  test("a letter that is confirmed meanwhile is kept as it was before, or with the receipt that is due", async () => {
    const table = await fresh(from);
    const inBucket = () => ({ session: `00${freshHash().slice(2)}` }); // Redis is read bucket by bucket
    const released = [];
    for (let count = 0; count < 6; count++) released.push(await releasedLetter(table, inBucket()));
    const other = await fresh(to);
    let isFirst = true;
    for await (const stored of table.stored()) {
      if (isFirst) for (const row of released) await table.confirm(confirmationOf(row));
      isFirst = false;
      await other.restore(stored);
    }
    const pending = (await other.pending()).map(({ session }) => session);
    for (const { session } of released) {
      const kept = await other.find(session);
      expect([session, kept?.state, pending.includes(session)]).toEqual([session, kept?.state, kept?.state === "confirmed"]);
    }
    await Promise.all([table.close(), other.close()]);
  });

  test("no key can be released unless the operator said so; with his word it can", async () => {
    const { table, waiting } = await filled(from);
    await backup(table, path, now);
    const [without, withWord] = [await fresh(to), await fresh(to)];
    const present = (where: Table) => releaseFrom(where, { session: waiting, recipient: BOB, at: NOW + 4 * HOUR, next: next() });
    expect((await restore(without, path, "erase", now)).erased).toBe(3);
    expect(await present(without)).toBeUndefined();
    expect(await without.find(waiting)).toMatchObject({ state: "expired", endedAt: now.getTime() });
    await restore(withWord, path, "release-again", now);
    expect(await present(withWord)).toMatchObject({ state: "released" });
    await Promise.all([table, without, withWord].map((one) => one.close()));
  });
});

describe.each(HOMES)("%s", (name) => {
  test("an older copy in the table's place can be accepted, without its keys or with them", async () => {
    const { table, waiting } = await filled(name);
    const released = await releasedLetter(table);
    expect((await accept(table, "epoch-1", "release-again", now)).erased).toBe(0);
    expect(await table.epoch()).not.toBe("epoch-1");
    expect((await accept(table, "epoch-1", "erase", now)).erased).toBe(4);
    expect(await releaseFrom(table, { session: waiting, recipient: BOB, at: NOW + HOUR, next: next() })).toBeUndefined();
    expect(await table.confirm(confirmationOf(released))).toBeUndefined();
    await table.close();
  });

  test("nothing is restored over a table that holds something, or from a backup that is cut off or altered", async () => {
    const { table } = await filled(name);
    await backup(table, path, now);
    await expect(restore(table, path, "erase", now)).rejects.toMatchObject({ code: "malformed" });
    await expect(backup(table, path, now)).rejects.toMatchObject({ code: "malformed" });
    const lines = readFileSync(path, "utf8").trimEnd().split("\n");
    const other = await fresh(name);
    for (const broken of [
      lines.slice(0, -1),
      lines.slice(1),
      [...lines.slice(0, 3), "{", ...lines.slice(4)],
      lines.filter((_line, at) => at !== 2),
      [],
    ]) {
      writeFileSync(path, broken.map((line) => `${line}\n`).join(""));
      await expect(restore(other, path, "erase", now)).rejects.toMatchObject({ code: "malformed" });
    }
    for await (const stored of other.stored()) throw new Error(`restored a ${stored.kind} of a broken backup`);
    await Promise.all([table.close(), other.close()]);
  });
});
