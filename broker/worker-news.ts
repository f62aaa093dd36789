/** What a worker tells the primary as it happens, in one message for each turn of its event loop. */
import type { Facts } from "../config/log.ts";
import type { OutboxEntry } from "./table.ts";

export interface WorkerNews {
  /** Lines of its log, to be counted. */
  readonly lines: readonly Facts[];
  /** Audit logs and their newest entries, for the witness. */
  readonly heads: readonly (readonly [log: string, head: string])[];
  /** Receipts and reports that its steps queued. */
  readonly entries: readonly OutboxEntry[];
}

export class NewsDesk {
  readonly #tell: (news: WorkerNews) => void;
  #lines: Facts[] = [];
  #heads: [string, string][] = [];
  #entries: OutboxEntry[] = [];
  #isDue = false;

  constructor(tell: (news: WorkerNews) => void) {
    this.#tell = tell;
  }

  line(facts: Facts): void {
    this.#lines.push(facts);
    this.#later();
  }

  head(log: string, head: string): void {
    this.#heads.push([log, head]);
    this.#later();
  }

  entry(entry: OutboxEntry): void {
    this.#entries.push(entry);
    this.#later();
  }

  /** Tells at once what there is. */
  flush(): void {
    if (!this.#isDue) return;
    this.#isDue = false;
    this.#tell({ lines: this.#lines, heads: this.#heads, entries: this.#entries });
    [this.#lines, this.#heads, this.#entries] = [[], [], []];
  }

  #later(): void {
    if (!this.#isDue) setImmediate(() => this.flush());
    this.#isDue = true;
  }
}
