/** The two homes of the session table for its suite, each with a look past the port at what is really stored. */
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import Database from "libsql";
import { localMasterKey, type MasterKey } from "../../broker/master-key.ts";
import type { Confirmed, NewRow, Released } from "../../broker/session.ts";
import { openEmbeddedTable } from "../../broker/table-embedded.ts";
import { openRedisTable } from "../../broker/table-redis.ts";
import type { Outcomes, ReleaseOrder, Table } from "../../broker/table.ts";
import { temporaryFolder } from "../servers/process.ts";
import { type RedisServer, startRedis } from "../servers/redis.ts";

export const HOUR = 3_600_000;
export const DAY = 24 * HOUR;
export const CLAIM = 60_000;
export const RETENTION = 30 * DAY;
/** The clock of the suite is passed in; Redis would clear away an invite of the past. */
export const NOW = Date.UTC(2101, 1, 3, 4, 5, 6, 789);

export const ALICE = "alice@a.example";
export const BOB = "böb@b.例え.example";
export const MALLORY = "mallory@m.example";
export const GATEWAY = "a1".repeat(32);
export const OTHER_GATEWAY = "b2".repeat(32);

export interface AuditEntry {
  readonly event: string;
  readonly at: number;
  readonly who: string;
}

/** One table among others of its home, empty at first. */
export interface Place {
  open(retention?: number): Promise<Table>;
  audit(session: string): AuditEntry[];
  /** Every byte the home still has of this table. */
  stored(): string;
}

export interface Home {
  place(): Place;
  stop(): Promise<void>;
}

/** For describe.each: what one home passes, the other has to pass. */
export const HOMES: [string, () => Promise<Home>][] = [
  ["embedded", embeddedHome],
  ["redis", redisHome],
];

async function embeddedHome(): Promise<Home> {
  const folder = await temporaryFolder("table");
  return { place: () => embeddedPlace(join(folder, `${randomUUID()}.db`)), stop: async () => undefined };
}

export function embeddedPlace(path: string): Place {
  return {
    open: (retention = RETENTION) => openEmbeddedTable(path, { retention }),
    audit(session) {
      const db = new Database(path);
      try {
        return db.prepare("SELECT event, at, who FROM audit WHERE session = ? ORDER BY id").all([session]) as AuditEntry[];
      } finally {
        db.close();
      }
    },
    stored: () => ["", "-wal"].map((suffix) => readFileSync(path + suffix, "latin1")).join(""),
  };
}

async function redisHome(): Promise<Home> {
  const redis = await startRedis();
  return { place: () => redisPlace(redis), stop: () => redis.stop() };
}

export interface RedisPlace extends Place {
  readonly prefix: string;
  keys(): string[];
}

export function redisPlace(redis: RedisServer): RedisPlace {
  const prefix = `${randomUUID()}:`;
  const keys = () => redis.cli("--scan", "--pattern", `${prefix}*`).split("\n").filter(Boolean);
  return {
    prefix,
    keys,
    open: (retention = RETENTION) => openRedisTable({ url: redis.url, prefix, retention }),
    audit(session) {
      const lines = redis.cli("XRANGE", `${prefix}aud:{b${session.slice(0, 2)}}`, "-", "+").split("\n");
      const entries = lines.flatMap((line, at) => (/^\d+-\d+$/.test(line) ? [lines.slice(at + 1, at + 9)] : []));
      const fields = entries.map((flat) => Object.fromEntries(flat.flatMap((name, at) => (at % 2 === 0 ? [[name, flat[at + 1]]] : []))));
      return fields
        .filter((entry) => entry["session"] === session)
        .map(({ event, at, who }) => ({ event: String(event), at: Number(at), who: String(who) }));
    },
    stored: () =>
      keys()
        .map((key) => `${key}\n${valueOf(redis, key)}`)
        .join("\n"),
  };
}

function valueOf(redis: RedisServer, key: string): string {
  const commands: Record<string, string[]> = {
    hash: ["HGETALL", key],
    stream: ["XRANGE", key, "-", "+"],
    zset: ["ZRANGE", key, "0", "-1"],
    string: ["GET", key],
  };
  return redis.cli(...(commands[redis.cli("TYPE", key)] ?? []));
}

