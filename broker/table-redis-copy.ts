/** The session table in Redis for backup and restoring. */
import type { ChainableCommander } from "ioredis";
import { dueOf, fieldsOf, REGISTERED, valueOf, type Stored } from "./table-copy.ts";
import { BUCKETS } from "./table-redis-address.ts";
import type { RedisLink } from "./table-redis-link.ts";
import { bucketFor, keysOf, revokedKey } from "./table-redis-registry.ts";

/** Kinds that are one key each. */
const SINGLE = REGISTERED.filter((kind) => kind !== "revocation");

export async function* storedIn(link: RedisLink, prefix: string): AsyncGenerator<Stored> {
  for (const bucket of BUCKETS) {
    const waiting = new Set(Object.keys(await link.ask((redis) => redis.hgetall(`${prefix}out:{b${bucket}}`))));
    for await (const key of keysOf(link, `${prefix}row:{b${bucket}}:`)) {
      const row = await link.ask((redis) => redis.hgetallBuffer(key.whole));
      if (Object.keys(row).length > 0) {
        yield { kind: "row", session: key.name, fields: fieldsOf(row), waits: waiting.has(row["evidence"]?.toString() ?? "") };
      }
      const evidence = row["evidence"]?.toString();
      const bytes = evidence && (await link.ask((redis) => redis.getBuffer(`${prefix}receipt:{b${bucket}}:${evidence}`)));
      if (evidence && bytes) yield { kind: "receipt", session: key.name, evidence, bytes: bytes.toString("base64") };
    }
    for (const [, flat] of await link.ask((redis) => redis.xrange(`${prefix}aud:{b${bucket}}`, "-", "+"))) {
      const entry = Object.fromEntries(flat.flatMap((name, at) => (at % 2 === 0 ? [[name, flat[at + 1] ?? ""]] : [])));
      const { event = "", session = "", at = "0", who = "" } = entry;
      yield { kind: "audit", event, session, at: Number(at), who };
    }
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

type Step = (pipeline: ChainableCommander) => ChainableCommander;

/** The commands that write what a backup holds; none of them depends on another. */
export function restoring(stored: Stored, prefix: string, retention: number): Step[] {
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
  if (stored.kind === "audit") {
    const { event, at, who } = stored;
    return [(pipeline) => pipeline.xadd(`${prefix}aud:${bucket}`, "*", "event", event, "session", session, "at", at, "who", who)];
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
    ...(waits
      ? [(pipeline: ChainableCommander) => pipeline.hset(`${prefix}out:${bucket}`, { [String(fields["evidence"])]: session })]
      : []),
  ];
}
