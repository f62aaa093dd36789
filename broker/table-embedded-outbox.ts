/** What waits to be mailed, in the embedded table: outbox entries, the receipts made for them, and when a row with none is forgotten. */
import { Fault } from "../mime/fault.ts";
import type { SessionHash } from "./session.ts";
import type { EmbeddedFile, Value } from "./table-embedded-file.ts";
import { EmbeddedRegistry } from "./table-embedded-registry.ts";
import { checkedHash } from "./table-row.ts";
import type { Claim, OutboxEntry, TableOptions } from "./table.ts";

export class EmbeddedOutbox extends EmbeddedRegistry {
  protected readonly retention: number;

  constructor(file: EmbeddedFile, options: TableOptions) {
    super(file, options.witness);
    this.retention = options.retention;
  }

  async pending(): Promise<OutboxEntry[]> {
    const rows = this.file.rows("SELECT evidence, session FROM outbox ORDER BY id");
    return rows.map(({ evidence, session }) => ({ evidence: String(evidence), session: checkedHash(String(session)) }));
  }

  async claim({ session, evidence }: OutboxEntry, { holder, until }: Claim, at: number): Promise<boolean> {
    const take = `UPDATE outbox SET holder = ?, claimedUntil = ?
      WHERE session = ? AND evidence = ? AND (holder IS NULL OR holder = ? OR claimedUntil <= ?)`;
    return this.step(() => this.file.run(take, holder, until, session, evidence, holder, at)) === 1;
  }

  async keepReceipt(entry: OutboxEntry, bytes: Buffer): Promise<Buffer> {
    return this.step(() => {
      const row = this.row(entry.session);
      if (row?.["evidence"] !== entry.evidence && row?.["delayedEvidence"] !== entry.evidence)
        throw new Fault("internal", "no receipt is due under this evidence");
      const keep = "INSERT INTO receipt (session, evidence, bytes) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
      this.file.run(keep, entry.session, entry.evidence, bytes);
      return this.#receipt(entry) ?? bytes;
    });
  }

  async receipt(entry: OutboxEntry): Promise<Buffer | undefined> {
    return this.#receipt(entry);
  }

  async done(entry: OutboxEntry): Promise<void> {
    this.step(() => {
      if (this.file.run("DELETE FROM outbox WHERE session = ? AND evidence = ?", entry.session, entry.evidence) === 0) return;
      const row = this.row(entry.session);
      if (row?.["evidence"] !== entry.evidence) return;
      const due = this.forgetAt(Number(row["confirmedAt"] ?? row["endedAt"]));
      this.file.run("UPDATE session SET due = ? WHERE session = ?", due, entry.session);
    });
  }

  /** "Longer than the retention ago" begins one millisecond after it. */
  protected forgetAt(endedAt: number): number {
    return endedAt + this.retention + 1;
  }

  protected row(session: SessionHash): Readonly<Record<string, Value>> | undefined {
    return this.file.row("SELECT * FROM session WHERE session = ?", checkedHash(session));
  }

  #receipt(entry: OutboxEntry): Buffer | undefined {
    const row = this.file.row("SELECT bytes FROM receipt WHERE session = ? AND evidence = ?", entry.session, entry.evidence);
    return row && (row["bytes"] as Buffer);
  }
}