export function freshHash(): string {
  return createHash("sha256").update(randomBytes(16)).digest("hex");
}

/** A declared letter from Alice to Bob, of its own session. */
export function letter(changes: Partial<NewRow> = {}): NewRow {
  return {
    session: freshHash(),
    gateway: GATEWAY,
    sender: ALICE,
    recipient: BOB,
    messageId: "<1@a.example>",
    commit: freshHash(),
    ticketHash: freshHash(),
    terms: '{"hold":"held"}',
    declaredAt: NOW,
    expiresAt: NOW + 10 * DAY,
    wrappedKey: randomBytes(60),
    ticket: randomBytes(400),
    declaredMac: freshHash(),
    ...changes,
  };
}

/** With every octet there is: a ticket is no text. */
export function next(): { session: string; ticket: Buffer } {
  return {
    session: freshHash(),
    ticket: Buffer.concat([randomBytes(8), Buffer.from(Array.from({ length: 256 }, (_none, octet) => octet))]),
  };
}

export function evidenceName(): string {
  return randomBytes(18).toString("base64url");
}

/** What a sweep may write, made up; the names follow from the session. */
export const OUTCOMES: Outcomes = ({ session }) => ({
  expired: endOf(session),
  delayed: delayOf(session),
  expiredMac: "e1".repeat(32),
  expiredReleasedMac: "e2".repeat(32),
  delayedMac: "d1".repeat(32),
});

/** The name that the suite gives the report of a letter's end, or of its delay. */
export const endOf = (session: string): string => `end-${session.slice(0, 20)}`;
export const delayOf = (session: string): string => `delay-${session.slice(0, 20)}`;

/** Recalls a letter for these mailboxes. */
export function recallFor(table: Table, session: string, at: number, mailboxes: readonly [string, ...string[]] = [ALICE]) {
  return table.recall({ session, mailboxes, at, evidence: endOf(session), mac: freshHash() });
}

/** A master key that was never rotated. */
export function masterOf(octets: Buffer, folder: string): MasterKey {
  return localMasterKey(() => [octets], folder);
}

/** Presents a ticket as the one gateway that works for the recipient. */
export async function releaseFrom(
  table: Table,
  { recipient, ...order }: Pick<ReleaseOrder, "session" | "at" | "next"> & { recipient: string },
  holder = "gateway-1",
): Promise<Released | undefined> {
  const claim = { holder, until: order.at + CLAIM };
  const filing = randomBytes(16).toString("hex");
  const released = await table.release({ ...order, mailboxes: [recipient], ticket: Buffer.from("first"), filing, claim, mac: freshHash() });
  if (released === "claimed") throw new Error("another gateway has the letter");
  if (released === "recalled") throw new Error("the letter was recalled");
  return released;
}

/** A letter that its recipient was given the key of, at `NOW + HOUR`. */
export async function releasedLetter(table: Table, changes: Parameters<typeof letter>[0] = {}): Promise<Released> {
  const row = letter(changes);
  await table.declare([row], NOW + DAY);
  const released = await releaseFrom(table, { session: row.session, recipient: row.recipient, at: NOW + HOUR, next: next() });
  if (released === undefined) throw new Error("the key was not released");
  return released;
}

/** A letter that its recipient has opened, confirmed at `at`. */
export async function confirmedLetter(table: Table, at = NOW + 2 * HOUR): Promise<Confirmed> {
  const confirmed = await table.confirm(confirmationOf(await releasedLetter(table), at));
  if (confirmed === undefined) throw new Error("the letter was not confirmed");
  return confirmed;
}

export function confirmationOf(row: Released, at = NOW + 2 * HOUR): Parameters<Table["confirm"]>[0] {
  const { session, nextSession, recipient } = row;
  return {
    session,
    nextSession,
    recipient,
    at,
    evidence: evidenceName(),
    certificate: freshHash(),
    proof: '{"receipt":""}',
    mac: freshHash(),
  };
}

/** The same step until it is answered: a connection that is made anew, or a failover, takes a moment. */
export async function again<T>(step: () => Promise<T>, within = 20_000): Promise<T> {
  const deadline = performance.now() + within;
  for (;;) {
    try {
      return await step();
    } catch (thrown) {
      if (performance.now() > deadline) throw thrown;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}
