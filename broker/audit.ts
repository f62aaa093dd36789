/** The chain of an audit log: every entry names the one before it by its SHA-256, so that nobody edits, removes or reorders one unnoticed (docs/protocol.md, section 6). */
import { createHash } from "node:crypto";

export interface AuditEntry {
  /** Its number in its log, from 1 on. */
  readonly n: number;
  readonly event: string;
  /** SHA-256 in hex: of a session ID, or of what was revoked. */
  readonly session: string;
  /** Milliseconds since the epoch, the broker's clock. */
  readonly at: number;
  readonly who: string;
}

/** An entry as it is kept. */
export interface ChainedEntry extends AuditEntry {
  /** SHA-256 over the entry and the hash before it, hex. */
  readonly hash: string;
}

/** One log of a table: Redis has one a bucket, the embedded table has one. */
export interface AuditLog {
  /** Names it. */
  readonly name: string;
  readonly entries: readonly ChainedEntry[];
  /** Kept beside the log: number and hash of the newest entry. */
  readonly head: { readonly n: number; readonly hash: string } | undefined;
}

/** table-chain.lua makes the same. @param former the hash of the entry before it; empty for the first one */
export function entryHash(former: string, { n, event, session, at, who }: AuditEntry): string {
  const fields = [n, event, session, at, who].map((value) => `${Buffer.byteLength(String(value))}:${value}`);
  return createHash("sha256")
    .update([former, ...fields].join(","))
    .digest("hex");
}

/** @returns what is wrong with the first entry that does not fit, by its number; undefined where the whole chain holds */
export function firstBroken({ entries, head }: AuditLog): { readonly n: number; readonly what: string } | undefined {
  let former = "";
  for (const [at, entry] of entries.entries()) {
    const n = at + 1;
    if (entry.n !== n) return { n, what: `missing or in another place: entry ${entry.n} stands there` };
    if (entry.hash !== entryHash(former, entry)) return { n, what: "edited, or the one before it is another" };
    former = entry.hash;
  }
  const n = head?.n ?? 0;
  if (n > entries.length) return { n: entries.length + 1, what: "missing" };
  if (n < entries.length) return { n: n + 1, what: "not known to the head of the chain" };
  if (former !== (head?.hash ?? "")) return { n, what: "another one than the head of the chain names" };
  return undefined;
}
