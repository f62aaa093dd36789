/** The session table in Redis: one server-side function call for each step of a row (table.lua), all keys of a row in one slot. */
import { Fault } from "../mime/fault.ts";
import type { Confirmed, Declaration, Released, Session, SessionHash } from "./session.ts";
import { type Argument, RedisLink } from "./table-redis-link.ts";
import { RedisRegistry } from "./table-redis-registry.ts";
import { checkedHash, confirmedOf, releasedOf, sessionOf, type StoredRow } from "./table-row.ts";
import type { OutboxEntry, Table, TableOptions } from "./table.ts";

export interface RedisTableOptions extends TableOptions {
  /** `redis://` or `rediss://`, with user and password. */
  readonly url: string;
  /** What every key begins with; without braces, which would change the slot of a key. */
  readonly prefix: string;
}

/**
 * @returns a connected table; whether Redis is set up well is told by `ready`
 * @throws Fault `unavailable`: Redis cannot be reached
 */
export async function openRedisTable(options: RedisTableOptions): Promise<Table> {
  if (/[{}]/.test(options.prefix)) throw new Fault("internal", "the prefix of Redis keys must not hold a brace");
  const link = new RedisLink(options.url);
  await link.connect();
  return new RedisTable(link, options);
}

/** One for each value of the first byte of a session hash. */
const BUCKETS: readonly string[] = Array.from({ length: 256 }, (_none, byte) => byte.toString(16).padStart(2, "0"));

/** How many due sessions of a bucket the sweep looks at together. */
const BATCH = 100;

class RedisTable extends RedisRegistry implements Table {
  readonly #link: RedisLink;
  readonly #prefix: string;
  readonly #retention: number;

  constructor(link: RedisLink, options: RedisTableOptions) {
    super(link, options.prefix);
    this.#link = link;
    this.#prefix = options.prefix;
    this.#retention = options.retention;
  }

  ready(): Promise<void> {
    return this.#link.ready();
  }

  close(): Promise<void> {
    return this.#link.close();
  }

