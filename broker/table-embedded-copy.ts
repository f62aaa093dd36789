/** The embedded table for backup and restoring. */
import type { AuditLog } from "./audit.ts";
import { dueOf, fieldsOf, storedLog, valueOf, type Registered, type Stored } from "./table-copy.ts";
import type { EmbeddedFile } from "./table-embedded-file.ts";

export function* storedIn(file: EmbeddedFile): Generator<Stored> {
  const read = () => [file.rows("SELECT * FROM session"), file.rows("SELECT session, evidence FROM outbox ORDER BY id")] as const;
  const [rows, outbox] = file.step(read); // together: a confirmation in between would be kept without its receipt
  const waiting = new Map<unknown, string[]>();
  for (const { session, evidence } of outbox) waiting.set(session, [...(waiting.get(session) ?? []), String(evidence)]);
  for (const row of rows) {
    const { session } = row;
    yield { kind: "row", session: String(session), fields: fieldsOf(row), waits: waiting.get(session) ?? [] };
  }
  for (const { session, evidence, bytes } of file.rows("SELECT * FROM receipt")) {
    yield { kind: "receipt", session: String(session), evidence: String(evidence), bytes: (bytes as Buffer).toString("base64") };
  }
  yield* storedLog(auditLogIn(file));
  for (const { kind, name, record } of file.rows("SELECT * FROM registry WHERE kind <> 'epoch'")) {
    yield { kind: "registry", of: String(kind) as Registered, name: String(name), record: String(record) };
  }
}

/** This home has one log. */
export function auditLogIn(file: EmbeddedFile): AuditLog {
  const [rows, head] = file.step(() => [file.rows("SELECT * FROM audit ORDER BY id"), file.row("SELECT n, hash FROM head")] as const);
  const entries = rows.map(({ id, event, session, at, who, hash }) => ({
    n: Number(id),
    event: String(event),
    session: String(session),
    at: Number(at),
    who: String(who),
    hash: String(hash),
  }));
  return { name: "all", entries, head: head && { n: Number(head["n"]), hash: String(head["hash"]) } };
}

/** One row with its place in the outbox, or one receipt, in one transaction. */
export function restoreInto(file: EmbeddedFile, stored: Stored & { kind: "row" | "receipt" }, retention: number): void {
  file.step(() => {
    const { session } = stored;
    if (stored.kind === "receipt") {
      const keep = "INSERT INTO receipt (session, evidence, bytes) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
      file.run(keep, session, stored.evidence, Buffer.from(stored.bytes, "base64"));
      return;
    }
    const { fields, waits } = stored;
    const columns = new Set(file.rows("SELECT name FROM pragma_table_info('session')").map(({ name }) => String(name)));
    const known = Object.entries(fields).filter(([name]) => columns.has(name));
    const names = ["session", "due", ...known.map(([name]) => `"${name}"`)];
    const values = [session, dueOf(fields, waits, retention) ?? null, ...known.map(([name, value]) => typed(name, value))];
    file.run("DELETE FROM session WHERE session = ?", session);
    file.run(`INSERT INTO session (${names.join(", ")}) VALUES (${names.map(() => "?").join(", ")})`, ...values);
    for (const evidence of waits)
      file.run("INSERT INTO outbox (evidence, session) VALUES (?, ?) ON CONFLICT DO NOTHING", evidence, session);
  });
}

const NUMBERS = /(?:At|Until|^releases)$/u;

/** Redis knows only text. */
function typed(name: string, value: string | number): string | number | Buffer {
  return NUMBERS.test(name) ? Number(value) : valueOf(name, value);
}
