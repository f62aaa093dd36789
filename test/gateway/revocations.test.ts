/** A gateway and the broker's revocation list: fetched from the broker, verified, kept over restarts, and never forgotten in silence. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { createRoot, revocationList } from "../../broker/authority.ts";
import { revoke } from "../../broker/revoke.ts";
import { serialOf } from "../../mime/certificate.ts";
import { Revocations } from "../../gateway/revocations.ts";
import { BrokerClient } from "../../broker/client.ts";
import { DAY, forever, openHouse, ticketOf, type House, type Member } from "../broker/house.ts";
import { heardLog } from "../broker/happenings.ts";
import { temporaryFolder } from "../servers/process.ts";

let house: House;
let alice: Member;
let bob: Member;
let folder: string;

beforeAll(async () => {
  house = await openHouse();
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  bob = await (await house.gateway("b.example")).enrol("bob@b.example");
});
afterAll(() => house?.stop());
beforeEach(async () => void (folder = await temporaryFolder("revocations")));

function place() {
  const heard = heardLog();
  const revocations = new Revocations({ folder, roots: () => [house.broker.root.certificate], log: heard.log, now: house.now });
  return { heard, revocations, events: () => heard.lines.all.map(({ event }) => event) };
}
const brokerGiving = (list: () => Promise<Buffer>) => ({ revocationList: list });
const listOf = (number: number, serials: readonly string[] = [], root = house.broker.root): Promise<Buffer> =>
  revocationList(root, {
    number,
    thisUpdate: house.now(),
    nextUpdate: new Date(house.now().getTime() + DAY),
    entries: serials.map((serial) => ({ serial, at: house.now(), reason: "key-compromise" })),
  });
const away = brokerGiving(() => Promise.reject(new Error("away")));

test("what the broker revoked is known after a fetch, and after a restart without the broker", async () => {
  const { gateway } = await (await house.gateway("c.example")).enrol("carol@c.example");
  await revoke(house.table, { gateway: gateway.channel.certificate.fingerprint }, "key-compromise", house.now(), "test");
  const first = place();
  await first.revocations.load();
  expect(first.revocations.revoked.size).toBe(0);
  expect(await first.revocations.refresh(bob.gateway.client, forever)).toBe(true);
  expect(first.revocations.revoked.has(serialOf(gateway.channel.certificate))).toBe(true);
  const second = place();
  await second.revocations.load();
  expect(await second.revocations.refresh(away, forever)).toBe(true);
  expect([...second.revocations.revoked]).toEqual([...first.revocations.revoked]);
  expect(second.events()).toEqual(["revocations.not-fetched"]);
});

test("a list past its nextUpdate still counts, and says at every attempt that it is stale", async () => {
  const { revocations, events } = place();
  const list = await listOf(1, ["40ab"]);
  expect(
    await revocations.refresh(
      brokerGiving(async () => list),
      forever,
    ),
  ).toBe(true);
  house.pass(2 * DAY);
  for (let count = 0; count < 2; count++) expect(await revocations.refresh(away, forever)).toBe(false);
  expect(revocations.revoked.has("40ab")).toBe(true);
  expect(events().filter((event) => event === "revocations.stale")).toHaveLength(2);
});

test("without any list the gateway says so", async () => {
  const { revocations, events } = place();
  await revocations.load();
  expect(await revocations.refresh(away, forever)).toBe(false);
  expect(events()).toEqual(["revocations.not-fetched", "revocations.stale"]);
});

describe("keeps what it has where the broker gives", () => {
  test.each<[string, () => Promise<Buffer>]>([
    ["an older list", () => listOf(4)],
    [
      "the list of another root",
      async () => listOf(9, [], await createRoot("Foreign", new Date(Date.now() - DAY), new Date(Date.now() + DAY))),
    ],
    ["something that is no list", async () => Buffer.from("no list")],
    ["nothing", async () => Buffer.alloc(0)],
  ])("%s", async (_what, given) => {
    const { revocations, events } = place();
    const list = await listOf(5, ["40ab"]);
    await revocations.refresh(
      brokerGiving(async () => list),
      forever,
    );
    await revocations.refresh(brokerGiving(given), forever);
    expect([...revocations.revoked.keys()]).toEqual(["40ab"]);
    expect(events()).toContain("revocations.not-fetched");
    expect(readFileSync(join(folder, "broker.crl")).equals(list)).toBe(true);
  });
});

test("a kept list that was altered is named, and the next fetch replaces it", async () => {
  writeFileSync(join(folder, "broker.crl"), "altered");
  const { revocations, events } = place();
  await revocations.load();
  const list = await listOf(1, ["40ab"]);
  await revocations.refresh(
    brokerGiving(async () => list),
    forever,
  );
  expect(events()).toEqual(["revocations.not-valid", "revocations.new"]);
  expect(revocations.revoked.has("40ab")).toBe(true);
});

test("it is fetched at the start and goes on until the gateway stops", async () => {
  const { revocations } = place();
  const stopping = new AbortController();
  let fetched = 0;
  const list = await listOf(1);
  const broker = brokerGiving(async () => {
    if (++fetched === 3) stopping.abort();
    return list;
  });
  await revocations.keepFresh(broker, 1, stopping.signal);
  expect(fetched).toBe(3);
});

test("the client's trust has what is revoked now, not what was revoked when it was made", async () => {
  let revoked = new Map<string, Date>();
  const client = new BrokerClient({ ...alice.gateway.channel, revoked: () => revoked });
  expect(client.trust.revoked?.size).toBe(0);
  revoked = new Map([["40ab", house.now()]]);
  expect(client.trust.revoked?.size).toBe(1);
  await client.close();
});

test("of a broker whose own certificate is revoked no answer is taken, and letters wait for its operator", async () => {
  const { signer } = house.broker;
  const client = new BrokerClient({ ...bob.gateway.channel, revoked: () => new Map([[serialOf(signer.certificate), house.now()]]) });
  const ticket = await ticketOf(house, alice, "bob@b.example");
  await expect(client.present(ticket, bob.identity, forever)).rejects.toMatchObject({ code: "unavailable", retry: "later" });
  await client.close();
});
