/** The suite of the session table, the same for both homes: recall, T1 and T2, and what of them waits to be mailed. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import type { Ended, Session } from "../../broker/session.ts";
import type { Table } from "../../broker/table.ts";
import {
  ALICE,
  BOB,
  confirmationOf,
  confirmedLetter,
  DAY,
  delayOf,
  endOf,
  freshHash,
  GATEWAY,
  type Home,
  HOMES,
  HOUR,
  letter,
  MALLORY,
  next,
  NOW,
  OUTCOMES,
  type Place,
  recallFor,
  releasedLetter,
  RETENTION,
} from "./table-homes.ts";

/** Declared with these terms, and on its way. */
async function sentLetter(table: Table, terms: object = {}, changes: Parameters<typeof letter>[0] = {}) {
  const row = letter({ terms: JSON.stringify({ hold: "held", ...terms }), ...changes });
  await table.declare([row], NOW + DAY);
  await table.dispatched([row.session], GATEWAY, NOW);
  return row;
}

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
  const present = (session: string, at = NOW, recipient = BOB) =>
    table.release({
      session,
      mailboxes: [recipient],
      at,
      next: next(),
      ticket: Buffer.from("first"),
      filing: "f".repeat(32),
      claim: { holder: "one", until: at + HOUR },
      mac: freshHash(),
    });
  const waiting = async (session: string): Promise<string[]> =>
    (await table.pending()).filter((entry) => entry.session === session).map(({ evidence }) => evidence);

  describe("recall", () => {
    test.each([["declared"], ["dispatched"]])(
      "erases the key of a %s row and queues one report, in one step; again it says the same",
      async (state) => {
        const { wrappedKey, ticket, declaredMac, ...declaration } = letter();
        const { session } = declaration;
        await table.declare([{ ...declaration, wrappedKey, ticket, declaredMac }], NOW + DAY);
        if (state === "dispatched") await table.dispatched([session], GATEWAY, NOW);
        const first = (await recallFor(table, session, NOW + 1)) as Ended;
        const ending = { evidence: endOf(session), declaredMac, endedMac: first.ending?.endedMac, release: undefined };
        expect(first).toEqual({ ...declaration, state: "recalled", releasedAt: undefined, endedAt: NOW + 1, ending });
        expect(await recallFor(table, session, NOW + 2)).toEqual(first);
        expect(await table.find(session)).toEqual(first);
        expect(await waiting(session)).toEqual([endOf(session)]);
        expect(place.audit(session).filter(({ event }) => event === "recalled")).toEqual([{ event: "recalled", at: NOW + 1, who: ALICE }]);
      },
    );

    test("leaves a letter whose key was given out, and one that is confirmed, and tells when", async () => {
      const [released, confirmed] = [await releasedLetter(table), await confirmedLetter(table)];
      for (const row of [released, confirmed] as Session[]) {
        expect(await recallFor(table, row.session, NOW + 3 * HOUR)).toEqual(row);
        expect(await table.find(row.session)).toEqual(row);
        expect(events(row.session)).not.toContain("recalled");
      }
      expect(await table.confirm(confirmationOf(released))).toMatchObject({ state: "confirmed" });
    });

    test("is for the row's sender only: the recipient, a stranger and an unknown session change nothing, each recorded alike", async () => {
      const row = await sentLetter(table);
      for (const [session, who] of [
        [row.session, BOB],
        [row.session, MALLORY],
        [freshHash(), ALICE],
      ] as const) {
        expect(await recallFor(table, session, NOW + 5, [who])).toBeUndefined();
        expect(await table.sent(session, [who])).toBeUndefined();
        expect(place.audit(session).at(-1)).toEqual({ event: "recall refused", at: NOW + 5, who });
      }
      expect(await table.find(row.session)).toEqual({ ...row, state: "dispatched" });
      expect(await table.sent(row.session, [MALLORY, ALICE])).toEqual({ ...row, state: "dispatched" });
      expect(await recallFor(table, row.session, NOW + 6, [MALLORY, ALICE])).toMatchObject({ state: "recalled" });
    });

    test("after it the recipient learns that the letter was recalled, and everybody else what everybody learns", async () => {
      const row = await sentLetter(table);
      await recallFor(table, row.session, NOW);
      expect(await present(row.session, NOW + 1)).toBe("recalled");
      expect(await present(row.session, NOW + 1, MALLORY)).toBeUndefined();
      expect(await present(row.session, NOW + 1, ALICE)).toBeUndefined();
      expect(events(row.session).slice(-3)).toEqual(["release refused", "release refused", "release refused"]);
      expect(await table.dispatched([row.session], GATEWAY, NOW + 1)).toEqual([row.session]);
      await expect(table.declare([row], NOW + DAY)).rejects.toMatchObject({ code: "forbidden" });
    });

    test("leaves nothing to expire, and the row goes when its report was mailed the retention time ago", async () => {
      const { session, expiresAt } = await sentLetter(table);
      await recallFor(table, session, NOW);
      expect(await table.sweep(expiresAt + 2 * RETENTION, OUTCOMES)).toBe(0);
      await table.keepReceipt({ session, evidence: endOf(session) }, Buffer.from("the report"));
      await table.done({ session, evidence: endOf(session) });
      expect(await table.sweep(NOW + RETENTION, OUTCOMES)).toBe(0);
      expect(await table.sweep(NOW + RETENTION + 1, OUTCOMES)).toBe(1);
      expect(await table.find(session)).toBeUndefined();
      expect(place.stored()).not.toContain("the report");
    });

    test("of five hundred letters recalled and presented at once, each is either recalled or released, and both answers say which", async () => {
      const rows = Array.from({ length: 500 }, () => letter());
      await table.declare(rows, NOW + DAY);
      const second = await place.open(); // two brokers on one table
      const wins = { recalled: 0, released: 0 };
      try {
        for (let from = 0; from < rows.length; from += 50) {
          const raced = rows.slice(from, from + 50).map(async ({ session }, at) => {
            const [recall, release] =
              at % 2 === 0
                ? [() => recallFor(table, session, NOW), () => present(session)]
                : [() => recallFor(second, session, NOW), () => present(session)];
            const pair = at % 3 === 0 ? await Promise.all([recall(), release()]) : (await Promise.all([release(), recall()])).toReversed();
            return { session, recalled: pair[0] as Session, released: pair[1] as Awaited<ReturnType<typeof present>> };
          });
          for (const { session, recalled, released } of await Promise.all(raced)) {
            const isRecalled = recalled.state === "recalled";
            expect(released).toEqual(isRecalled ? "recalled" : expect.objectContaining({ state: "released" }));
            expect(recalled.state).toBe(isRecalled ? "recalled" : "released");
            expect(await table.find(session)).toMatchObject({ state: recalled.state });
            expect(await waiting(session)).toEqual(isRecalled ? [endOf(session)] : []);
            wins[isRecalled ? "recalled" : "released"]++;
          }
        }
      } finally {
        await second.close();
      }
      expect(wins.recalled + wins.released).toBe(500);
      expect(Math.min(wins.recalled, wins.released)).toBeGreaterThan(0); // it was a race
    });
  });

  describe("T1", () => {
    const warned = { warnAt: NOW + 2 * DAY };

    test("queues one notice of a letter that is on its way, at T1 and not before, whatever sweeps follow", async () => {
      const row = await sentLetter(table, warned);
      expect(await table.sweep(NOW + 2 * DAY - 1, OUTCOMES)).toBe(0);
      expect(await table.sweep(NOW + 2 * DAY, OUTCOMES)).toBe(1);
      expect(await table.sweep(NOW + 2 * DAY, OUTCOMES)).toBe(0);
      expect(await table.sweep(row.expiresAt - 1, OUTCOMES)).toBe(0);
      const delay = { delayedAt: NOW + 2 * DAY, delayedEvidence: delayOf(row.session), delayedMac: "d1".repeat(32) };
      expect(await table.find(row.session)).toEqual({ ...row, state: "dispatched", delay });
      expect(await waiting(row.session)).toEqual([delayOf(row.session)]);
      expect(place.audit(row.session).at(-1)).toEqual({ event: "delayed", at: NOW + 2 * DAY, who: "broker" });
      expect(await present(row.session, NOW + 3 * DAY)).toMatchObject({ state: "released", delay });
      expect(await table.sweep(row.expiresAt - 1, OUTCOMES)).toBe(0);
    });

    test("tells of a letter that was given out and not confirmed too, and of none that is confirmed or recalled", async () => {
      const [released, confirmed] = [await sentLetter(table, warned), await releasedLetter(table, { terms: JSON.stringify(warned) })];
      await present(released.session);
      await table.confirm(confirmationOf(confirmed));
      const recalled = await sentLetter(table, warned);
      await recallFor(table, recalled.session, NOW);
      expect(await table.sweep(NOW + 2 * DAY, OUTCOMES)).toBe(1);
      expect(await waiting(released.session)).toEqual([delayOf(released.session)]);
      expect(await waiting(recalled.session)).toEqual([endOf(recalled.session)]);
    });

    test("tells nothing of a letter that was never dispatched", async () => {
      const row = letter({ terms: JSON.stringify(warned) });
      await table.declare([row], NOW + 5 * DAY);
      expect(await table.sweep(NOW + 2 * DAY, OUTCOMES)).toBe(0);
      expect(await table.pending()).toEqual([]);
    });

    test.each<[string, object, number | undefined]>([
      ["as the sender wishes", { warnAt: NOW + DAY }, NOW + DAY],
      ["as the broker limits it", { warnAfter: 3 * DAY }, NOW + 3 * DAY],
      ["at the sender's wish where that is earlier", { warnAt: NOW + DAY, warnAfter: 3 * DAY }, NOW + DAY],
      ["at the broker's limit where the wish is later", { warnAt: NOW + 5 * DAY, warnAfter: 3 * DAY }, NOW + 3 * DAY],
      ["never where it would come with T2", { warnAt: NOW + 10 * DAY }, undefined],
      ["never where nobody wants it", {}, undefined],
    ])("is %s", async (_what, terms, at) => {
      const row = await sentLetter(table, terms);
      expect(await table.sweep((at ?? row.expiresAt) - 1, OUTCOMES)).toBe(0);
      if (at !== undefined) expect(await table.sweep(at, OUTCOMES)).toBe(1);
      expect(await waiting(row.session)).toEqual(at === undefined ? [] : [delayOf(row.session)]);
    });
  });

  describe("T2", () => {
    test("queues the report of an expired letter, never before, and keeps what proves its release", async () => {
      const [waits, given] = [await sentLetter(table), await releasedLetter(table)];
      expect(await table.sweep(waits.expiresAt - 1, OUTCOMES)).toBe(0);
      const second = await place.open();
      const swept = await Promise.all([table, second, table].map((one) => one.sweep(waits.expiresAt, OUTCOMES)));
      await second.close();
      expect(swept.reduce((sum, count) => sum + count, 0)).toBe(2);
      for (const { session } of [waits, given]) expect(await waiting(session)).toEqual([endOf(session)]);
      const { declaredMac, releasedMac, filing, session, releasedAt } = given;
      const ending = { evidence: endOf(session), declaredMac, endedMac: "e2".repeat(32), release: { filing, releasedMac } };
      expect(await table.find(session)).toMatchObject({ state: "expired", releasedAt, ending });
      expect(await recallFor(table, session, NOW)).toMatchObject({ state: "expired" });
    });

    test("a notice that still waits does not keep the row, and goes with it", async () => {
      const row = await sentLetter(table, { warnAt: NOW + DAY });
      await table.sweep(NOW + DAY, OUTCOMES);
      await table.keepReceipt({ session: row.session, evidence: delayOf(row.session) }, Buffer.from("the notice"));
      await table.sweep(row.expiresAt, OUTCOMES);
      expect((await waiting(row.session)).toSorted()).toEqual([delayOf(row.session), endOf(row.session)]);
      await table.done({ session: row.session, evidence: delayOf(row.session) });
      expect(await table.sweep(row.expiresAt + 2 * RETENTION, OUTCOMES)).toBe(0); // its report waits
      await table.done({ session: row.session, evidence: endOf(row.session) });
      expect(await table.sweep(row.expiresAt + RETENTION + 1, OUTCOMES)).toBe(1);
      expect(place.stored()).not.toContain("the notice");
    });
  });

  test("without a wish for a receipt the letter is confirmed, nothing waits, and the row goes after the retention", async () => {
    const released = await releasedLetter(table, { terms: '{"receipt":false}' });
    const { at } = confirmationOf(released);
    expect(await table.confirm(confirmationOf(released))).toMatchObject({ state: "confirmed", confirmedAt: at });
    expect(await table.pending()).toEqual([]);
    expect(await table.sweep(at + RETENTION, OUTCOMES)).toBe(0);
    expect(await table.sweep(at + RETENTION + 1, OUTCOMES)).toBe(1);
  });
});
