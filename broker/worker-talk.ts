/** What the broker's primary process and a worker have to say to each other. */
import type { Facts } from "../config/log.ts";
import type { BrokerConfig } from "../config/schema.ts";
import type { Orders } from "../config/worker.ts";
import type { OutboxEntry } from "./table.ts";
import type { Known, Mark } from "./witness.ts";

/** What is left after something was destroyed. */
export interface Forgotten {
  /** Days on which letters wait; the keys of all days before today but these are gone. */
  readonly days: ReadonlySet<number>;
  /** Whether files of the data folder went too. */
  readonly files: boolean;
}

/** What a worker opened. */
export interface Opened {
  /** Of the gateways' door. */
  readonly port: number;
}

/** Questions to a worker. */
export type ToWorker = Orders<BrokerConfig, Opened> & {
  /** Lets go of what was destroyed. */
  readonly forget: { readonly about: Forgotten; readonly answer: void };
  /** Whether its table answers it, and can be trusted. */
  readonly ready: { readonly about: undefined; readonly answer: void };
};

/** Questions to the primary: the one witness of the table knows what every worker saw. */
export type ToPrimary = {
  readonly known: { readonly about: undefined; readonly answer: Known };
  readonly check: { readonly about: { readonly mark: Mark; readonly known: Known }; readonly answer: void };
};

/** What a worker tells the primary as it happens. */
export type WorkerNews =
  /** A line of its log, to be counted. */
  | { readonly line: Facts }
  /** An audit log and its newest entry, for the witness. */
  | { readonly head: readonly [log: string, head: string] }
  /** A receipt or report that one of its steps queued. */
  | { readonly entry: OutboxEntry };
