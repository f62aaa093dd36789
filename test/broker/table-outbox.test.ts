/** The suite of the session table, the same for both homes: outbox, receipts, registry, and what is there after a restart. */
import { createHash } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { randomBytes } from "node:crypto";
import type { GatewayRecord, Invite, InviteUse, MailboxRecord, Revocation, Table } from "../../broker/table.ts";
import {
  confirmationOf,
  confirmedLetter,
  DAY,
  evidenceName,
  freshHash,
  GATEWAY,
  type Home,
  HOMES,
  HOUR,
  letter,
  NOW,
  OUTCOMES,
} from "./table-homes.ts";
import { OTHER_GATEWAY, type Place, releasedLetter, RETENTION } from "./table-homes.ts";

const invite = (changes: Partial<Invite> = {}): Invite => ({ token: freshHash(), scope: ["a.example"], expiresAt: NOW + HOUR, ...changes });
const USE: InviteUse = { key: "key", certificate: "certificate" };
const REVOKED: Revocation = { name: "5a", reason: "key-compromise", subject: "gateway a", at: NOW };
const gateway: GatewayRecord = {
  fingerprint: GATEWAY,
  name: "東京 gateway",
  scope: ["a.example", "böb@b.例え.example"],
  serial: "5a",
  enrolledAt: NOW,
  root: "cc",
  endsAt: NOW + DAY,
  renews: OTHER_GATEWAY,
};
const mailbox: MailboxRecord = {
  address: "böb@b.例え.example",
  gateway: GATEWAY,
  signingCertificate: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
  encryptionCertificate: "-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n",
  enrolledAt: NOW + 1,
};

