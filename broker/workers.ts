/** The worker processes of a broker: started, given their orders, started again when they end. They share the listening sockets of its doors. */
import cluster, { type Worker } from "node:cluster";
import { setTimeout as later } from "node:timers/promises";
import { Lifecycle, pause, type Running } from "../config/lifecycle.ts";
import { reasonOf, type Log } from "../config/log.ts";
import type { Figures } from "../config/metrics.ts";
import type { BrokerConfig } from "../config/schema.ts";
import { Slots } from "../config/slots.ts";
import { Fault } from "../mime/fault.ts";
import { Line, type Answers } from "./line.ts";
import type { Forgotten, Hello, PrimaryLine, ToPrimary, ToWorker } from "./worker-talk.ts";
import type { WorkerNews } from "./worker-news.ts";
import { WORKER_NUMBER } from "./worker.ts";

/** Whom workers turn to. */
export interface Primary {
  readonly log: Log;
  /** The configuration as it counts now. */
  config(): BrokerConfig;
  readonly answers: Answers<ToPrimary>;
  heard(news: WorkerNews): void;
  /** A worker had ended without being asked to: its last news may be missing. */
  ended(): void;
}

/** From the first restart on, doubled each time. */
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 30_000;
/** Who has worked for so long has recovered. */
const RECOVERED_AFTER_MS = 60_000;
/** A table may be slow to connect to. */
const STARTED_WITHIN_MS = 30_000;
/** Longer than its doors take to close. */
const STOPPED_WITHIN_MS = 10_000;
const FIGURES_WITHIN_MS = 1_000;

/** One that answers gateways. */
interface Serving {
  readonly number: number;
  readonly process: Worker;
  readonly line: PrimaryLine;
  readonly port: number;
  readonly since: number;
  /** Resolves with how it ended. */
  readonly ended: Promise<string>;
}

export class Workers implements Running {
  readonly #primary: Primary;
  readonly #count: number;
  readonly #serving = new Map<number, Serving>();
  /** Starts, reloads and stops come one after the other: whoever starts gets the configuration that counts. */
  readonly #turns = new Slots(1);
  readonly #stopping = new Lifecycle();

  private constructor(primary: Primary) {
    this.#primary = primary;
    this.#count = primary.config().workers;
    cluster.setupPrimary({ serialization: "advanced" });
  }

