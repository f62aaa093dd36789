/** What the primary process and a worker have to say to each other. */
import type { Figures } from "../config/metrics.ts";
import type { BrokerConfig } from "../config/schema.ts";
import type { Line } from "./line.ts";
import type { Known, Mark } from "./witness.ts";
import type { WorkerNews } from "./worker-news.ts";

/** What is left after something was destroyed. */
export interface Forgotten {
  /** Days on which letters wait; the keys of all days before today but these are gone. */
  readonly days: ReadonlySet<number>;
  /** Whether files of the data folder went too. */
  readonly files: boolean;
}

/** Questions to a worker. */
export type ToWorker = {
  /** Opens its doors with the configuration as it counts now; where it cannot, it is of no use any more. */
  readonly start: { readonly about: BrokerConfig; readonly answer: { readonly port: number } };
  /** Reads what a reload would take, and takes nothing. */
  readonly read: { readonly about: BrokerConfig; readonly answer: void };
  /** Takes what it read last, or forgets it. */
  readonly take: { readonly about: boolean; readonly answer: void };
  /** Lets go of what was destroyed. */
  readonly forget: { readonly about: Forgotten; readonly answer: void };
  /** Whether its table answers it, and can be trusted. */
  readonly ready: { readonly about: undefined; readonly answer: void };
  readonly figures: { readonly about: undefined; readonly answer: Figures };
  /** Lets the requests end that run, and closes everything. */
  readonly stop: { readonly about: undefined; readonly answer: void };
};

/** Whether it attends to what it is asked; before, Node.js loses what is said to it. */
export type Hello = { readonly hello: { readonly about: undefined; readonly answer: void } };

/** Questions to the primary: the one witness of the table knows what every worker saw. */
export type ToPrimary = {
  readonly known: { readonly about: undefined; readonly answer: Known };
  readonly check: { readonly about: { readonly mark: Mark; readonly known: Known }; readonly answer: void };
};

export type PrimaryLine = Line<ToWorker, ToPrimary & Hello, WorkerNews>;
export type WorkerLine = Line<ToPrimary & Hello, ToWorker, never>;