describe.each(HOMES)("%s", (name, startHome) => {
  let home: Home;
  let place: Place;
  let table: Table;

  beforeAll(async () => void (home = await startHome()));
  afterAll(() => home.stop());
  beforeEach(async () => {
    place = home.place();
    table = await place.open();
  });
  afterEach(() => table.close());

  describe("outbox", () => {
    test("holds every confirmed letter until it is done, and the others stay", async () => {
      const rows = await Promise.all(Array.from({ length: 30 }, () => confirmedLetter(table)));
      const entries = rows.map(({ evidence, session }) => ({ evidence, session }));
      const pending = await table.pending();
      expect(pending).toHaveLength(30);
      expect(pending).toEqual(expect.arrayContaining(entries));
      const [first, ...others] = entries;
      if (first) await table.done(first);
      if (first) await table.done(first);
      expect(await table.pending()).toHaveLength(29);
      expect(await table.pending()).toEqual(expect.arrayContaining(others));
    });

    // The port promises an order only where the home knows one: Redis keeps the outbox in 256 hashes, which have none among them.
    const inOrder = name === "embedded" ? (list: string[]) => list : (list: string[]) => list.toSorted();
    test("hands every entry out, the oldest first where the home knows an order", async () => {
      const evidence: string[] = [];
      for (let count = 0; count < 20; count++) evidence.push((await confirmedLetter(table)).evidence);
      expect(inOrder((await table.pending()).map((entry) => entry.evidence))).toEqual(inOrder(evidence));
    });

    test("done of something else leaves the entry", async () => {
      const row = await confirmedLetter(table);
      await table.done({ evidence: evidenceName(), session: row.session });
      await table.done({ evidence: row.evidence, session: `${row.session.slice(0, 2)}${freshHash().slice(2)}` });
      expect(await table.pending()).toHaveLength(1);
    });

    test("keeps the first bytes of a receipt, octet by octet, and hands the same out to all who come later", async () => {
      const row = await confirmedLetter(table);
      expect(await table.receipt(row)).toBeUndefined();
      const first = Buffer.concat([Buffer.from([0, 13, 10, 255, 254]), randomBytes(100_000)]);
      expect((await table.keepReceipt(row, first)).equals(first)).toBe(true);
      expect((await table.keepReceipt(row, Buffer.from("second"))).equals(first)).toBe(true);
      expect((await table.receipt(row))?.equals(first)).toBe(true);
    });

    test("of fifty receipts kept at once one wins, and everyone is told which", async () => {
      const row = await confirmedLetter(table);
      const kept = await Promise.all(Array.from({ length: 50 }, (_none, at) => table.keepReceipt(row, Buffer.from(`receipt ${at}`))));
      const stored = await table.receipt(row);
      expect(stored).toBeInstanceOf(Buffer);
      for (const bytes of kept) expect(bytes).toEqual(stored);
    });

    test("keeps no receipt of a letter that was not confirmed under this evidence", async () => {
      const [released, confirmed] = [await releasedLetter(table), await confirmedLetter(table)];
      for (const { session } of [released, confirmed, letter()]) {
        const entry = { session, evidence: evidenceName() };
        await expect(table.keepReceipt(entry, Buffer.from("receipt"))).rejects.toMatchObject({ code: "internal" });
        expect(await table.receipt(entry)).toBeUndefined();
      }
    });

    test("a receipt stays after it is done for the retention time, and goes with its row", async () => {
      const row = await confirmedLetter(table);
      await table.keepReceipt(row, Buffer.from("the receipt"));
      await table.done(row);
      await table.sweep(row.confirmedAt + RETENTION, OUTCOMES);
      expect(await table.receipt(row)).toEqual(Buffer.from("the receipt"));
      expect(await table.keepReceipt(row, Buffer.from("another"))).toEqual(Buffer.from("the receipt"));
      await table.sweep(row.confirmedAt + RETENTION + 1, OUTCOMES);
      expect(await table.receipt(row)).toBeUndefined();
      expect(place.stored()).not.toContain("the receipt");
    });
  });

  describe("registry", () => {
    test("hands an invite to one of fifty who take it at once", async () => {
      const offered = invite({ scope: ["例え.example", "a.example"] });
      await table.addInvite(offered);
      const uses = Array.from({ length: 50 }, (_none, at) => ({ key: `key ${at}`, certificate: `certificate ${at}` }));
      const taken = await Promise.all(uses.map((use) => table.takeInvite(offered.token, NOW, use)));
      const [first, ...others] = taken.filter((answer) => answer !== undefined);
      expect(others).toEqual([]);
      expect(first?.invite).toEqual(offered);
      expect(uses).toContainEqual(first?.use);
      expect(await table.takeInvite(offered.token, NOW, { key: "late", certificate: "c" })).toBeUndefined();
    });

    test("gives an invite to the same key again with what it was used for, until it expires", async () => {
      const offered = invite();
      await table.addInvite(offered);
      const first = { key: "key", certificate: "first" };
      const again = { key: "key", certificate: "second" };
      const taken = await Promise.all([first, again, again].map((use) => table.takeInvite(offered.token, NOW, use)));
      expect(new Set(taken.map((one) => one?.use.certificate)).size).toBe(1);
      expect(await table.takeInvite(offered.token, offered.expiresAt - 1, again)).toEqual(taken[0]);
      expect(await table.takeInvite(offered.token, offered.expiresAt, again)).toBeUndefined();
    });

    test("hands an invite out until the last millisecond before its expiry", async () => {
      const [early, late] = [invite(), invite()];
      await table.addInvite(early);
      await table.addInvite(late);
      expect(await table.takeInvite(early.token, early.expiresAt - 1, USE)).toEqual({ invite: early, use: USE });
      expect(await table.takeInvite(late.token, late.expiresAt, USE)).toBeUndefined();
    });

    test("knows no invite, gateway or mailbox that was not put", async () => {
      await table.putGateway(gateway);
      await table.putMailbox(mailbox);
      expect(await table.takeInvite(freshHash(), NOW, USE)).toBeUndefined();
      expect(await table.takeInvite(gateway.fingerprint, NOW, USE)).toBeUndefined();
      expect(await table.findGateway(OTHER_GATEWAY)).toBeUndefined();
      expect(await table.findMailbox("bob@b.example")).toBeUndefined();
    });

    test("returns gateways and mailboxes as they were put, non-ASCII addresses included, the latest one", async () => {
      await table.putGateway({ ...gateway, name: "before" });
      await table.putGateway(gateway);
      await table.putMailbox({ ...mailbox, gateway: OTHER_GATEWAY });
      await table.putMailbox(mailbox, mailbox);
      expect(await table.findGateway(gateway.fingerprint)).toEqual(gateway);
      expect(await table.findMailbox(mailbox.address)).toEqual(mailbox);
      expect(await table.gateways()).toEqual([gateway]);
      expect(await table.mailboxes()).toEqual([mailbox]);
    });

    test("of ten that follow the same record of a mailbox one is kept, and the others learn that it was not theirs", async () => {
      const [one, other] = [await place.open(), await place.open()];
      const following = (at: number): MailboxRecord => ({ ...mailbox, signingCertificate: `signing ${at}` });
      for (const before of [undefined, following(0)]) {
        const records = Array.from({ length: 10 }, (_none, at) => following(before ? at + 10 : at));
        if (!before) expect(await one.putMailbox(mailbox, following(1))).toBe(false);
        const put = await Promise.all(records.map((record, at) => (at % 2 ? one : other).putMailbox(record, before)));
        expect(put.filter(Boolean)).toHaveLength(1);
        expect(await table.findMailbox(mailbox.address)).toEqual(records[put.indexOf(true)]);
        const kept = await table.findMailbox(mailbox.address);
        if (!before) expect(await one.putMailbox(following(0), kept)).toBe(true);
      }
      await Promise.all([one.close(), other.close()]);
    });

    test("a revocation counts from its first word on, is seen by everyone, and is in the audit once", async () => {
      const other = await place.open();
      expect(await other.isRevoked(["5a", "a1"])).toBe(false);
      expect(await table.revoke(REVOKED, "operator")).toEqual(REVOKED);
      expect(await other.revoke({ ...REVOKED, reason: "superseded", at: NOW + 1 }, "operator")).toEqual(REVOKED);
      expect(await other.isRevoked(["a1", "5a"])).toBe(true);
      expect(await other.isRevoked(["5", "a", "05a"])).toBe(false);
      expect(await other.revocations()).toEqual([REVOKED]);
      const named = createHash("sha256").update("5a").digest("hex");
      expect(place.audit(named)).toEqual([{ event: "revoked", at: NOW, who: "operator" }]);
      await other.close();
    });
  });

  test("closed and opened again, it has everything as it was", async () => {
    const [declared, released, confirmed] = [letter(), await releasedLetter(table), await confirmedLetter(table)];
    const offered = invite();
    await table.declare([declared], NOW + DAY);
    await table.keepReceipt(confirmed, Buffer.from("receipt"));
    await Promise.all([table.addInvite(offered), table.putGateway(gateway), table.putMailbox(mailbox), table.revoke(REVOKED, "operator")]);
    await table.close();

    table = await place.open();
    await table.ready();
    expect(await table.find(declared.session)).toEqual({ ...declared, state: "declared" });
    expect(await table.find(released.session)).toEqual(released);
    expect(await table.find(confirmed.session)).toEqual(confirmed);
    expect(await table.pending()).toEqual([{ evidence: confirmed.evidence, session: confirmed.session }]);
    expect(await table.receipt(confirmed)).toEqual(Buffer.from("receipt"));
    expect(await table.findInvite(offered.token, NOW)).toEqual(offered);
    expect(await table.revocations()).toEqual([REVOKED]);
    expect(await table.findGateway(GATEWAY)).toEqual(gateway);
    expect(await table.findMailbox(mailbox.address)).toEqual(mailbox);
    expect(await table.confirm(confirmationOf(released))).toMatchObject({ state: "confirmed" });
  });

  test("two who opened the same table see each other's steps", async () => {
    const other = await place.open();
    const row = await releasedLetter(table);
    expect(await other.find(row.session)).toEqual(row);
    const confirmed = await other.confirm(confirmationOf(row));
    expect(await table.find(row.session)).toEqual(confirmed);
    await other.close();
  });

  test("a closed table answers nothing more, and may be closed twice", async () => {
    const other = await place.open();
    await other.close();
    await other.close();
    await expect(other.find(freshHash())).rejects.toMatchObject({ code: "unavailable" });
  });
});
