/** The suite of the session table, the same for both homes: every step between the states of a row (the sweep, outbox and registry: table-*.test.ts). */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import type { Released } from "../../broker/session.ts";
import type { Table } from "../../broker/table.ts";
import {
  BOB,
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
  MALLORY,
  next,
  releaseFrom,
  CLAIM,
  NOW,
  OTHER_GATEWAY,
  type Place,
  releasedLetter,
  endOf,
  OUTCOMES,
} from "./table-homes.ts";

describe.each(HOMES)("%s", (_name, startHome) => {
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

  const events = (session: string): string[] => place.audit(session).map(({ event }) => event);
  const release = (session: string, at = NOW, recipient = BOB) => releaseFrom(table, { session, recipient, at, next: next() });

  test("is ready", async () => {
    await expect(table.ready()).resolves.toBeUndefined();
  });

  describe("declare", () => {
    test("writes every row as it was given, in state declared, and an audit entry for each", async () => {
      const rows = Array.from({ length: 20 }, (_none, at) => letter({ recipient: `r${at}@b.example`, messageId: "" }));
      await table.declare(rows, NOW + DAY);
      for (const row of rows) {
        expect(await table.find(row.session)).toEqual({ ...row, state: "declared" });
        expect(place.audit(row.session)).toEqual([{ event: "declared", at: NOW, who: GATEWAY }]);
      }
    });

    test("repeated with the same row changes nothing", async () => {
      const row = letter();
      await table.declare([row], NOW + DAY);
      await table.dispatched([row.session], GATEWAY, NOW);
      await table.declare([row], NOW + 2 * DAY);
      expect(await table.find(row.session)).toEqual({ ...row, state: "dispatched" });
      expect(events(row.session)).toEqual(["declared", "dispatched"]);
    });

    test.each([
      ["gateway", { gateway: OTHER_GATEWAY }],
      ["recipient", { recipient: MALLORY }],
      ["commitment", { commit: freshHash() }],
      ["form", { terms: '{"hold":"enclosed"}' }],
    ])("never overwrites a row by one with another %s", async (_what, changes) => {
      const row = letter();
      await table.declare([row], NOW + DAY);
      await expect(table.declare([{ ...row, ...changes }], NOW + DAY)).rejects.toMatchObject({ code: "forbidden" });
      expect(await table.find(row.session)).toEqual({ ...row, state: "declared" });
    });

    test("declared again, its first answer having been lost, is answered with the row of the first time", async () => {
      const row = letter();
      const again = {
        ...row,
        ticketHash: freshHash(),
        ticket: Buffer.from("t"),
        wrappedKey: Buffer.from("k"),
        declaredAt: NOW + 5,
        expiresAt: NOW + 9 * DAY,
      };
      const answers = [await table.declare([row], NOW + DAY), await table.declare([again], NOW + 2 * DAY)];
      expect(answers).toEqual([[{ ...row, state: "declared" }], [{ ...row, state: "declared" }]]);
      expect(events(row.session)).toEqual(["declared"]);
    });

    test("declared again after its key was given out, is refused", async () => {
      const { session } = await releasedLetter(table);
      await expect(table.declare([letter({ session })], NOW + DAY)).rejects.toMatchObject({ code: "forbidden" });
    });

    test.each([["find"], ["declare"], ["release"]])("%s refuses a session ID in the clear, and it is stored nowhere", async (method) => {
      const session = freshHash().slice(32);
      const steps: Record<string, () => Promise<unknown>> = {
        find: () => table.find(session),
        declare: () => table.declare([letter({ session })], NOW + DAY),
        release: async () => {
          const row = letter();
          await table.declare([row], NOW + DAY);
          await releaseFrom(table, { session: row.session, recipient: BOB, at: NOW, next: { session, ticket: Buffer.from("t") } });
        },
      };
      await expect(steps[method]?.()).rejects.toMatchObject({ code: "internal" });
      expect(place.stored()).not.toContain(session);
    });
  });

  test("find knows nothing of a session that was never declared", async () => {
    await expect(table.find(freshHash())).resolves.toBeUndefined();
  });

  describe("dispatched", () => {
    test("marks the declared rows of the gateway, and no other", async () => {
      const [mine, foreign, confirmed] = [letter(), letter({ gateway: OTHER_GATEWAY }), await confirmedLetter(table)];
      await table.declare([mine, foreign], NOW + DAY);
      await table.dispatched([mine.session, foreign.session, confirmed.session, freshHash()], GATEWAY, NOW + 1);
      expect(await table.find(mine.session)).toEqual({ ...mine, state: "dispatched" });
      expect(await table.find(foreign.session)).toEqual({ ...foreign, state: "declared" });
      expect(await table.find(confirmed.session)).toEqual(confirmed);
      expect(place.audit(mine.session).at(-1)).toEqual({ event: "dispatched", at: NOW + 1, who: GATEWAY });
    });

    test("leaves a released row as it is, and its key can still be fetched", async () => {
      const row = await releasedLetter(table);
      await table.dispatched([row.session], GATEWAY, NOW + 2 * HOUR);
      expect(await table.find(row.session)).toEqual(row);
      expect(await release(row.session)).toEqual({ ...row, releases: 2 });
      expect(events(row.session)).toEqual(["declared", "released"]);
    });
  });

  describe("withdraw", () => {
    test.each([["declared"], ["dispatched"]])("erases the key of a %s row, says so now and again, and keeps the rest", async (state) => {
      const { wrappedKey, ticket, declaredMac, ...declaration } = letter();
      const { session } = declaration;
      await table.declare([{ ...declaration, wrappedKey, ticket, declaredMac }], NOW + DAY);
      if (state === "dispatched") await table.dispatched([session], GATEWAY, NOW);
      expect(await table.withdraw(session, GATEWAY, NOW + 1)).toBe(true);
      expect(await table.withdraw(session, GATEWAY, NOW + 2)).toBe(true);
      expect(await table.find(session)).toEqual({ ...declaration, state: "withdrawn", releasedAt: undefined, endedAt: NOW + 1 });
      expect(events(session).filter((event) => event === "withdrawn")).toHaveLength(1);
      expect(await release(session, NOW + 2)).toBeUndefined();
    });

    test("leaves a row whose key was given out, and the recipient can still confirm it", async () => {
      const row = await releasedLetter(table);
      expect(await table.withdraw(row.session, GATEWAY, NOW + 2 * HOUR)).toBe(false);
      expect(await table.confirm(confirmationOf(row))).toMatchObject({ state: "confirmed" });
      expect(await table.withdraw(row.session, GATEWAY, NOW + 3 * HOUR)).toBe(false);
    });

    test("leaves the row of another gateway, and an unknown one", async () => {
      const row = letter();
      await table.declare([row], NOW + DAY);
      expect(await table.withdraw(row.session, OTHER_GATEWAY, NOW)).toBe(false);
      expect(await table.withdraw(freshHash(), GATEWAY, NOW)).toBe(false);
      expect(await table.find(row.session)).toEqual({ ...row, state: "declared" });
    });
  });

  describe("release", () => {
    test.each([["declared"], ["dispatched"]])("S7: gives the key of a %s row out and stores the next session", async (state) => {
      const row = letter();
      await table.declare([row], NOW + DAY);
      if (state === "dispatched") await table.dispatched([row.session], GATEWAY, NOW);
      const offer = next();
      const released = await releaseFrom(table, { session: row.session, recipient: BOB, at: NOW + 1, next: offer });
      const { ticket: _ticket, ...kept } = row;
      const given = { state: "released", releasedAt: NOW + 1, nextSession: offer.session, nextTicket: offer.ticket };
      const made = { filing: expect.stringMatching(/^[0-9a-f]{32}$/u), releasedMac: expect.stringMatching(/^[0-9a-f]{64}$/u) };
      const expected = { ...kept, ...given, releases: 1, ...made };
      expect(released).toEqual(expected);
      expect(await table.find(row.session)).toEqual(expected);
      expect(place.audit(row.session).at(-1)).toEqual({ event: "released", at: NOW + 1, who: BOB });
    });

    test("S7: of two hundred presentations at once, one release record and 200 identical answers", async () => {
      const row = letter();
      await table.declare([row], NOW + DAY);
      const answers = await Promise.all(Array.from({ length: 200 }, (_none, at) => release(row.session, NOW + at)));
      const stored = await table.find(row.session);
      expect(stored).toMatchObject({ state: "released" });
      for (const answer of answers) expect({ ...answer, releases: 200 }).toEqual(stored);
      expect(answers.map((answer) => answer?.releases).sort((a = 0, b = 0) => a - b)).toEqual(answers.map((_none, at) => at + 1));
      expect(events(row.session)).toEqual(["declared", "released"]);
    });

    test("is for one gateway at a time: another one waits until the claim has ended, and then goes on", async () => {
      const row = letter();
      await table.declare([row], NOW + DAY);
      const present = (holder: string, at: number) =>
        table.release({
          session: row.session,
          mailboxes: [BOB],
          at,
          next: next(),
          ticket: Buffer.from("first"),
          mac: freshHash(),
          filing: "f".repeat(32),
          claim: { holder, until: at + CLAIM },
        });
      const first = await present("one", NOW);
      expect(await present("two", NOW + CLAIM - 1)).toBe("claimed");
      expect(await present("one", NOW + CLAIM - 1)).toEqual({ ...(first as Released), releases: 2 });
      expect(await present("two", NOW + CLAIM)).toBe("claimed");
      expect(await present("two", NOW + 2 * CLAIM - 1)).toEqual({ ...(first as Released), releases: 3 });
      expect(await present("one", NOW + 2 * CLAIM)).toBe("claimed");
      expect(events(row.session)).toEqual(["declared", "released"]);
    });

    test("gives nothing to a foreign recipient, whatever the state, and records who asked", async () => {
      const [waiting, released, confirmed] = [letter(), await releasedLetter(table), await confirmedLetter(table)];
      await table.declare([waiting], NOW + DAY);
      for (const { session } of [waiting, released, confirmed]) {
        const before = await table.find(session);
        expect(await release(session, NOW + 5, MALLORY)).toBeUndefined();
        expect(await table.find(session)).toEqual(before);
        expect(place.audit(session).at(-1)).toEqual({ event: "release refused", at: NOW + 5, who: MALLORY });
      }
      expect(await release(waiting.session)).toMatchObject({ state: "released" });
    });

    test("gives nothing for an unknown session, nor for one that expired, was withdrawn or confirmed, and records each refusal alike", async () => {
      const [unknown, expired, withdrawn] = [freshHash(), letter(), letter()];
      const { session: confirmed } = await confirmedLetter(table);
      await table.declare([expired, withdrawn], NOW + DAY);
      await table.withdraw(withdrawn.session, GATEWAY, NOW);
      for (const session of [unknown, withdrawn.session, confirmed, expired.session]) {
        const at = session === expired.session ? expired.expiresAt : NOW;
        expect(await release(session, at)).toBeUndefined();
        expect(place.audit(session).at(-1)).toEqual({ event: "release refused", at, who: BOB });
      }
    });

    test("S7: gives the first ticket again where the terms say so, and for any of the presenter's mailboxes", async () => {
      const row = letter({ terms: '{"confirm":"same-session"}' });
      await table.declare([row], NOW + DAY);
      const ticket = Buffer.from([1, 0, 255]);
      const claim = { holder: "one", until: NOW + CLAIM };
      const order = { session: row.session, at: NOW, next: next(), ticket, filing: "f".repeat(32), claim, mac: freshHash() };
      expect(await table.release({ ...order, mailboxes: [MALLORY, "carol@b.example"] })).toBeUndefined();
      const released = await table.release({ ...order, mailboxes: ["carol@b.example", BOB] });
      expect(released).toMatchObject({ nextSession: row.session, nextTicket: ticket, releasedMac: order.mac });
      expect(place.audit(row.session).map(({ who }) => who)).toEqual([GATEWAY, MALLORY, BOB]);
    });

    test("what was given out is shown to its recipient only, and nothing else to anyone", async () => {
      const [waiting, released, confirmed] = [letter(), await releasedLetter(table), await confirmedLetter(table)];
      await table.declare([waiting], NOW + DAY);
      expect(await table.givenOut(released.session, [MALLORY, BOB])).toEqual(released);
      expect(await table.givenOut(confirmed.session, [BOB])).toEqual(confirmed);
      expect(await table.givenOut(released.session, [MALLORY])).toBeUndefined();
      expect(await table.givenOut(waiting.session, [BOB])).toBeUndefined();
      expect(await table.givenOut(freshHash(), [BOB])).toBeUndefined();
    });

    test.each([["for the first time"], ["again"]])("gives the key %s until the last millisecond before the expiry", async (when) => {
      const row = letter();
      await table.declare([row], NOW + DAY);
      if (when === "again") await release(row.session);
      expect(await release(row.session, row.expiresAt)).toBeUndefined();
      expect(await release(row.session, row.expiresAt - 1)).toMatchObject({ state: "released", wrappedKey: row.wrappedKey });
    });

    test("gives nothing once the letter is confirmed or has expired", async () => {
      const [confirmed, row] = [await confirmedLetter(table), letter()];
      await table.declare([row], NOW + 20 * DAY);
      await table.sweep(row.expiresAt, OUTCOMES);
      expect(await release(confirmed.session)).toBeUndefined();
      expect(await release(row.session)).toBeUndefined();
    });
  });

  describe("confirm", () => {
    test("S10: erases the key and the next ticket, keeps the rest, and queues the receipt", async () => {
      const released = await releasedLetter(table);
      const { wrappedKey, nextTicket, filing: _filing, releases: _releases, declaredMac: _1, releasedMac: _2, ...rest } = released;
      const order = confirmationOf(released);
      const { evidence, certificate, proof, session, mac } = order;
      const expected = { ...rest, state: "confirmed", confirmedAt: order.at, evidence, certificate, proof, confirmedMac: mac };
      expect([wrappedKey.length, nextTicket.length]).toEqual([60, 264]);
      expect(await table.confirm(order)).toEqual(expected);
      expect(await table.find(session)).toEqual(expected);
      expect(await table.pending()).toEqual([{ evidence, session }]);
      expect(place.audit(session).at(-1)).toEqual({ event: "confirmed", at: order.at, who: BOB });
    });

    test("of a hundred confirmations at once, one is stored and all get its answer; so does a later one past the expiry", async () => {
      const released = await releasedLetter(table);
      const orders = Array.from({ length: 100 }, (_none, at) => confirmationOf(released, NOW + 2 * HOUR + at));
      const answers = await Promise.all(orders.map((order) => table.confirm(order)));
      const later = await table.confirm(confirmationOf(released, released.expiresAt + DAY));
      const stored = await table.find(released.session);
      for (const answer of [...answers, later]) expect(answer).toEqual(stored);
      expect(await table.pending()).toHaveLength(1);
      expect(events(released.session)).toEqual(["declared", "released", "confirmed"]);
    });

    test("is refused with another next session, before and after the right one", async () => {
      const released = await releasedLetter(table);
      const wrong = { ...confirmationOf(released), nextSession: freshHash() };
      expect(await table.confirm(wrong)).toBeUndefined();
      expect(await table.find(released.session)).toEqual(released);
      const confirmed = await table.confirm(confirmationOf(released));
      expect(await table.confirm(wrong)).toBeUndefined();
      expect(await table.find(released.session)).toEqual(confirmed);
      expect(await table.pending()).toHaveLength(1);
    });

    test("is refused to a foreign recipient who knows the next session, and recorded", async () => {
      const released = await releasedLetter(table);
      expect(await table.confirm({ ...confirmationOf(released, NOW + 7), recipient: MALLORY })).toBeUndefined();
      expect(await table.find(released.session)).toEqual(released);
      expect(await table.pending()).toEqual([]);
      expect(place.audit(released.session).at(-1)).toEqual({ event: "confirm refused", at: NOW + 7, who: MALLORY });
    });

    test("is refused where no key was given out", async () => {
      const [declared, withdrawn, expired] = [letter(), letter(), await releasedLetter(table, { expiresAt: NOW + 2 * HOUR })];
      await table.declare([declared, withdrawn], NOW + DAY);
      await table.withdraw(withdrawn.session, GATEWAY, NOW);
      await table.sweep(NOW + 2 * HOUR, OUTCOMES);
      for (const session of [declared.session, withdrawn.session, expired.session, freshHash()]) {
        const order = {
          session,
          nextSession: expired.nextSession,
          recipient: BOB,
          at: NOW,
          evidence: evidenceName(),
          certificate: freshHash(),
          proof: "{}",
          mac: freshHash(),
        };
        expect(await table.confirm(order)).toBeUndefined();
      }
      expect(await table.pending()).toEqual([{ evidence: endOf(expired.session), session: expired.session }]);
    });

    test("of a key that was given out in time is taken until the sweep has erased it: the letter was opened", async () => {
      const released = await releasedLetter(table);
      expect(await table.confirm(confirmationOf(released, released.expiresAt + 1))).toMatchObject({ state: "confirmed" });
    });
  });
});
