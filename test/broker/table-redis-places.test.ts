/** Where Redis may be: behind TLS, under a user with few rights, in a cluster, behind sentinels whose failovers lose what replicas lack. */
import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { on } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "@jest/globals";
import { Redis } from "ioredis";
import { openRedisTable, type RedisTableOptions } from "../../broker/table-redis.ts";
import type { Table } from "../../broker/table.ts";
import { freePort } from "../servers/ports.ts";
import { temporaryFolder } from "../servers/process.ts";
import { startRedis, type RedisServer } from "../servers/redis.ts";
import { startSentinel } from "../servers/sentinel.ts";
import {
  again,
  BOB,
  confirmationOf,
  DAY,
  GATEWAY,
  HOUR,
  letter,
  NOW,
  next,
  releasedLetter,
  releaseFrom,
  RETENTION,
  OUTCOMES,
} from "./table-homes.ts";

const running: { stop(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of running.splice(0).toReversed()) await one.stop();
});

function keep<T extends { stop(): Promise<void> }>(one: T): T {
  running.push(one);
  return one;
}

async function opened(options: Partial<RedisTableOptions>): Promise<Table> {
  const table = await openRedisTable({ prefix: `${randomUUID()}:`, retention: RETENTION, ...options });
  running.push({ stop: () => table.close() });
  await table.ready();
  return table;
}

/** Everything that a broker does with its table. */
async function expectWorks(table: Table): Promise<void> {
  const rows = Array.from({ length: 40 }, () => letter());
  await table.declare(rows, NOW + DAY);
  await table.dispatched(
    rows.map(({ session }) => session),
    GATEWAY,
    NOW,
  );
  await table.putGateway({ fingerprint: GATEWAY, name: "a", scope: ["a.example"], serial: "5a", enrolledAt: NOW });
  const mailbox = { address: BOB, gateway: GATEWAY, signingCertificate: "s", encryptionCertificate: "e", enrolledAt: NOW };
  expect(await table.putMailbox(mailbox)).toBe(true);
  expect(await table.putMailbox(mailbox)).toBe(false);
  await table.revoke({ name: "5a", reason: "superseded", subject: "a", at: NOW }, "operator");
  expect(await table.isRevoked(["5a"])).toBe(true);
  expect(await table.gateways()).toHaveLength(1);
  expect(await table.findGateway(GATEWAY)).toMatchObject({ name: "a" });
  const confirmed = await table.confirm(confirmationOf(await releasedLetter(table)));
  if (!confirmed) throw new Error("not confirmed");
  const entry = { evidence: confirmed.evidence, session: confirmed.session };
  expect(await table.pending()).toEqual([entry]);
  expect(await table.claim(entry, { holder: "one", until: NOW + HOUR }, NOW)).toBe(true);
  expect(await table.keepReceipt(entry, Buffer.from("receipt"))).toEqual(Buffer.from("receipt"));
  await table.done(entry);
  expect((await table.daysInUse()).size).toBe(1);
  expect(await table.sweep(NOW + 10 * DAY, OUTCOMES)).toBe(40);
  await table.compact();
  await table.compact(); // one that runs already is as good
  let stored = 0;
  for await (const { kind } of table.stored()) if (kind !== "head") stored++; // as many as there are buckets
  expect(stored).toBe(41 + 1 + 3 + 40 * 3 + 1 + 1 + 2); // rows, a receipt, audit entries, a gateway, a mailbox, a revocation and its audit entry
}

test("a server behind TLS, under a certificate of one's own authority", async () => {
  const folder = await temporaryFolder("redis-tls");
  const [key, certificate] = [join(folder, "key.pem"), join(folder, "crt.pem")];
  const subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"];
  const ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
  execFileSync("openssl", ["req", "-x509", ...ec, "-nodes", "-days", "2", "-keyout", key, "-out", certificate, ...subject], {
    stdio: "ignore",
  });
  const tlsPort = await freePort();
  const files = [`tls-port ${tlsPort}`, `tls-cert-file ${certificate}`, `tls-key-file ${key}`, `tls-ca-cert-file ${certificate}`];
  const redis = keep(await startRedis({ lines: [...files, "tls-auth-clients no"] }));
  const url = redis.url.replace("redis://", "rediss://").replace(String(redis.port), String(tlsPort));
  await expectWorks(await opened({ url, ca: readFileSync(certificate, "utf8") }));
  await expect(openRedisTable({ url, prefix: "x:", retention: 1 })).rejects.toMatchObject({ code: "unavailable" }); // no authority that the system knows
});

test("a user who may do only what the table needs, below its prefix", async () => {
  const redis = keep(await startRedis());
  const rights =
    "+ping +wait +fcall +function|load +config|get +info +select +client|setname +hello +auth +scan +get +set +hget +hgetall +hmget +hset +hsetnx +hdel +hincrby +hexists +xadd +xrange +xrevrange +zadd +zrem +zrangebyscore +del +type +echo +quit +bgrewriteaof";
  expect(redis.cli("ACL", "SETUSER", "kakitome", "reset", "on", ">few-rights", "~kakitome:*", ...rights.split(" "))).toBe("OK");
  const url = redis.url.replace("default:testpass", "kakitome:few-rights");
  await expectWorks(await opened({ url, prefix: "kakitome:" }));
  const elsewhere = await opened({ url, prefix: "other:" });
  await expect(elsewhere.declare([letter()], NOW + DAY)).rejects.toMatchObject({
    code: "unavailable",
    cause: { message: expect.stringMatching(/NOPERM/u) },
  });
});