  /** @returns when every one of them listens. @throws Fault what keeps one of them from it; then none is left */
  static async start(primary: Primary): Promise<Workers> {
    const workers = new Workers(primary);
    try {
      for (let number = 1; number <= workers.#count; number++) await workers.#open(number);
    } catch (thrown) {
      await workers.stop();
      throw thrown;
    }
    for (const worker of workers.#serving.values()) {
      const kept = workers.#keep(worker);
      workers.#stopping.onStop(() => kept);
    }
    return workers;
  }

  /** Of the gateways' door. */
  get port(): number {
    return [...this.#serving.values()][0]?.port ?? 0;
  }

  /** How many there are, and how many of them answer gateways. */
  get strength(): { readonly wanted: number; readonly serving: number } {
    return { wanted: this.#count, serving: this.#serving.size };
  }

  /**
   * Has everyone take a configuration or nobody.
   * @param take what the primary itself takes, in between
   * @throws Fault what one of them found wrong with it
   */
  async reload(config: BrokerConfig, take: () => void): Promise<void> {
    await this.#turns.run(async () => {
      try {
        await this.#orderAll("read", config);
      } catch (thrown) {
        await this.#orderAll("take", false).catch(() => undefined);
        throw thrown;
      }
      take();
      const late = ({ process }: Serving): void => void process.process.kill("SIGKILL"); // it begins anew, with what counts now
      await Promise.all([...this.#serving.values()].map((one) => this.#order(one, "take", true).catch(() => late(one))));
    });
  }

  /** Has everyone let go of what was destroyed. @throws Fault where one of them could not */
  async forget(forgotten: Forgotten): Promise<void> {
    await this.#turns.run(() => this.#orderAll("forget", forgotten));
  }

  /** @throws Fault `unavailable`: the table does not answer one of them, or it cannot be trusted */
  async ready(): Promise<void> {
    await this.#orderAll("ready", undefined);
  }

  /** What each of them counts; who is too busy to say is left out. */
  async figures(): Promise<Figures[]> {
    const asked = [...this.#serving.values()].map(({ line }) => line.ask("figures", undefined, FIGURES_WITHIN_MS));
    return (await Promise.allSettled(asked)).flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
  }

  /** Lets the requests end that run; who takes too long is killed. */
  async stop(): Promise<void> {
    const stopped = this.#stopping.stop();
    await this.#turns.run(() => Promise.all([...this.#serving.values()].map((one) => this.#end(one))));
    await stopped;
  }

  async #end({ process, line, ended }: Serving): Promise<void> {
    const order = line.ask("stop", undefined, STOPPED_WITHIN_MS).then(
      () => process.process.disconnect(), // then it ends by itself
      () => process.process.kill("SIGKILL"),
    );
    await Promise.all([order, ended]);
  }

  async #orderAll<Name extends keyof ToWorker>(name: Name, about: ToWorker[Name]["about"]): Promise<void> {
    await Promise.all([...this.#serving.values()].map((one) => this.#order(one, name, about)));
  }

  /** @throws Fault what it says, with its number */
  async #order<Name extends keyof ToWorker>(one: Serving, name: Name, about: ToWorker[Name]["about"]): Promise<void> {
    try {
      await one.line.ask(name, about);
    } catch (thrown) {
      if (this.#serving.get(one.number) !== one) return; // the next one begins with what counts then
      const { code, message, advice } = Fault.from(thrown);
      throw new Fault(code, `worker ${one.number}: ${message}`, { cause: thrown, ...(advice !== undefined && { advice }) });
    }
  }

  async #open(number: number): Promise<Serving> {
    const { answers, heard, config, log } = this.#primary;
    const process = cluster.fork({ [WORKER_NUMBER]: String(number) });
    let attends = (): void => undefined;
    const attended = new Promise<void>((resolve) => (attends = resolve));
    const line = new Line<ToWorker, ToPrimary & Hello, WorkerNews>(process, { ...answers, hello: async () => attends() }, heard);
    const ended = new Promise<string>((resolve) => {
      const end = (how: string): void => {
        this.#serving.delete(number);
        line.close();
        resolve(how);
      };
      process.once("exit", (code, signal) => end(signal ? `by ${signal}` : `with exit code ${code}`));
      process.on("error", (error) => process.process.pid === undefined && end(reasonOf(error))); // it could not be started
    });
    try {
      await Promise.race([attended, ended, later(STARTED_WITHIN_MS, undefined, { ref: false })]);
      const { port } = await line.ask("start", config(), STARTED_WITHIN_MS);
      const serving = { number, process, line, port, since: performance.now(), ended };
      this.#serving.set(number, serving);
      log.info({ event: "worker.started", worker: String(number), pid: process.process.pid });
      return serving;
    } catch (thrown) {
      process.process.kill("SIGKILL");
      await ended;
      throw thrown;
    }
  }

  /** Starts it again whenever it ends, until everything stops. */
  async #keep(first: Serving): Promise<void> {
    const { number } = first;
    const { log } = this.#primary;
    const { signal } = this.#stopping;
    let current: Serving | undefined = first;
    let wait = FIRST_PAUSE_MS;
    while (!signal.aborted) {
      if (current) {
        const how = await current.ended;
        if (signal.aborted) return;
        if (performance.now() - current.since > RECOVERED_AFTER_MS) wait = FIRST_PAUSE_MS;
        log.error({ event: "worker.ended", worker: String(number), how, againMs: wait });
      }
      if (!(await pause(wait, signal))) return;
      this.#primary.ended(); // only now: its last steps may still have been on their way
      wait = Math.min(wait * 2, LONGEST_PAUSE_MS);
      current = await this.#turns.run(async () => {
        if (signal.aborted) return undefined;
        try {
          return await this.#open(number);
        } catch (thrown) {
          log.error({ event: "worker.not-started", worker: String(number), reason: reasonOf(thrown), againMs: wait });
          return undefined;
        }
      });
    }
  }
}
