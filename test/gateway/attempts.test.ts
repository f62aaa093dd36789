/** Attempts to log in: free failures, pauses that grow, and no way to lock somebody else out (RFC 4954 §9); at the door, and by a clock. */
import { afterEach, describe, expect, test } from "@jest/globals";
import { Attempts, type AttemptLimits } from "../../gateway/attempts.ts";
import { Users } from "../../gateway/users.ts";
import { parseMailbox } from "../../mime/address.ts";
import { PASSWORD, openTestDoor, quickHash, type TestDoor } from "./door.ts";
import { Talk } from "./talk.ts";

const LIMITS = { failures: 3, userFailures: 6, firstPause: 1_000, longestPause: 10_000 } as AttemptLimits;
const HERE = "192.0.2.1";
const ELSEWHERE = "198.51.100.7";

let time = 0;
const attempts = (): Attempts => new Attempts(LIMITS, () => time);

/** A failure. @returns false where it was put off */
async function fail(all: Attempts, address: string, name: string): Promise<boolean> {
  const attempt = await all.begin(address, name);
  attempt?.failed();
  return attempt !== undefined;
}

/** @returns whether it was let try */
async function succeed(all: Attempts, address: string, name: string): Promise<boolean> {
  const attempt = await all.begin(address, name);
  attempt?.succeeded();
  return attempt !== undefined;
}

describe("by the clock", () => {
  test("three failures are free, then each pause is twice the last, up to the longest", async () => {
    const all = new Attempts({ ...LIMITS, userFailures: 100 }, () => time);
    for (let at = 0; at < 3; at++) expect(await fail(all, HERE, "alice")).toBe(true);
    for (const pause of [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]) {
      time += pause - 1;
      expect(await fail(all, HERE, "alice")).toBe(false);
      time += 1;
      expect(await fail(all, HERE, "alice")).toBe(true);
    }
  });

  test("names tried in turn from one place count together, of IPv6 for the whole network", async () => {
    const all = attempts();
    for (const [at, name] of ["a", "b", "c"].entries()) expect(await fail(all, `2001:db8::${at}`, name)).toBe(true);
    expect(await fail(all, "2001:db8::9", "d")).toBe(false);
    expect(await fail(all, "2001:db8:0:1::9", "d")).toBe(true);
  });

  test("of attempts at once only so many are tried as may fail; the others wait for them, and are put off when they failed", async () => {
    const all = attempts();
    let tried = 0;
    const answers = Array.from({ length: 10 }, async () => {
      const attempt = await all.begin(HERE, "alice");
      if (!attempt) return false;
      tried++;
      await Promise.resolve();
      attempt.failed();
      return true;
    });
    expect((await Promise.all(answers)).filter(Boolean)).toHaveLength(3);
    expect(tried).toBe(3);
  });

  test("a hundred good attempts at once from one place all succeed, one after the other", async () => {
    const all = attempts();
    const answers = Array.from({ length: 100 }, () => succeed(all, HERE, "alice"));
    expect((await Promise.all(answers)).every(Boolean)).toBe(true);
  });

  test("who is put off is not put off for longer by asking", async () => {
    const all = attempts();
    for (let at = 0; at < 3; at++) await fail(all, HERE, "alice");
    for (let at = 0; at < 100; at++) expect(await fail(all, HERE, "alice")).toBe(false);
    time += 1_000;
    expect(await fail(all, HERE, "alice")).toBe(true);
  });

  test("a success, and an attempt that nobody could decide, count as nothing", async () => {
    const all = attempts();
    for (let at = 0; at < 10; at++) await succeed(all, HERE, "alice");
    for (let at = 0; at < 10; at++) (await all.begin(HERE, "alice"))?.undecided();
    expect(await all.begin(HERE, "alice")).toBeDefined();
  });

  test("a user who is hunted from everywhere gets in from a new place, at the first try only", async () => {
    const all = attempts();
    for (let at = 0; at < 60; at++) await fail(all, `203.0.113.${at}`, "alice");
    expect(await fail(all, ELSEWHERE, "alice")).toBe(true);
    expect(await fail(all, ELSEWHERE, "alice")).toBe(false);
    expect(await succeed(all, "198.51.100.8", "alice")).toBe(true);
    expect(await fail(all, "198.51.100.8", "alice")).toBe(true);
    expect(await fail(all, "198.51.100.8", "alice")).toBe(true); // who once came in from there may mistype
  });

  test("behind one address, somebody who came in from there before is not locked out by the others", async () => {
    const all = attempts();
    await succeed(all, HERE, "alice");
    for (let at = 0; at < 10; at++) await fail(all, HERE, "printer");
    expect(await fail(all, HERE, "printer")).toBe(false);
    expect(await fail(all, HERE, "carol")).toBe(false);
    expect(await succeed(all, HERE, "alice")).toBe(true);
  });

  test("failures are forgotten after an hour", async () => {
    const all = attempts();
    for (let at = 0; at < 3; at++) await fail(all, HERE, "alice");
    time += 60 * 60_000;
    for (let at = 0; at < 3; at++) expect(await fail(all, HERE, "alice")).toBe(true);
  });

  test("names of a megabyte and fifty thousand places take bounded room and time", async () => {
    const all = attempts();
    const long = "x".repeat(1 << 20);
    for (let at = 0; at < 1_000; at++) await fail(all, `10.${at >> 8}.${at & 255}.1`, `${at}${long}`);
    for (let at = 0; at < 50_000; at++) await fail(all, `11.${at >> 16}.${(at >> 8) & 255}.${at & 255}`, "alice");
    expect(await all.begin(HERE, "alice")).toBeDefined();
  });
});

