/** The session table in Redis: one server-side function call for each step of a row (table.lua), all keys of a row in one slot. */
import { randomUUID } from "node:crypto";
import type { Redis } from "ioredis";
import { Fault } from "../mime/fault.ts";
import type { Confirmed, NewRow, Released, Session, SessionHash, Waiting } from "./session.ts";
import type { AuditLog } from "./audit.ts";
import { dayOf } from "./day-keys.ts";
import { isUnfinished, type Stored } from "./table-copy.ts";
import type { RedisAddress } from "./table-redis-address.ts";
import { type Argument, RedisLink } from "./table-redis-link.ts";
import { auditLogIn, restoring, storedIn } from "./table-redis-copy.ts";
import { BUCKETS } from "./table-redis-address.ts";
import { RedisRegistry } from "./table-redis-registry.ts";
import { BROKEN_AGAIN_MS, checkedHash, confirmedOf, givenOutOf, releasedOf, sessionOf, waitingOf, type StoredRow } from "./table-row.ts";
import type { Claim, ConfirmOrder, OutboxEntry, Outcomes, RecallOrder, ReleaseOrder, Table, TableOptions } from "./table.ts";
import type { Mark, TableWitness } from "./witness.ts";

export interface RedisTableOptions extends TableOptions, RedisAddress {
  /** What every key begins with; without braces, which would change the slot of a key. */
  readonly prefix: string;
  /** How many replicas must have a step before it is answered; none where left out. */
  readonly replicas?: number;
}

/**
 * @returns a connected table; whether Redis is set up well is told by `ready`
 * @throws Fault `unavailable`: Redis cannot be reached
 */
export async function openRedisTable(options: RedisTableOptions): Promise<Table> {
  if (/[{}]/.test(options.prefix)) throw new Fault("internal", "the prefix of Redis keys must not hold a brace");
  const link = new RedisLink({
    address: options,
    replicas: options.replicas ?? 0,
    trust: async (redis) => options.witness?.examine(() => markOf(redis, options.prefix)),
  });
  await link.connect();
  return new RedisTable(link, options);
}

/** How far the table is that a connection leads to. */
async function markOf(redis: Redis, prefix: string): Promise<Mark> {
  const key = `${prefix}epoch`;
  await redis.hsetnx(key, "id", randomUUID());
  const { id, follows } = await redis.hgetall(key);
  const heads = await all(
    BUCKETS.map(async (bucket) => {
      const [entry] = await redis.xrevrange(`${prefix}aud:{b${bucket}}`, "+", "-", "COUNT", 1);
      return entry ? [[bucket, entry[0]] as const] : [];
    }),
  );
  return { epoch: id, follows, heads: new Map(heads.flat()) };
}

/** How many due sessions of a bucket the sweep looks at together. */
const BATCH = 100;

class RedisTable extends RedisRegistry implements Table {
  readonly #link: RedisLink;
  readonly #prefix: string;
  readonly #retention: number;
  readonly #witness: TableWitness | undefined;

  constructor(link: RedisLink, options: RedisTableOptions) {
    super(link, options.prefix, options.witness);
    this.#link = link;
    this.#prefix = options.prefix;
    this.#retention = options.retention;
    this.#witness = options.witness;
  }

  ready(): Promise<void> {
    return this.#link.ready();
  }

  close(): Promise<void> {
    return this.#link.close();
  }

