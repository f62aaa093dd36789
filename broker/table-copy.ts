/** What of a table goes into a backup, the same for both homes; octets are base64. */
import type { AuditLog, ChainedEntry } from "./audit.ts";
import { warnAtOf, type SessionHash } from "./session.ts";

const OCTETS: ReadonlySet<string> = new Set(["wrappedKey", "ticket", "nextTicket"]);
/** What a row must not hold once its key is gone and no report is due. */
const OF_THE_KEY = ["wrappedKey", "ticket", "nextSession", "nextTicket", "filing", "releasedMac", "holder", "claimedUntil", "releases"];

/** The kinds of records beside the rows: who takes part, invitations and their use, what is revoked. */
export const REGISTERED = ["gateway", "mailbox", "invite", "enrolment", "revocation"] as const;
export type Registered = (typeof REGISTERED)[number];

export type RowFields = Readonly<Record<string, string | number>>;

export type Stored =
  | {
      readonly kind: "row";
      readonly session: string;
      readonly fields: RowFields;
      /** Its evidence that waits to be mailed. */ readonly waits: readonly string[];
    }
  | { readonly kind: "receipt"; readonly session: string; readonly evidence: string; readonly bytes: string }
  | ({ readonly kind: "audit"; /** Names the log. */ readonly log: string } & ChainedEntry)
  | { readonly kind: "head"; readonly log: string; readonly n: number; readonly hash: string }
  | { readonly kind: "registry"; readonly of: Registered; readonly name: string; readonly record: string };

/** A table as a whole, for backup and restoring; no other step may run meanwhile on the side that is written. */
export interface Copyable {
  stored(): AsyncIterable<Stored>;
  /** The audit logs, each as a whole. */
  auditLogs(): AsyncIterable<AuditLog>;
  /** The hash of the newest entry in the log of this session, hex. */
  auditHead(session: SessionHash): Promise<string>;
  /**
   * Writes what a backup holds; a row of the same session is replaced, and an audit entry gets its place in this table's own chain:
   * the same place where the home is of the same kind.
   */
  restore(stored: Stored): Promise<void>;
  /** Names the table anew. @param follows the epoch whose witnesses are to accept it */
  begin(epoch: string, follows: string): Promise<void>;
  epoch(): Promise<string | undefined>;
}

/** A row's fields for a backup. */
export function fieldsOf(row: Readonly<Record<string, unknown>>): RowFields {
  const known = Object.entries(row).filter(
    ([name, value]) => name !== "session" && name !== "due" && value !== null && value !== undefined,
  );
  return Object.fromEntries(
    known.map(([name, value]) => {
      if (Buffer.isBuffer(value)) return [name, value.toString(OCTETS.has(name) ? "base64" : "utf8")];
      return [name, typeof value === "number" ? value : String(value)];
    }),
  );
}

/** The inverse of `fieldsOf`. */
export function valueOf(name: string, value: string | number): string | number | Buffer {
  return OCTETS.has(name) ? Buffer.from(String(value), "base64") : value;
}

/** Whether the key of a row can still be given out. */
export function isUnfinished({ state }: RowFields): boolean {
  return state === "declared" || state === "dispatched" || state === "released";
}

/** The row without its key: a letter that nobody opens any more. */
export function expired(fields: RowFields, at: number): RowFields {
  const rest = Object.entries(fields).filter(([name]) => !OF_THE_KEY.includes(name));
  return { ...Object.fromEntries(rest), state: "expired", endedAt: at };
}

/** When the sweep has to look at a row; undefined while its receipt or report waits. */
export function dueOf(fields: RowFields, waits: readonly string[], retention: number): number | undefined {
  const time = (name: string): number => Number(fields[name] ?? 0);
  if (fields["state"] === "declared") return Math.min(time("vanishAt"), time("expiresAt"));
  if (isUnfinished(fields)) return (fields["delayedAt"] === undefined ? warnAt(fields) : undefined) ?? time("expiresAt");
  if (waits.includes(String(fields["evidence"]))) return undefined;
  return time(fields["state"] === "confirmed" ? "confirmedAt" : "endedAt") + retention + 1;
}

function warnAt(fields: RowFields): number | undefined {
  const time = (name: string): number => Number(fields[name] ?? 0);
  return warnAtOf({ terms: String(fields["terms"]), declaredAt: time("declaredAt"), expiresAt: time("expiresAt") });
}

/** The logs as a backup holds them: every entry, and behind a log's entries its head. */
export function* storedLog({ name, entries, head }: AuditLog): Generator<Stored> {
  for (const entry of entries) yield { kind: "audit", log: name, ...entry };
  if (head) yield { kind: "head", log: name, ...head };
}
