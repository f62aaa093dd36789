/** What a broker remembers of who may take part: asked once, and again from the first request after any broker changed something. */
import { afterAll, afterEach, beforeAll, expect, jest, test } from "@jest/globals";
import { openRedisTable } from "../../broker/table-redis.ts";
import { RememberedRegistry } from "../../broker/table-redis-view.ts";
import type { Table } from "../../broker/table.ts";
import { duration } from "../../config/units.ts";
import { startRedis, type RedisServer } from "../servers/redis.ts";

const GATEWAY = { fingerprint: "ab".repeat(32), name: "gateway.a.example", scope: ["a.example"], serial: "01", enrolledAt: 1 };
const MAILBOX = {
  address: "alice@a.example",
  gateway: GATEWAY.fingerprint,
  signingCertificate: "s",
  encryptionCertificate: "e",
  enrolledAt: 1,
};
const REVOCATION = { name: GATEWAY.serial, reason: "key-compromise", subject: "gateway", at: 1 } as const;

let redis: RedisServer;
let one: Table;
let other: Table;

beforeAll(async () => {
  redis = await startRedis();
  const open = () => openRedisTable({ url: redis.url, prefix: "k:", retention: duration("30d") });
  [one, other] = [await open(), await open()];
});
afterAll(async () => {
  await Promise.all([one?.close(), other?.close()]);
  await redis?.stop();
});
afterEach(() => void jest.restoreAllMocks());

const look = async () => {
  const view = await one.view();
  const [gateway, mailbox] = [await view.findGateway(GATEWAY.fingerprint), await view.findMailbox(MAILBOX.address)];
  return { gateway: gateway?.name, mailbox: mailbox?.enrolledAt, revoked: await view.isRevoked([GATEWAY.fingerprint, GATEWAY.serial]) };
};
const questions = (): number =>
  [...redis.cli("INFO", "commandstats").matchAll(/cmdstat_(?:get|hexists):calls=(\d+)/gu)].reduce(
    (sum, [, calls]) => sum + Number(calls),
    0,
  );

test("what another broker changes counts for the next request, and nothing is asked twice in between", async () => {
  expect(await look()).toEqual({ gateway: undefined, mailbox: undefined, revoked: false });
  await other.putGateway(GATEWAY);
  expect(await look()).toEqual({ gateway: GATEWAY.name, mailbox: undefined, revoked: false });
  await other.putMailbox(MAILBOX);
  expect(await look()).toEqual({ gateway: GATEWAY.name, mailbox: 1, revoked: false });
  await other.putMailbox({ ...MAILBOX, enrolledAt: 2 }, MAILBOX);
  expect((await look()).mailbox).toBe(2);
  const before = questions();
  await look();
  await look();
  expect(questions() - before).toBe(2); // whether something changed, each time
  await other.revoke(REVOCATION, "test");
  expect((await look()).revoked).toBe(true);
});

test("a change whose writer died before it said so counts five seconds later", async () => {
  await look();
  redis.cli("SET", `k:mailbox:${MAILBOX.address}`, JSON.stringify({ ...MAILBOX, enrolledAt: 3 }));
  expect((await look()).mailbox).toBe(2);
  const now = performance.now();
  jest.spyOn(performance, "now").mockReturnValue(now + 5_001);
  expect((await look()).mailbox).toBe(3);
});

test("a request that began before a change ends with what it met", async () => {
  const view = await one.view();
  const before = await view.findMailbox(MAILBOX.address);
  await other.putMailbox({ ...MAILBOX, enrolledAt: 4 }, MAILBOX);
  expect(await view.findMailbox(MAILBOX.address)).toEqual(before);
  expect((await look()).mailbox).toBe(4);
});

test("what could not be answered is asked again", async () => {
  let isAway = true;
  const registry = {
    findGateway: async () => undefined,
    findMailbox: async () => (isAway ? Promise.reject(new Error("away")) : MAILBOX),
    isRevoked: async () => false,
  };
  const view = new RememberedRegistry(registry);
  await expect(view.findMailbox("x")).rejects.toThrow("away");
  isAway = false;
  expect(await view.findMailbox("x")).toBe(MAILBOX);
});