describe("at the door", () => {
  let door: TestDoor | undefined;
  afterEach(() => door?.stop());

  async function tls(from?: string): Promise<Talk> {
    const talk = await Talk.openTls(door?.tlsPort ?? 0, door?.ca ?? "", from);
    await talk.say("EHLO client.example");
    return talk;
  }

  test("the sixth failure of an address is 454 whatever the password, and a good user from another one gets in", async () => {
    door = await openTestDoor({ limits: { failures: 5, userFailures: 20 } });
    for (let at = 0; at < 5; at++) expect(await (await tls()).login("alice", "wrong")).toMatch(/^535 5\.7\.8 /u);
    const bad = await tls();
    expect(await bad.login("alice", PASSWORD)).toBe("454 4.7.0 Too many failed attempts to log in; try again later");
    expect(await bad.login("carol", PASSWORD)).toMatch(/^454 4\.7\.0 /u);
    expect(await (await tls("127.0.0.2")).login("alice", PASSWORD)).toMatch(/^235 /u);
  });

  test("an honest client with twenty connections at once gets in with each", async () => {
    door = await openTestDoor({ limits: { failures: 5, userFailures: 20 } });
    const answers = Array.from({ length: 20 }, async () => (await tls()).login("alice", PASSWORD));
    expect((await Promise.all(answers)).filter((answer) => !answer.startsWith("235"))).toEqual([]);
  });

  test("LOGIN counts as PLAIN does", async () => {
    door = await openTestDoor({ limits: { failures: 2, userFailures: 20 } });
    const talk = await tls();
    for (const code of [/^535 /u, /^535 /u, /^454 /u]) {
      await talk.say("AUTH LOGIN");
      await talk.say(Buffer.from("alice").toString("base64"));
      expect(await talk.say(Buffer.from("wrong").toString("base64"))).toMatch(code);
    }
  });

  test("a thousand bad attempts at once starve nobody: an honest user gets in meanwhile", async () => {
    door = await openTestDoor({ limits: { connections: 5_000, perAddress: 5_000, perMinute: 5_000, failures: 5, userFailures: 20 } });
    const talks = await Promise.all(Array.from({ length: 100 }, () => tls()));
    const answers = talks.map(async (talk) => {
      const all: string[] = [];
      for (let at = 0; at < 10; at++) all.push((await talk.login("alice", `wrong${at}`)).slice(0, 3));
      return all;
    });
    expect(await (await tls("127.0.0.3")).login("alice", PASSWORD)).toMatch(/^235 /u);
    const codes = (await Promise.all(answers)).flat();
    expect(codes).toHaveLength(1_000);
    expect(codes.filter((code) => code === "535").length).toBeLessThanOrEqual(12); // five, and one after each pause
    expect(codes.filter((code) => code === "454").length).toBeGreaterThanOrEqual(988);
    for (const talk of talks) talk.close();
  });
});

test("of a thousand passwords at once two are hashed at a time and no more than twenty wait; the others are told so at once", async () => {
  const users = new Users([{ name: "alice", password: quickHash("alice-secret"), identities: [parseMailbox("alice@a.example")] }]);
  const outcomes = Array.from({ length: 1_000 }, () => users.authenticate("alice", "wrong").catch((thrown: unknown) => thrown));
  const busy = await Promise.all(outcomes.slice(20));
  expect(busy.every((outcome) => outcome instanceof Error && outcome.message === "busy")).toBe(true);
  expect((await Promise.all(outcomes.slice(0, 20))).every((outcome) => outcome === undefined)).toBe(true);
  expect(await users.authenticate("alice", "alice-secret")).toHaveProperty("name", "alice");
});
