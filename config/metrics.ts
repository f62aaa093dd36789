/** What is counted (prom-client): a registry of one process, or of several of one service added up, in the text format that Prometheus scrapes. Labels come from closed lists, never from mail. */
import { AggregatorRegistry, Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";

/** Adds to a counter. */
export type Count<Label extends string> = (labels: Readonly<Record<Label, string>>, by?: number) => void;

/** One value of a gauge, with the labels it stands under. */
export interface Reading<Label extends string> {
  readonly labels: Readonly<Record<Label, string>>;
  readonly value: number;
}

/** Everything that a process counts, as values that another process can add to its own. */
export type Figures = Awaited<ReturnType<Registry["getMetricsAsJSON"]>>;

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** Seconds: from a machine that answers at once to a person who comes back from a holiday. */
const WAITS = [1, 2, 5, 10, 30, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 4 * HOUR, 12 * HOUR, DAY, 3 * DAY, 7 * DAY, 30 * DAY];

export class Metrics {
  readonly #registry = new Registry();
  #others: () => Promise<readonly Figures[]> = async () => [];

  constructor() {
    collectDefaultMetrics({ register: this.#registry });
  }

  /** A counter; every value of a label that is named here is there from the start, so that a rate sees its first step. */
  counter<Label extends string>(name: string, help: string, labels: Readonly<Record<Label, readonly string[]>>): Count<Label> {
    const [label] = Object.keys(labels) as Label[];
    const counter = new Counter({ name, help, labelNames: Object.keys(labels), registers: [this.#registry] });
    for (const value of label === undefined ? [] : labels[label]) counter.inc({ [label as string]: value }, 0);
    return (values, by = 1) => counter.inc(values, by);
  }

  /** A histogram of waiting times. @returns what takes an observation, in milliseconds */
  times(name: string, help: string): (milliseconds: number) => void {
    const histogram = new Histogram({ name, help, buckets: WAITS, registers: [this.#registry] });
    return (milliseconds) => histogram.observe(Math.max(milliseconds, 0) / 1_000);
  }

  /** A gauge that is read anew at each scrape; where the reading fails the gauge is absent. */
  gauge<Label extends string>(name: string, help: string, labels: readonly Label[], read: () => Promise<readonly Reading<Label>[]>): void {
    const gauge = new Gauge({
      name,
      help,
      labelNames: [...labels],
      registers: [],
      async collect() {
        this.reset();
        if (labels.length === 0) this.remove();
        for (const { labels: values, value } of await read().catch(() => [])) this.set(values, value);
      },
    });
    this.#registry.registerMetric(gauge);
    this.#registry.registerMetric(gauge);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** Adds at each scrape what other processes of the same service count. */
  addOthers(others: () => Promise<readonly Figures[]>): void {
    this.#others = others;
  }

  /** Everything, as text. */
  async text(): Promise<string> {
    const others = await this.#others();
    if (others.length === 0) return this.#registry.metrics();
    return AggregatorRegistry.aggregate([await this.figures(), ...others]).metrics();
  }

  /** Everything, of this process alone. */
  figures(): Promise<Figures> {
    return this.#registry.getMetricsAsJSON();
  }
}
