/** A worker process of a service that has several (workers.ts). */
import cluster from "node:cluster";
import { Line, type Answers, type Questions } from "./line.ts";
import { overheard, type Facts, type Log } from "./log.ts";
import type { Figures } from "./metrics.ts";

/** In the environment of a worker: which one it is, from 1 on. */
export const WORKER_NUMBER = "KAKITOME_WORKER";

/** What every worker is asked. */
export type Orders<Config, Opened> = {
  /** Opens its doors with the configuration as it counts now; where it cannot, it is of no use any more. */
  readonly start: { readonly about: Config; readonly answer: Opened };
  /** Reads what a reload would take, and takes nothing. */
  readonly read: { readonly about: Config; readonly answer: void };
  /** Takes what it read last, or forgets it. */
  readonly take: { readonly about: boolean; readonly answer: void };
  /** Says that it does. */
  readonly attends: { readonly about: undefined; readonly answer: void };
  readonly figures: { readonly about: undefined; readonly answer: Figures };
  /** Lets end what runs, and closes everything. */
  readonly stop: { readonly about: undefined; readonly answer: void };
};

/** Whether it attends to what it is asked; before, Node.js loses what is said to it. */
export type Hello = { readonly hello: { readonly about: undefined; readonly answer: void } };

/** Whether this process was started as a worker. */
export function isWorker(): boolean {
  return cluster.isWorker && process.env[WORKER_NUMBER] !== undefined;
}

/** What happens in a worker, told to the primary in one message for each turn of the event loop. */
class News<Item> {
  readonly #tell: (items: readonly Item[]) => void;
  #items: Item[] = [];

  constructor(tell: (items: readonly Item[]) => void) {
    this.#tell = tell;
  }

  add(item: Item): void {
    if (this.#items.push(item) === 1) setImmediate(() => this.flush());
  }

  /** Tells at once what there is. */
  flush(): void {
    if (this.#items.length === 0) return;
    const items = this.#items;
    this.#items = [];
    this.#tell(items);
  }
}

/** What a worker works with. */
export interface Bench<ToPrimary extends Questions, Item> {
  readonly number: number;
  readonly log: Log;
  readonly news: News<Item>;
  line(): Line<ToPrimary & Hello, never, never>;
}

/**
 * Works until the primary says stop, or ends: without it nobody keeps the data folder.
 * @param lineOf the news that a line of the log is
 */
export function runWorker<ToPrimary extends Questions, ToWorker extends Questions, Item>(
  writtenTo: Log,
  answersOf: (bench: Bench<ToPrimary, Item>) => Answers<ToWorker>,
  lineOf: (facts: Facts) => Item,
): void {
  for (const name of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(name, () => undefined); // sent to the whole group: the primary sees to it
  const number = Number(process.env[WORKER_NUMBER]);
  const news = new News<Item>((items) => line.tell(items));
  const log = overheard(writtenTo.with({ worker: String(number) }), (facts) => news.add(lineOf(facts)));
  const line: Line<ToPrimary & Hello, ToWorker, never> = new Line(
    process,
    answersOf({ number, log, news, line: () => line }),
    () => undefined,
  );
  line.ask("hello", undefined).catch(() => undefined); // a primary that does not answer has ended, and we with it
}
