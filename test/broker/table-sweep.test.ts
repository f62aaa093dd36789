/** The suite of the session table, the same for both homes: what the sweep makes of rows as time goes by. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import type { Table } from "../../broker/table.ts";
import {
  ALICE,
  confirmedLetter,
  DAY,
  freshHash,
  GATEWAY,
  type Home,
  HOMES,
  HOUR,
  letter,
  NOW,
  type Place,
  releasedLetter,
  RETENTION,
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

  test("removes a row that was never dispatched from its vanishing time on, and not before", async () => {
    const row = letter();
    await table.declare([row], NOW + DAY);
    expect(await table.sweep(NOW + DAY - 1, OUTCOMES)).toBe(0);
    expect(await table.find(row.session)).toEqual({ ...row, state: "declared" });
    expect(await table.sweep(NOW + DAY, OUTCOMES)).toBe(1);
    expect(await table.find(row.session)).toBeUndefined();
    expect(place.audit(row.session).at(-1)).toEqual({ event: "vanished", at: NOW + DAY, who: "broker" });
  });

  test("never lets a row vanish that is on its way", async () => {
    const [dispatched, released] = [letter(), await releasedLetter(table)];
    await table.declare([dispatched], NOW + DAY);
    await table.dispatched([dispatched.session], GATEWAY, NOW);
    expect(await table.sweep(dispatched.expiresAt - 1, OUTCOMES)).toBe(0);
    expect(await table.find(dispatched.session)).toEqual({ ...dispatched, state: "dispatched" });
    expect(await table.find(released.session)).toEqual(released);
  });

  test("erases the key of a row past its expiry, given out or not, and tells when it was given out", async () => {
    const { wrappedKey, ticket, declaredMac, ...waiting } = letter();
    await table.declare([{ ...waiting, wrappedKey, ticket, declaredMac }], NOW + DAY);
    await table.dispatched([waiting.session], GATEWAY, NOW);
    const released = await releasedLetter(table);
    const at = released.expiresAt;
    expect(await table.sweep(at, OUTCOMES)).toBe(2);
    const ending = { evidence: endOf(waiting.session), declaredMac, endedMac: "e1".repeat(32), release: undefined };
    expect(await table.find(waiting.session)).toEqual({ ...waiting, state: "expired", releasedAt: undefined, endedAt: at, ending });
    const ended = { session: released.session, sender: ALICE, state: "expired", releasedAt: released.releasedAt, endedAt: at };
    expect(await table.find(released.session)).toMatchObject(ended);
    expect(place.audit(released.session).at(-1)).toEqual({ event: "expired", at, who: "broker" });
    expect(await table.sweep(at, OUTCOMES)).toBe(0);
  });

  test("expires a row that was never dispatched when the expiry comes before the vanishing time", async () => {
    const row = letter({ expiresAt: NOW + HOUR });
    await table.declare([row], NOW + DAY);
    expect(await table.sweep(NOW + HOUR, OUTCOMES)).toBe(1);
    expect(await table.find(row.session)).toMatchObject({ state: "expired" });
  });

  test("forgets an ended row when it ended longer than the retention ago", async () => {
    const rows = [letter(), letter({ expiresAt: NOW + 5 })];
    await table.declare(rows, NOW + DAY);
    await table.withdraw(rows[0]?.session ?? "", GATEWAY, NOW + 5);
    expect(await table.sweep(NOW + 5, OUTCOMES)).toBe(1);
    for (const entry of await table.pending()) await table.done(entry);
    expect(await table.sweep(NOW + 5 + RETENTION, OUTCOMES)).toBe(0);
    expect(await table.sweep(NOW + 6 + RETENTION, OUTCOMES)).toBe(2);
    for (const { session } of rows) {
      expect(await table.find(session)).toBeUndefined();
      expect(events(session).at(-1)).toBe("forgotten");
    }
  });

  test("forgets a confirmed row after the retention, but never while its receipt is not mailed", async () => {
    const row = await confirmedLetter(table);
    expect(await table.sweep(row.confirmedAt + 5 * RETENTION, OUTCOMES)).toBe(0);
    expect(await table.find(row.session)).toEqual(row);
    await table.done(row);
    expect(await table.sweep(row.confirmedAt + RETENTION, OUTCOMES)).toBe(0);
    expect(await table.sweep(row.confirmedAt + RETENTION + 1, OUTCOMES)).toBe(1);
    expect(await table.find(row.session)).toBeUndefined();
  });

  test("keeps to a retention that was made longer since the row ended", async () => {
    const row = letter();
    await table.declare([row], NOW + DAY);
    await table.withdraw(row.session, GATEWAY, NOW);
    await table.close();
    table = await place.open(2 * RETENTION);
    expect(await table.sweep(NOW + RETENTION + 1, OUTCOMES)).toBe(0);
    expect(await table.sweep(NOW + 2 * RETENTION, OUTCOMES)).toBe(0);
    expect(await table.sweep(NOW + 2 * RETENTION + 1, OUTCOMES)).toBe(1);
  });

  test("finds every row of many, and two sweeps at once count none twice", async () => {
    const rows = Array.from({ length: 450 }, () => letter({ session: `00${freshHash().slice(2)}` }));
    await table.declare(rows, NOW + DAY);
    const swept = await Promise.all([table.sweep(NOW + DAY, OUTCOMES), table.sweep(NOW + DAY, OUTCOMES)]);
    expect(swept[0] + swept[1]).toBe(450);
    expect(events(rows[449]?.session ?? "")).toEqual(["declared", "vanished"]);
  });
});