  async declare(rows: readonly (Declaration & { wrappedKey: Buffer })[], vanishAt: number): Promise<void> {
    await all(rows.map((row) => this.#declare(row, vanishAt)));
  }

  async dispatched(sessions: readonly SessionHash[], gateway: string, at: number): Promise<void> {
    await all(sessions.map((session) => this.#step("dispatched", session, at, gateway)));
  }

  async withdraw(session: SessionHash, gateway: string, at: number): Promise<boolean> {
    return (await this.#step("withdraw", session, at, gateway, this.#retention)) === 1;
  }

  async release(order: {
    session: SessionHash;
    recipient: string;
    at: number;
    next: { session: SessionHash; ticket: Buffer };
  }): Promise<Released | undefined> {
    const { session, recipient, at, next } = order;
    const row = rowOf(session, await this.#step("release", session, at, recipient, checkedHash(next.session), next.ticket));
    return row && releasedOf(row);
  }

  async confirm(order: {
    session: SessionHash;
    nextSession: SessionHash;
    recipient: string;
    at: number;
    evidence: string;
    certificate: string;
    proof: string;
  }): Promise<Confirmed | undefined> {
    const { session, nextSession, recipient, at, evidence, certificate, proof } = order;
    const row = rowOf(session, await this.#step("confirm", session, at, recipient, checkedHash(nextSession), evidence, certificate, proof));
    return row && confirmedOf(row);
  }

  async find(session: SessionHash): Promise<Session | undefined> {
    const fields = await this.#link.ask((redis) => redis.hgetallBuffer(this.#key("row", session)));
    return Object.keys(fields).length === 0 ? undefined : sessionOf({ ...fields, session });
  }

  async sweep(at: number): Promise<number> {
    const changed = await all(BUCKETS.map((bucket) => this.#sweepBucket(bucket, at)));
    return sum(changed);
  }

  async pending(): Promise<OutboxEntry[]> {
    const buckets = await all(BUCKETS.map((bucket) => this.#link.ask((redis) => redis.hgetall(this.#bucketKey("out", bucket)))));
    return buckets.flatMap((bucket) => Object.entries(bucket).map(([evidence, session]) => ({ evidence, session: checkedHash(session) })));
  }

  async keepReceipt(entry: OutboxEntry, bytes: Buffer): Promise<Buffer> {
    const { session, evidence } = entry;
    const keys = [...this.#keys(session), this.#key("receipt", session, evidence)];
    const kept = await this.#link.call("keep_receipt", keys, [session, evidence, bytes]);
    if (!Buffer.isBuffer(kept)) throw new Fault("internal", "no receipt is due under this evidence");
    return kept;
  }

  async receipt(entry: OutboxEntry): Promise<Buffer | undefined> {
    const bytes = await this.#link.ask((redis) => redis.getBuffer(this.#key("receipt", entry.session, entry.evidence)));
    return bytes ?? undefined;
  }

  async done(entry: OutboxEntry): Promise<void> {
    await this.#link.call("done", this.#keys(entry.session), [entry.session, entry.evidence, this.#retention]);
  }

  async #declare(row: Declaration & { wrappedKey: Buffer }, vanishAt: number): Promise<void> {
    const { session, gateway, sender, recipient, messageId, commit, ticketHash, terms, declaredAt, expiresAt, wrappedKey } = row;
    const fields = { gateway, sender, recipient, messageId, commit, ticketHash, terms, declaredAt, expiresAt, wrappedKey, vanishAt };
    const due = Math.min(vanishAt, expiresAt);
    const written = await this.#step("declare", session, declaredAt, due, ...Object.entries(fields).flat());
    if (written !== 1) throw new Fault("internal", "another row has the name of this session");
  }

  /** Until nothing is due; each call leaves its session in `due` only for a later time, so this ends. */
  async #sweepBucket(bucket: string, at: number): Promise<number> {
    const due = this.#bucketKey("due", bucket);
    const receipts = this.#bucketKey("receipt", bucket) + ":";
    let changed = 0;
    for (;;) {
      const sessions = await this.#link.ask((redis) => redis.zrangebyscore(due, "-inf", at, "LIMIT", 0, BATCH));
      const swept = await all(sessions.map((session) => this.#step("sweep", session, at, this.#retention, receipts)));
      changed += sum(swept as number[]);
      if (sessions.length < BATCH) return changed;
    }
  }

  async #step(name: string, session: SessionHash, at: number, ...args: Argument[]): Promise<unknown> {
    return this.#link.call(name, this.#keys(session), [session, at, ...args]);
  }

  /** In the order of table.lua. */
  #keys(session: SessionHash): string[] {
    const bucket = bucketOf(session);
    return [this.#key("row", session), ...["aud", "due", "out"].map((kind) => this.#bucketKey(kind, bucket))];
  }

  #key(kind: "row" | "receipt", session: SessionHash, name: string = session): string {
    return `${this.#bucketKey(kind, bucketOf(session))}:${name}`;
  }

  #bucketKey(kind: string, bucket: string): string {
    return `${this.#prefix}${kind}:{b${bucket}}`;
  }
}

function bucketOf(session: SessionHash): string {
  return checkedHash(session).slice(0, 2);
}

/** The flat list of names and values that a function answers with; nothing where there is nothing to give. */
function rowOf(session: SessionHash, reply: unknown): StoredRow | undefined {
  if (!Array.isArray(reply)) return undefined;
  const flat = reply as Buffer[];
  const names = flat.filter((_name, at) => at % 2 === 0);
  return { ...Object.fromEntries(names.map((name, at) => [name.toString("utf8"), flat[2 * at + 1]])), session };
}

/** Waits for every one before it fails with the first failure: nothing goes on behind the caller's back. */
async function all<T>(steps: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(steps);
  return Promise.all(steps);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