  declare(rows: readonly NewRow[], vanishAt: number): Promise<Waiting[]> {
    return all(rows.map((row) => this.#declare(row, vanishAt)));
  }

  async dispatched(sessions: readonly SessionHash[], gateway: string, at: number): Promise<SessionHash[]> {
    const answers = await all(sessions.map((session) => this.#step("dispatched", session, at, gateway)));
    return sessions.filter((_session, index) => answers[index] === -1);
  }

  async withdraw(session: SessionHash, gateway: string, at: number): Promise<boolean> {
    return (await this.#step("withdraw", session, at, gateway, this.#retention)) === 1;
  }

  async release(order: ReleaseOrder): Promise<Released | "claimed" | "recalled" | undefined> {
    const { session, at, next, ticket, filing, claim, mac, mailboxes } = order;
    const given = [checkedHash(next.session), next.ticket, ticket, filing, claim.holder, claim.until, mac];
    const answer = await this.#step("release", session, at, ...given, ...mailboxes);
    if (Buffer.isBuffer(answer)) return answer.toString() === "recalled" ? "recalled" : "claimed";
    const row = rowOf(session, answer);
    return row && releasedOf(row);
  }

  async givenOut(session: SessionHash, mailboxes: readonly string[]): Promise<Released | Confirmed | undefined> {
    const row = rowOf(session, await this.#step("given_out", session, 0, ...mailboxes));
    return row && givenOutOf(row);
  }

  async recall({ session, mailboxes, at, evidence, mac }: RecallOrder): Promise<Session | undefined> {
    const row = rowOf(session, await this.#step("recall", session, at, evidence, mac, ...mailboxes));
    return row && sessionOf(row);
  }

  async sent(session: SessionHash, mailboxes: readonly string[]): Promise<Session | undefined> {
    const row = rowOf(session, await this.#step("sent", session, 0, ...mailboxes));
    return row && sessionOf(row);
  }

  async confirm(order: ConfirmOrder): Promise<Confirmed | undefined> {
    const { session, nextSession, recipient, at, evidence, certificate, proof, mac } = order;
    const given = [checkedHash(nextSession), evidence, certificate, proof, mac, this.#retention, recipient];
    const row = rowOf(session, await this.#step("confirm", session, at, ...given));
    return row && confirmedOf(row);
  }

  async find(session: SessionHash): Promise<Session | undefined> {
    const fields = await this.#link.ask((redis) => redis.hgetallBuffer(this.#key("row", session)));
    return Object.keys(fields).length === 0 ? undefined : sessionOf({ ...fields, session });
  }

  async daysInUse(): Promise<ReadonlySet<number>> {
    const days = new Set<number>();
    for (const bucket of BUCKETS) {
      const sessions = await this.#link.ask((redis) => redis.zrangebyscore(this.#bucketKey("due", bucket), "-inf", "+inf"));
      const rows = await all(
        sessions.map((session) => this.#link.ask((redis) => redis.hmget(this.#key("row", session), "state", "declaredAt"))),
      );
      for (const [state, declaredAt] of rows) if (isUnfinished({ state: state ?? "" })) days.add(dayOf(Number(declaredAt)));
    }
    return days;
  }

  compact(): Promise<void> {
    return this.#link.rewriteLog();
  }

  async sweep(at: number, outcomes: Outcomes): Promise<number> {
    const broken: unknown[] = [];
    const changed = await all(BUCKETS.map((bucket) => this.#sweepBucket(bucket, at, outcomes, broken)));
    if (broken.length > 0) throw broken[0];
    return sum(changed);
  }

  async pending(): Promise<OutboxEntry[]> {
    const buckets = await all(BUCKETS.map((bucket) => this.#link.ask((redis) => redis.hgetall(this.#bucketKey("out", bucket)))));
    return buckets.flatMap((bucket) =>
      Object.entries(bucket).map(([evidence, value]) => ({ evidence, session: checkedHash(value.split(" ")[0] ?? "") })),
    );
  }

  async claim({ session, evidence }: OutboxEntry, { holder, until }: Claim, at: number): Promise<boolean> {
    return (await this.#call("claim", session, this.#keys(session), [evidence, holder, at, until])) === 1;
  }

  async keepReceipt(entry: OutboxEntry, bytes: Buffer): Promise<Buffer> {
    const { session, evidence } = entry;
    const keys = [...this.#keys(session), this.#key("receipt", session, evidence)];
    const kept = await this.#call("keep_receipt", session, keys, [evidence, bytes]);
    if (!Buffer.isBuffer(kept)) throw new Fault("internal", "no receipt is due under this evidence");
    return kept;
  }

  async receipt(entry: OutboxEntry): Promise<Buffer | undefined> {
    const bytes = await this.#link.ask((redis) => redis.getBuffer(this.#key("receipt", entry.session, entry.evidence)));
    return bytes ?? undefined;
  }

  async done(entry: OutboxEntry): Promise<void> {
    await this.#call("done", entry.session, this.#keys(entry.session), [entry.evidence, this.#retention]);
  }

  stored(): AsyncGenerator<Stored> {
    return storedIn(this.#link, this.#prefix);
  }

  async *auditLogs(): AsyncGenerator<AuditLog> {
    for (const bucket of BUCKETS) yield await auditLogIn(this.#link, this.#prefix, bucket);
  }

  async auditHead(session: SessionHash): Promise<string> {
    return (await this.#link.ask((redis) => redis.hget(this.#bucketKey("head", bucketOf(session)), "hash"))) ?? "";
  }

  async restore(stored: Stored): Promise<void> {
    if (stored.kind === "head") return;
    if (stored.kind === "audit") return void (await this.#step("record", stored.session, stored.at, stored.event, stored.who));
    for (const command of restoring(stored, this.#prefix, this.#retention)) await this.#link.write(command);
  }

  async begin(epoch: string, follows: string): Promise<void> {
    await this.#link.write((pipeline) => pipeline.hset(`${this.#prefix}epoch`, { id: epoch, follows }));
  }

  async epoch(): Promise<string | undefined> {
    return (await this.#link.ask((redis) => redis.hget(`${this.#prefix}epoch`, "id"))) ?? undefined;
  }

  async #declare(row: NewRow, vanishAt: number): Promise<Waiting> {
    const { session, ...declaration } = row;
    const { declaredAt, expiresAt } = declaration;
    const fields = { ...declaration, vanishAt };
    const due = Math.min(vanishAt, expiresAt);
    const answer = await this.#step("declare", session, declaredAt, due, ...Object.entries(fields).flat());
    if (answer === 1) return { ...row, state: "declared" };
    const kept = rowOf(session, answer);
    if (!kept) throw new Fault("forbidden", "another declaration has the name of this session");
    return waitingOf(kept);
  }

  /**
   * Until nothing is due; each call leaves its session in `due` only for a later time, so this ends.
   * @param broken gets what is wrong with rows
   */
  async #sweepBucket(bucket: string, at: number, outcomes: Outcomes, broken: unknown[]): Promise<number> {
    const due = this.#bucketKey("due", bucket);
    const receipts = this.#bucketKey("receipt", bucket) + ":";
    const sweep = async (session: SessionHash): Promise<number> => {
      const ticketHash = await this.#link.ask((redis) => redis.hget(this.#key("row", session), "ticketHash"));
      const outcome = outcomes({ session, ticketHash: ticketHash ?? "" });
      const { expired, delayed, expiredMac, expiredReleasedMac, delayedMac } = outcome;
      const made = [expired, delayed, expiredMac, expiredReleasedMac, delayedMac];
      return (await this.#step("sweep", session, at, this.#retention, receipts, ...made)) as number;
    };
    const sweepOrPutAside = async (session: SessionHash): Promise<number> => {
      try {
        return await sweep(session);
      } catch (thrown) {
        if (Fault.from(thrown).code !== "internal") throw thrown;
        broken.push(thrown);
        await this.#link.write((pipeline) => pipeline.zadd(due, "XX", at + BROKEN_AGAIN_MS, session)); // where it is still due
        return 0;
      }
    };
    let changed = 0;
    for (;;) {
      const sessions = await this.#link.ask((redis) => redis.zrangebyscore(due, "-inf", at, "LIMIT", 0, BATCH));
      changed += sum(await all(sessions.map(sweepOrPutAside)));
      if (sessions.length < BATCH) return changed;
    }
  }

  async #step(name: string, session: SessionHash, at: number, ...args: Argument[]): Promise<unknown> {
    return this.#call(name, session, this.#keys(session), [at, ...args]);
  }

  async #call(name: string, session: SessionHash, keys: readonly string[], args: readonly Argument[]): Promise<unknown> {
    const { head, answer } = await this.#link.call(name, keys, [session, ...args]);
    if (head !== "") this.#witness?.saw(bucketOf(session), head);
    return answer;
  }

  /** In the order of table.lua. */
  #keys(session: SessionHash): string[] {
    const bucket = bucketOf(session);
    return [this.#key("row", session), ...["aud", "head", "due", "out", "decoy"].map((kind) => this.#bucketKey(kind, bucket))];
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
  const row: Record<string, Buffer | string | undefined> = {};
  for (let at = 0; at < flat.length; at += 2) row[String(flat[at])] = flat[at + 1];
  return { ...row, session };
}

/** Waits for every one before it fails with the first failure: nothing goes on behind the caller's back. */
async function all<T>(steps: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(steps);
  return Promise.all(steps);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
