/** T1 and T2 by two brokers in processes of their own, killed at every step of a report's way: each letter still gets one notice and one failure. */
import { cpSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { stringify } from "yaml";
import { BrokerClient, enrolGateway, type Identity } from "../../broker/client.ts";
import { initBroker, inviteGateway, rootOf } from "../../broker/main.ts";
import { openRedisTable } from "../../broker/table-redis.ts";
import type { Table } from "../../broker/table.ts";
import type { HaltPoint } from "../../config/halt.ts";
import { loadBroker } from "../../config/load.ts";
import { duration } from "../../config/units.ts";
import { parseMailbox, type Mailbox } from "../../mime/address.ts";
import { verifyProof } from "../../mime/proof.ts";
import { readReceipt } from "../../mime/report.ts";
import { newKey } from "../../mime/request.ts";
import { startHop, type Hop } from "../gateway/hop.ts";
import { freePort } from "../servers/ports.ts";
import { temporaryFolder } from "../servers/process.ts";
import { startRedis, type RedisServer } from "../servers/redis.ts";
import { COMMAND, startNode, type Process } from "../walks/kakitome.ts";
import { DAY, declaredTo, forever, letterFrom, MINUTE, type House, type Member } from "./house.ts";

const CLOCK = join(import.meta.dirname, "..", "servers", "clock-ahead.mjs");
/** Longer than a broker's claim on a report that it is mailing. */
const PAST_THE_CLAIM = 3 * MINUTE;
const LOOK_EVERY_MS = 20;
/** On the way of a report: claimed, built, kept, mailed. */
const POINTS: readonly HaltPoint[] = ["k4", "k5", "k6", "k8"];
const ALICE = parseMailbox("alice@a.example");
const BOB = parseMailbox("bob@b.example");

let redis: RedisServer;
let hop: Hop;
let table: Table;
let files: readonly [string, string];
let client: BrokerClient;

/** Time that was let go by for the brokers; each phase of the test begins a while later. */
let ahead = 0;
const running = new Set<Process>();

const run = async (file: string, halt?: HaltPoint): Promise<Process> => {
  const environment = { TEST_CLOCK_AHEAD: String(ahead), ...(halt && { KAKITOME_HALT: halt }) };
  const broker = startNode(["--import", CLOCK, COMMAND, "broker", "run", "--config", file], environment);
  running.add(broker);
  void broker.ended.then(() => running.delete(broker));
  await broker.until("start", ({ event }) => event === "broker.started");
  return broker;
};

/** Two brokers, of which one dies at the point and the other wherever it then is; then both come back. */
async function killedAt(point: HaltPoint): Promise<void> {
  const brokers = await Promise.all(files.map((file) => run(file, point)));
  await Promise.any(brokers.map((broker) => broker.until("halt", ({ event }) => event === "halted")));
  await Promise.all(brokers.map((broker) => broker.stop("SIGKILL")));
  ahead += PAST_THE_CLAIM;
  const again = await Promise.all(files.map((file) => run(file)));
  while ((await table.pending()).length > 0) await pause(LOOK_EVERY_MS);
  await Promise.all(again.map((broker) => broker.stop("SIGKILL")));
}

beforeAll(async () => {
  [redis, hop] = await Promise.all([startRedis(), startHop()]);
  const folder = await temporaryFolder("silence");
  writeFileSync(join(folder, "redis.password"), redis.password, { mode: 0o600 });
  const ports = [await freePort(), await freePort()];
  const url = `https://127.0.0.1:${ports[0]}`;
  const [one = "", two = ""] = ports.map((port, at) => {
    const file = join(folder, `${at}.yaml`);
    const receipts = {
      from: "receipts@broker.example",
      relay: { host: "127.0.0.1", port: hop.port, tls: "none" },
      retryFirst: "20ms",
      retryLongest: "50ms",
    };
    const place = { redis: `redis://default@127.0.0.1:${redis.port}`, passwordFile: "redis.password" };
    writeFileSync(file, stringify({ url, listen: `127.0.0.1:${port}`, data: `data${at}`, dayKeys: "days", table: place, receipts }));
    return file;
  });
  files = [one, two];
  const config = loadBroker(one);
  await initBroker(config.data, { url, receiptsFrom: config.receipts.from, now: new Date() });
  cpSync(config.data, loadBroker(two).data, { recursive: true });
  table = await openRedisTable({ url: redis.url, prefix: "kakitome:", retention: duration("30d") });
}, 30_000);
afterAll(async () => {
  await Promise.all([...running].map((broker) => broker.stop("SIGKILL")));
  await client?.close();
  await table?.close();
  await Promise.all([redis?.stop(), hop?.close()]);
});

/** Declares, over a broker that runs, what its owner never opens. */
async function declareAll(letters: readonly { messageId: string; warnAt: Date; expiresAt: Date; isGivenOut: boolean }[]): Promise<void> {
  const config = loadBroker(files[0]);
  const broker = await run(files[0]);
  const { token } = await inviteGateway(config, ["a.example", "b.example"], new Date());
  const key = newKey();
  const enrolled = await enrolGateway({ url: config.url, fingerprint: rootOf(config).fingerprint, token, name: "gw", key }, forever);
  const now = (): Date => new Date();
  client = new BrokerClient({ url: config.url, ...enrolled, key, timeout: 10_000, now });
  const [alice, bob] = [await identityOf(ALICE), await identityOf(BOB)];
  const house = { now, url: config.url, broker: { root: { certificate: rootOf(config) } } } as House;
  const member = { mailbox: ALICE, identity: alice, gateway: { client } } as unknown as Member;
  for (const { warnAt, isGivenOut, ...letter } of letters) {
    const recipients = [{ ...declaredTo(house, member, BOB.address), warnAt }];
    const [grant] = await client.declare(letterFrom(house, member, [], { ...letter, recipients }), alice, forever);
    const ticket = grant?.ticket ?? Buffer.alloc(0);
    await client.dispatched([ticket], forever);
    if (isGivenOut) await client.present(ticket, bob, forever);
  }
  await broker.stop();
}

async function identityOf(address: Mailbox): Promise<Identity> {
  const [signingKey, encryptionKey] = [newKey(), newKey()];
  const { signing, encryption } = await client.enrolMailbox({ address, aliases: [], signingKey, encryptionKey }, forever);
  return { signer: { key: signingKey, certificate: signing }, openers: [{ key: encryptionKey, certificate: encryption }] };
}

describe("of letters that nobody opens", () => {
  test("the sender gets one notice at T1 and one signed failure at T2, wherever two brokers die", async () => {
    const start = Date.now();
    const letters = POINTS.flatMap((point, at) =>
      [false, true].map((isGivenOut) => ({
        messageId: `<${point}.${isGivenOut ? "given" : "kept"}@a.example>`,
        warnAt: new Date(start + (2 * at + 2) * DAY),
        expiresAt: new Date(start + (2 * at + 3) * DAY),
        isGivenOut,
      })),
    );
    await declareAll(letters);

    /** What came of a point's letters so far, each report once however often it was mailed: `given Delayed`. */
    const reportsOf = (point: HaltPoint): string[] => {
      const mails = new Map(hop.attempts.all.map(({ mail }) => [mail.toString("latin1"), mail]));
      const read = [...mails.values()].map((mail) => ({ mail, evidence: readReceipt(mail, client.trust)?.evidence }));
      const own = read.filter(({ evidence }) => evidence?.messageId.startsWith(`<${point}.`));
      for (const { mail } of own)
        expect(verifyProof({ receipt: mail, original: undefined, payload: undefined }, client.trust).holds).toBe(true);
      return own
        .map(({ evidence }) => {
          const letter = evidence?.messageId.includes("given") ? "given" : "kept";
          const isReleased = evidence?.releasedAt === "" ? "never released" : "released";
          return `${letter} ${evidence?.event} ${isReleased}`;
        })
        .toSorted();
    };

    for (const [at, point] of POINTS.entries()) {
      ahead = (2 * at + 2) * DAY + MINUTE;
      await killedAt(point);
      const notices = ["given Delayed released", "kept Delayed never released"];
      expect([point, reportsOf(point)]).toEqual([point, notices]);
      ahead = (2 * at + 3) * DAY + MINUTE;
      await killedAt(point);
      const failures = ["given ContentHandoverFailure released", "kept ContentHandoverFailure never released"];
      expect([point, reportsOf(point)]).toEqual([point, [...failures, ...notices].toSorted()]);
    }
    const messageIds = hop.attempts.all.map(({ mail }) => /^Message-ID: (.*)$/imu.exec(mail.toString("latin1"))?.[1]);
    expect(new Set(messageIds).size).toBe(4 * POINTS.length);
  }, 120_000);
});
