/** The session table in Redis for backup and restoring. */
import type { ChainableCommander } from "ioredis";
import type { AuditLog } from "./audit.ts";
import { dueOf, fieldsOf, REGISTERED, storedLog, valueOf, type Stored } from "./table-copy.ts";
import { BUCKETS } from "./table-redis-address.ts";
import type { RedisLink } from "./table-redis-link.ts";
import { bucketFor, keysOf, revokedKey } from "./table-redis-registry.ts";

/** Kinds that are one key each. */
const SINGLE = REGISTERED.filter((kind) => kind !== "revocation");

export async function* storedIn(link: RedisLink, prefix: string): AsyncGenerator<Stored> {
  for (const bucket of BUCKETS) {
    const waiting = new Set(Object.keys(await link.ask((redis) => redis.hgetall(`${prefix}out:{b${bucket}}`))));
    const receipt = (evidence: string) => link.ask((redis) => redis.getBuffer(`${prefix}receipt:{b${bucket}}:${evidence}`));
    for await (const key of keysOf(link, `${prefix}row:{b${bucket}}:`)) {
      const row = await link.ask((redis) => redis.hgetallBuffer(key.whole));
      const named = ["delayedEvidence", "evidence"].flatMap((name) => row[name]?.toString() ?? []);
      if (Object.keys(row).length > 0)
        yield { kind: "row", session: key.name, fields: fieldsOf(row), waits: named.filter((evidence) => waiting.has(evidence)) };
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

/** The log of one bucket; read again where a step came between its entries and its head. */
export async function auditLogIn(link: RedisLink, prefix: string, bucket: string): Promise<AuditLog> {
  const readHead = () => link.ask((redis) => redis.hgetall(`${prefix}head:{b${bucket}}`));
  let head = await readHead();
  let flat: [string, string[]][];
  for (let known: typeof head; ;) {
    known = head;
    flat = await link.ask((redis) => redis.xrange(`${prefix}aud:{b${bucket}}`, "-", "+"));
    head = await readHead();
    if (known["hash"] === head["hash"]) break;
  }
  const entries = flat.map(([, fields]) => {
    const entry = Object.fromEntries(fields.flatMap((name, at) => (at % 2 === 0 ? [[name, fields[at + 1] ?? ""]] : [])));
    const { n = "0", event = "", session = "", at = "0", who = "", hash = "" } = entry;
    return { n: Number(n), event, session, at: Number(at), who, hash };
  });
  return { name: bucket, entries, head: head["hash"] === undefined ? undefined : { n: Number(head["n"]), hash: head["hash"] } };
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
