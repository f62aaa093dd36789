/** The session table in Redis for backup and restoring. */
import type { ChainableCommander } from "ioredis";
import type { AuditLog, ChainedEntry } from "./audit.ts";
import { dueOf, fieldsOf, REGISTERED, storedLog, valueOf, type Stored } from "./table-copy.ts";
import { BUCKETS } from "./table-redis-address.ts";
import type { RedisLink } from "./table-redis-link.ts";
import { bucketFor, keysOf, revokedKey } from "./table-redis-registry.ts";

/** Kinds that are one key each. */
const SINGLE = REGISTERED.filter((kind) => kind !== "revocation");

export async function* storedIn(link: RedisLink, prefix: string): AsyncGenerator<Stored> {
  for (const bucket of BUCKETS) {
    const waits = async (evidence: string): Promise<boolean> =>
      (await link.ask((redis) => redis.hexists(`${prefix}out:{b${bucket}}`, evidence))) === 1;
    const receipt = (evidence: string) => link.ask((redis) => redis.getBuffer(`${prefix}receipt:{b${bucket}}:${evidence}`));
    for await (const key of keysOf(link, `${prefix}row:{b${bucket}}:`)) {
      const row = await link.ask((redis) => redis.hgetallBuffer(key.whole));
      const named = ["delayedEvidence", "evidence"].flatMap((name) => row[name]?.toString() ?? []);
      const waiting: string[] = []; // asked after the row: what was mailed in between is mailed, what was queued is not in it yet
      for (const evidence of named) if (await waits(evidence)) waiting.push(evidence);
      if (Object.keys(row).length > 0) yield { kind: "row", session: key.name, fields: fieldsOf(row), waits: waiting };
      for (const evidence of named) {
        const bytes = await receipt(evidence);
        if (bytes) yield { kind: "receipt", session: key.name, evidence, bytes: bytes.toString("base64") };
      }
    }
    yield* storedLog(await auditLogIn(link, prefix, bucket));
  }
  for (const bucket of BUCKETS) {
    const revoked = await link.ask((redis) => redis.hgetall(revokedKey(prefix, bucket)));
    for (const [name, record] of Object.entries(revoked)) yield { kind: "registry", of: "revocation", name, record };
  }
  for (const of of SINGLE) {
    for await (const { whole, name } of keysOf(link, `${prefix}${of}:`)) {
      const record = await link.ask((redis) => redis.get(whole));
      if (record !== null) yield { kind: "registry", of, name, record };
    }
  }
}

/** Entries of an audit log that are read in one command. */
const PAGE = 1_000;

/** The log of one bucket, page by page; steps that come meanwhile are read, too, until its last entry is the head's. */
export async function auditLogIn(link: RedisLink, prefix: string, bucket: string): Promise<AuditLog> {
  const entries: ChainedEntry[] = [];
  let from = "-";
  const readOn = async (): Promise<void> => {
    for (;;) {
      const page = await link.ask((redis) => redis.xrange(`${prefix}aud:{b${bucket}}`, from, "+", "COUNT", PAGE));
      entries.push(...page.map(([, fields]) => entryIn(fields)));
      const last = page.at(-1);
      if (last) from = `(${last[0]}`;
      if (page.length < PAGE) return;
    }
  };
  for (;;) {
    const read = entries.length;
    await readOn();
    const { n, hash } = await link.ask((redis) => redis.hgetall(`${prefix}head:{b${bucket}}`));
    const isWhole = n === undefined || Number(n) <= (entries.at(-1)?.n ?? 0);
    if (!isWhole && entries.length > read) continue;
    return { name: bucket, entries, head: hash === undefined ? undefined : { n: Number(n), hash } };
  }
}

function entryIn(fields: readonly string[]): ChainedEntry {
  const entry = Object.fromEntries(fields.flatMap((name, at) => (at % 2 === 0 ? [[name, fields[at + 1] ?? ""]] : [])));
  const { n = "0", event = "", session = "", at = "0", who = "", hash = "" } = entry;
  return { n: Number(n), event, session, at: Number(at), who, hash };
}

type Step = (pipeline: ChainableCommander) => ChainableCommander;

/** The commands that write what a backup holds; none of them depends on another. */
export function restoring(stored: Exclude<Stored, { kind: "audit" | "head" }>, prefix: string, retention: number): Step[] {
  if (stored.kind === "registry" && stored.of === "revocation") {
    const { name, record } = stored;
    return [(pipeline) => pipeline.hset(revokedKey(prefix, bucketFor(name)), name, record)];
  }
  if (stored.kind === "registry") return [(pipeline) => pipeline.set(`${prefix}${stored.of}:${stored.name}`, stored.record)];
  const { session } = stored;
  const bucket = `{b${session.slice(0, 2)}}`;
  if (stored.kind === "receipt") {
    return [(pipeline) => pipeline.set(`${prefix}receipt:${bucket}:${stored.evidence}`, Buffer.from(stored.bytes, "base64"))];
  }
  const { fields, waits } = stored;
  const key = `${prefix}row:${bucket}:${session}`;
  const flat = Object.entries(fields).flatMap(([name, value]) => [name, valueOf(name, value)]);
  const due = dueOf(fields, waits, retention);
  return [
    (pipeline) => pipeline.del(key),
    (pipeline) => pipeline.hset(key, ...flat),
    (pipeline) =>
      due === undefined ? pipeline.zrem(`${prefix}due:${bucket}`, session) : pipeline.zadd(`${prefix}due:${bucket}`, due, session),
    ...waits.map((evidence) => (pipeline: ChainableCommander) => pipeline.hset(`${prefix}out:${bucket}`, { [evidence]: session })),
  ];
}
