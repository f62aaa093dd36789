/** What is wrong with a ticket cannot be told from the work either: every refusal makes the same calls to Redis and writes one audit entry. The clock is asked by npm run oracle. */
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { newSessionId } from "../../broker/session.ts";
import { BUCKETS } from "../../broker/table-redis-address.ts";
import { openRedisTable } from "../../broker/table-redis.ts";
import { sweep } from "../../broker/sweep.ts";
import { sealTicket } from "../../broker/ticket.ts";
import { duration } from "../../config/units.ts";
import { startRedis, type RedisServer } from "../servers/redis.ts";
import {
  MINUTE,
  call,
  confirmAs,
  faceOf,
  forever,
  openHouse,
  proofBy,
  declaredTo,
  signedBy,
  ticketOf,
  type House,
  type Member,
} from "./house.ts";

let redis: RedisServer;
let house: House;
let alice: Member;
let bob: Member;

beforeAll(async () => {
  redis = await startRedis();
  const table = await openRedisTable({ url: redis.url, prefix: "k:", retention: duration("30d") });
  // The first refusal in a bucket makes its decoy.
  for (const bucket of BUCKETS) await table.sent(bucket.padEnd(64, "0"), ["nobody@b.example"]);
  house = await openHouse((embedded) => {
    void embedded.close();
    return table;
  });
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  bob = await (await house.gateway("b.example")).enrol("bob@b.example");
  await bob.gateway.enrol("carol@b.example");
});
afterAll(async () => {
  await house.stop();
  await redis.stop();
});

const sealed = (next: boolean): Buffer =>
  sealTicket({ sessionId: newSessionId(), nextSessionId: next ? newSessionId() : undefined }, house.broker.sessionKeys[0]!.certificate);
const released = async (to: string): Promise<Buffer> => {
  const ticket = await ticketOf(house, alice, to);
  if (to === "carol@b.example") return ticket;
  return (await bob.gateway.client.present(ticket, bob.identity, forever)).nextTicket;
};

/** A ticket that Bob gets nothing for: to present, or to confirm with. */
const WRONG: Readonly<Record<string, (step: string) => Promise<Buffer>>> = {
  unknown: async (step) => sealed(step === "confirm"),
  foreign: async () => released("carol@b.example"),
  expired: async () => {
    const ticket = await ticketOf(house, alice, "bob@b.example", { expiresAt: new Date(house.now().getTime() + MINUTE) });
    house.pass(2 * MINUTE);
    await sweep(house.broker);
    return ticket;
  },
  withdrawn: async () => {
    const ticket = await ticketOf(house, alice, "bob@b.example");
    await alice.gateway.client.withdraw([ticket], forever);
    return ticket;
  },
  used: async () => {
    const ticket = await ticketOf(house, alice, "bob@b.example");
    await confirmAs(house, bob, await bob.gateway.client.present(ticket, bob.identity, forever));
    return ticket;
  },
  "of octets that are no ticket": async () => randomBytes(400),
  "sealed to somebody else": async () =>
    sealTicket({ sessionId: newSessionId(), nextSessionId: undefined }, alice.identity.openers[0]!.certificate),
};

/** How often each command was called, our functions with what they call. */
const calls = (): string =>
  redis
    .cli("INFO", "commandstats")
    .replaceAll(/,usec=.*$/gmu, "")
    .split("\n")
    .filter((line) => line.startsWith("cmdstat_") && !/_(?:info|config|ping|client|hello|auth|function)/u.test(line))
    .toSorted()
    .join("\n");

const entries = (): number =>
  redis
    .cli("--scan", "--pattern", "k:aud:*")
    .split("\n")
    .filter(Boolean)
    .map((key) => Number(redis.cli("XLEN", key)))
    .reduce((sum, count) => sum + count, 0);

test.each(["present", "confirm"])(
  "%s: every kind of wrong ticket costs the same calls, writes one audit entry, and gets the same octets",
  async (step) => {
    const receipt = proofBy(house, bob, declaredTo(house, alice, "bob@b.example").commit).receipt.toString("base64");
    const seen: Record<string, unknown> = {};
    // Who confirms a letter that was his own and is confirmed is told what is wrong with his receipt: he knows the rest.
    const kinds = Object.entries(WRONG).filter(([kind]) => step === "present" || kind !== "used");
    for (const [kind, make] of kinds) {
      const ticket = (await make(step)).toString("base64");
      const body = signedBy(house, bob, step, step === "present" ? { ticket } : { nextTicket: ticket, result: "opened", receipt });
      const before = entries();
      redis.cli("SET", "k:registry", kind); // as a change does: nothing that was looked up before is remembered
      redis.cli("CONFIG", "RESETSTAT");
      const answer = await call(house, bob.gateway.channel, `/v1/${step}`, { body });
      const made = calls();
      seen[kind] = { made, entries: entries() - before, face: faceOf(answer) };
    }
    const [first] = Object.values(seen);
    expect(first).toMatchObject({ entries: 1, face: expect.stringContaining("session-gone") });
    expect(seen).toEqual(Object.fromEntries(kinds.map(([kind]) => [kind, first])));
  },
);
