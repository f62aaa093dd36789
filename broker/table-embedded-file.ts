/** The file of the embedded table: its tables, its settings, and transactions that are on the disk when they return. */
import { chmodSync, closeSync, fsyncSync, mkdirSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { isAnyArrayBuffer } from "node:util/types";
import Database from "libsql";
import { Fault } from "../mime/fault.ts";

/** Counted up when the tables change; a file with another number is refused. */
const VERSION = 4;

/** Milliseconds to wait for another process (the CLI, the broker) that is writing. */
const BUSY_TIMEOUT = 2_000;

/** WAL and FULL: a commit is on the disk when it returns. secure_delete: erased keys are overwritten, not only unlinked. */
const SETTINGS = [`busy_timeout = ${BUSY_TIMEOUT}`, "journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"];

const TABLES = `
  CREATE TABLE session (
    session TEXT PRIMARY KEY, state TEXT NOT NULL,
    gateway TEXT NOT NULL, sender TEXT NOT NULL, recipient TEXT NOT NULL, messageId TEXT NOT NULL,
    "commit" TEXT NOT NULL, ticketHash TEXT NOT NULL, terms TEXT NOT NULL, declaredAt INTEGER NOT NULL, expiresAt INTEGER NOT NULL,
    vanishAt INTEGER NOT NULL, wrappedKey BLOB, ticket BLOB, releasedAt INTEGER, nextSession TEXT, nextTicket BLOB,
    filing TEXT, releases INTEGER, holder TEXT, claimedUntil INTEGER,
    confirmedAt INTEGER, evidence TEXT, certificate TEXT, proof TEXT, endedAt INTEGER,
    declaredMac TEXT, releasedMac TEXT, confirmedMac TEXT, endedMac TEXT,
    delayedAt INTEGER, delayedEvidence TEXT, delayedMac TEXT,
    due INTEGER -- when the sweep has to look at the row; NULL while its receipt is not mailed
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX session_due ON session (due) WHERE due IS NOT NULL;
  CREATE TABLE audit (id INTEGER PRIMARY KEY, event TEXT NOT NULL, session TEXT NOT NULL, at INTEGER NOT NULL, who TEXT NOT NULL,
    hash TEXT NOT NULL) STRICT;
  CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 1), n INTEGER NOT NULL, hash TEXT NOT NULL) STRICT; -- of the newest audit entry
  CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, evidence TEXT NOT NULL UNIQUE, session TEXT NOT NULL,
    holder TEXT, claimedUntil INTEGER) STRICT;
  CREATE TABLE receipt (session TEXT NOT NULL, evidence TEXT NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (session, evidence)) STRICT;
  CREATE TABLE registry (kind TEXT NOT NULL, name TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (kind, name)) STRICT, WITHOUT ROWID;
  PRAGMA user_version = ${VERSION};
`;

export type Value = string | number | Buffer | null;

export class EmbeddedFile {
  readonly #db: Database.Database;
  readonly #statements = new Map<string, Database.Statement>();

  /** @throws Fault `unavailable`: the file cannot be opened or is of another version. */
  constructor(path: string) {
    this.#db = answered(() => {
      createPrivate(path);
      return new Database(path, { timeout: BUSY_TIMEOUT });
    });
    try {
      this.#setUp(path);
    } catch (cause) {
      this.#db.close();
      throw cause;
    }
  }

  /** One transaction: everything in it is on the disk when this returns, or nothing when it throws. */
  step<T>(work: () => T): T {
    return answered(() => {
      this.#db.exec("BEGIN IMMEDIATE");
      try {
        const result = work();
        this.#db.exec("COMMIT");
        return result;
      } catch (cause) {
        if (this.#db.inTransaction) this.#db.exec("ROLLBACK");
        throw cause;
      }
    });
  }

  /** @returns how many rows the statement changed */
  run(sql: string, ...values: Value[]): number {
    return answered(() => this.#statement(sql).run(values).changes);
  }

  /** @returns the number of the new row */
  insert(sql: string, ...values: Value[]): number {
    return answered(() => Number(this.#statement(sql).run(values).lastInsertRowid));
  }

  row(sql: string, ...values: Value[]): Readonly<Record<string, Value>> | undefined {
    return answered(() => this.#statement(sql).get(values) as Record<string, Value> | undefined);
  }

  rows(sql: string, ...values: Value[]): Readonly<Record<string, Value>>[] {
    return answered(() => this.#statement(sql).all(values) as Record<string, Value | ArrayBuffer>[]).map(withBuffers);
  }

  /** @throws Fault `unavailable`: the file is read-only, locked, or under settings with which a step could be lost. */
  ready(): void {
    const settings = ["journal_mode", "synchronous"].map((name) => this.row(`PRAGMA ${name}`)?.[name]).join();
    if (settings !== "wal,2") throw new Fault("unavailable", "the file system under the session table does not allow WAL with full sync");
    this.step(() => this.run(`PRAGMA user_version = ${VERSION}`));
  }

  /** Empties the write-ahead log, in which erased keys could still be read. Another process that reads now only puts it off. */
  scrub(): void {
    this.rows("PRAGMA wal_checkpoint(TRUNCATE)");
  }

  close(): void {
    if (!this.#db.open) return;
    try {
      this.scrub();
    } finally {
      this.#db.close();
    }
  }

  #setUp(path: string): void {
    for (const setting of SETTINGS) answered(() => this.#db.pragma(setting));
    this.step(() => {
      const version = this.row("PRAGMA user_version")?.["user_version"];
      if (version === 0) this.#db.exec(TABLES);
      else if (version !== VERSION)
        throw new Fault("unavailable", `${path} is a session table of version ${String(version)}, not ${VERSION}`);
    });
  }

  #statement(sql: string): Database.Statement {
    const known = this.#statements.get(sql);
    if (known) return known;
    const statement = this.#db.prepare(sql);
    this.#statements.set(sql, statement);
    return statement;
  }
}

/** SQLite gives the files beside it (-wal, -shm) the same mode. */
function createPrivate(path: string): void {
  const folder = dirname(path);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  closeSync(openSync(path, "a", 0o600));
  chmodSync(path, 0o600);
  const entry = openSync(folder, "r");
  fsyncSync(entry); // The file's name must survive a power cut as well.
  closeSync(entry);
}

/** The library gives the octets of several rows as ArrayBuffers, of one row as Buffers. */
function withBuffers(row: Readonly<Record<string, Value | ArrayBuffer>>): Readonly<Record<string, Value>> {
  return Object.fromEntries(Object.entries(row).map(([name, value]) => [name, isAnyArrayBuffer(value) ? Buffer.from(value) : value]));
}

function answered<T>(work: () => T): T {
  try {
    return work();
  } catch (cause) {
    throw faultOf(cause);
  }
}

function faultOf(cause: unknown): Fault {
  if (cause instanceof Fault) return cause;
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  // Our own SQL is wrong, or the row breaks a rule of its table; everything else is the disk, a lock, or a closed file.
  if (/^SQLITE_(ERROR|CONSTRAINT|MISMATCH|MISUSE|RANGE)|^UNKNOWN/.test(code)) {
    return new Fault("internal", "session table refused a step", { cause });
  }
  return new Fault("unavailable", "session table did not answer", { cause });
}
