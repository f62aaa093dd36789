/** One transaction a step in the embedded table, its audit, and what the witness learns of it. */
import { randomUUID } from "node:crypto";
import { entryHash, type AuditLog } from "./audit.ts";
import { auditLogIn } from "./table-embedded-copy.ts";
import type { EmbeddedFile } from "./table-embedded-file.ts";
import type { Mark, TableWitness } from "./witness.ts";

/** This home has one. */
const AUDIT_LOG = "all";

export class EmbeddedSteps {
  protected readonly file: EmbeddedFile;
  readonly #witness: TableWitness | undefined;
  #audited: number | undefined;

  constructor(file: EmbeddedFile, witness: TableWitness | undefined) {
    this.file = file;
    this.#witness = witness;
  }

  async ready(): Promise<void> {
    this.file.ready();
    await this.#witness?.examine(async () => this.#mark());
  }

  async close(): Promise<void> {
    this.file.close();
  }

  async begin(epoch: string, follows: string): Promise<void> {
    this.file.step(() => {
      this.putText("epoch", "id", epoch);
      this.putText("epoch", "follows", follows);
    });
  }

  async epoch(): Promise<string | undefined> {
    return this.record("epoch", "id");
  }

  /** One transaction; what it wrote into the audit log is remembered outside. */
  protected step<T>(work: () => T): T {
    this.#audited = undefined;
    const result = this.file.step(work);
    if (this.#audited !== undefined) this.#witness?.saw(AUDIT_LOG, String(this.#audited));
    return result;
  }

  protected audit(event: string, session: string, at: number, who: string): void {
    const known = this.file.row("SELECT n, hash FROM head");
    const entry = { n: Number(known?.["n"] ?? 0) + 1, event, session, at, who };
    const hash = entryHash(String(known?.["hash"] ?? ""), entry);
    this.file.run(
      "INSERT INTO audit (id, event, session, at, who, hash) VALUES (?, ?, ?, ?, ?, ?)",
      entry.n,
      event,
      session,
      at,
      who,
      hash,
    );
    this.file.run(
      "INSERT INTO head (id, n, hash) VALUES (1, ?, ?) ON CONFLICT DO UPDATE SET n = excluded.n, hash = excluded.hash",
      entry.n,
      hash,
    );
    this.#audited = entry.n;
  }

  async *auditLogs(): AsyncGenerator<AuditLog> {
    yield auditLogIn(this.file);
  }

  async auditHead(): Promise<string> {
    return String(this.file.row("SELECT hash FROM head")?.["hash"] ?? "");
  }

  protected putText(kind: string, name: string, text: string): string {
    const put = "INSERT INTO registry (kind, name, record) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET record = excluded.record";
    this.file.run(put, kind, name, text);
    return text;
  }

  protected record(kind: string, name: string): string | undefined {
    return this.file.row("SELECT record FROM registry WHERE kind = ? AND name = ?", kind, name)?.["record"] as string | undefined;
  }

  #mark(): Mark {
    const id = this.record("epoch", "id") ?? this.step(() => this.putText("epoch", "id", randomUUID()));
    const head = this.file.row("SELECT max(id) AS head FROM audit")?.["head"];
    return { epoch: id, follows: this.record("epoch", "follows"), heads: new Map(head == null ? [] : [[AUDIT_LOG, String(head)]]) };
  }
}