test("a cluster: every row in the slot of its bucket, whichever node has it", async () => {
  const start = async () => startRedis({ lines: ["cluster-enabled yes", `cluster-port ${await freePort()}`] });
  const nodes = [await start(), await start(), await start()];
  for (const node of nodes) keep(node);
  const hosts = nodes.map(({ port }) => ({ host: "127.0.0.1", port }));
  const addresses = hosts.map(({ host, port }) => `${host}:${port}`);
  nodes[0]?.cli("--no-auth-warning", "--cluster", "create", ...addresses, "--cluster-yes");
  await expectWorks(await opened({ cluster: hosts.slice(0, 2), password: "testpass" }));
  const sizes = nodes.map((node) => Number(node.cli("DBSIZE")));
  for (const size of sizes) expect(size).toBeGreaterThan(10);
  nodes[1]?.cli("CONFIG", "SET", "appendfsync", "everysec");
  await expect(opened({ cluster: hosts, password: "testpass" })).rejects.toMatchObject({ message: expect.stringMatching(/appendfsync/u) });
});

/** Failovers in the suite; more of them with KAKITOME_FAILOVERS. */
const FAILOVERS = Number(process.env["KAKITOME_FAILOVERS"] ?? 3);

describe("behind a sentinel", () => {
  test(
    `a replica that lags becomes primary, ${FAILOVERS} times: no key is given out twice, no letter gets two receipts`,
    async () => {
      const servers = await startPair();
      const sentinel = keep(await startSentinel(servers[0]));
      const address = {
        sentinel: { name: "kakitome", hosts: [{ host: "127.0.0.1", port: sentinel.port }] },
        user: "default",
        password: "testpass",
      };
      await knowsReplica(sentinel.port);
      const table = await opened({ ...address, replicas: 1 });
      const given = new Map<string, Set<string>>();
      for (let round = 0; round < FAILOVERS; round++) {
        const row = letter();
        const opened = await released(table, given);
        await again(() => table.declare([row], NOW + DAY));
        const [primary, replica] = primaryOf(servers) === servers[0] ? servers : ([servers[1], servers[0]] as const);
        const promoted = switched(sentinel.port);
        replica.cli("CONFIG", "SET", "masterauth", "wrong");
        primary.cli("CLIENT", "KILL", "TYPE", "replica"); // from here on the replica lags
        await expect(present(table, row.session, given)).rejects.toMatchObject({ code: "unavailable" });
        await expect(confirm(table, opened)).rejects.toMatchObject({ code: "unavailable" });
        expect(primary.cli("HGET", (await rowKey(primary, row.session)) ?? "", "state")).toBe("released"); // it was carried out, and not answered
        sentinel.cli("SENTINEL", "FAILOVER", "kakitome");
        await promoted;
        replica.cli("CONFIG", "SET", "masterauth", "testpass");
        primary.cli("REPLICAOF", "127.0.0.1", String(replica.port)); // the sentinel would do it too, after ten seconds
        await again(() => present(table, row.session, given));
        const first = await again(() => confirm(table, opened));
        expect((await again(() => confirm(table, opened)))?.evidence).toBe(first?.evidence);
        const receipts = (await again(() => table.pending())).filter(({ session }) => session === opened.session);
        expect(receipts).toHaveLength(1);
      }
      expect(given.size).toBe(2 * FAILOVERS);
      for (const answers of given.values()) expect(answers.size).toBe(1);
    },
    60_000 + FAILOVERS * 20_000,
  );
});

type Pair = readonly [RedisServer, RedisServer];

async function startPair(): Promise<Pair> {
  const lines = ["repl-diskless-sync-delay 0", "repl-ping-replica-period 1"];
  const primary = keep(await startRedis({ lines }));
  const replica = keep(await startRedis({ lines, replicaOf: primary.port }));
  return [primary, replica];
}

const primaryOf = (servers: Pair): RedisServer =>
  servers.find((server) => /^role:master/mu.test(server.cli("INFO", "replication"))) ?? servers[0];

/** Resolves when the sentinel has seen the replica. */
async function knowsReplica(port: number): Promise<void> {
  const listener = new Redis({ port });
  const asker = new Redis({ port });
  const heard = on(listener, "message");
  await listener.subscribe("+slave");
  const known = async (): Promise<boolean> => ((await asker.call("SENTINEL", "REPLICAS", "kakitome")) as unknown[]).length > 0;
  while (!(await known())) await heard.next();
  listener.disconnect();
  asker.disconnect();
}

/** Resolves when the next failover is over. */
async function switched(port: number): Promise<void> {
  const listener = new Redis({ port });
  const heard = on(listener, "message");
  await listener.subscribe("+switch-master");
  await heard.next();
  listener.disconnect();
}

/** Presents a ticket; what was given is remembered by its next session, which every second release would make anew. */
async function present(table: Table, session: string, given: Map<string, Set<string>>) {
  const row = await releaseFrom(table, { session, recipient: BOB, at: NOW + HOUR, next: next() });
  if (!row) throw new Error("nothing was released");
  given.set(session, (given.get(session) ?? new Set()).add(row.nextSession));
  return row;
}

async function released(table: Table, given: Map<string, Set<string>>) {
  const row = letter();
  await again(() => table.declare([row], NOW + DAY));
  return again(() => present(table, row.session, given));
}

async function confirm(table: Table, row: Parameters<typeof confirmationOf>[0]) {
  return table.confirm(confirmationOf(row));
}

async function rowKey(server: RedisServer, session: string): Promise<string | undefined> {
  return server.cli("--scan", "--pattern", `*row:*${session}`).split("\n")[0];
}
