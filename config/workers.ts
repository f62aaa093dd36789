/** Worker processes of one service: started, given their orders, started again when they end. They share the listening sockets of its doors. */
import cluster, { type Worker } from "node:cluster";
import { setTimeout as later } from "node:timers/promises";
import { Fault } from "../mime/fault.ts";
import { Lifecycle, pause, type Running } from "./lifecycle.ts";
import { ADVICE, Line, type Answers, type Questions } from "./line.ts";
import { reasonOf, type Log } from "./log.ts";
import type { Figures } from "./metrics.ts";
import { Slots } from "./slots.ts";
import { WORKER_NUMBER, type Hello, type Orders } from "./worker.ts";

/** Whom workers turn to. */
export interface Primary<Config, Asked extends Questions, News> {
  readonly log: Log;
  readonly count: number;
  /** The configuration as it counts now. */
  config(): Config;
  readonly answers: Answers<Asked>;
  heard(news: News): void;
  /** A worker had ended without being asked to: its last news may be missing. */
  ended(): void;
  /** Longer than its doors take to close. Milliseconds. */
  readonly stopWithin: number;
  readonly attention?: Attention;
}

/** How the primary finds out that a worker hangs. */
interface Attention {
  /** Milliseconds from one look to the next. */
  readonly every: number;
  /** Milliseconds that it has to answer. */
  readonly within: number;
  /** So many times in a row without an answer, and it is killed. */
  readonly times: number;
}

/** From the first restart on, doubled each time. */
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 30_000;
/** Who has worked for so long has recovered. */
const RECOVERED_AFTER_MS = 60_000;
/** A table may be slow to connect to. */
const STARTED_WITHIN_MS = 30_000;
const FIGURES_WITHIN_MS = 1_000;
/** Two minutes: the largest letters keep a worker busy for seconds, and a machine that slept makes everybody late once. */
const ATTENTION: Attention = { every: 10_000, within: 10_000, times: 6 };

/** One that serves. */
interface Serving<L, Opened> {
  readonly number: number;
  readonly process: Worker;
  readonly line: L;
  readonly opened: Opened;
  readonly since: number;
  /** Resolves with how it ended. */
  readonly ended: Promise<string>;
}

/** @typeParam To what its workers are asked @typeParam Asked what they ask @typeParam News what they tell */
export class Workers<Config, Opened, To extends Orders<Config, Opened> & Questions, Asked extends Questions, News> implements Running {
  readonly #primary: Primary<Config, Asked, News>;
  readonly #serving = new Map<number, Serving<Line<To, Asked & Hello, News>, Opened>>();
  /** Starts, reloads and stops come one after the other: whoever starts gets the configuration that counts. */
  readonly #turns = new Slots(1);
  readonly #stopping = new Lifecycle();

  constructor(primary: Primary<Config, Asked, News>) {
    this.#primary = primary;
    cluster.setupPrimary({ serialization: "advanced" });
  }

  /** Resolves when every one of them serves. @throws Fault what keeps one of them from it; then none is left */
  async start(): Promise<void> {
    const started: Serving<Line<To, Asked & Hello, News>, Opened>[] = []; // some of them may have ended when the last one serves
    try {
      for (let number = 1; number <= this.#primary.count; number++) started.push(await this.#open(number));
    } catch (thrown) {
      await this.stop();
      throw thrown;
    }
    for (const worker of started) {
      void this.#attendTo(worker);
      const kept = this.#keep(worker);
      this.#stopping.onStop(() => kept);
    }
  }

  /** What one of them opened; they all have the same doors. */
  get opened(): Opened | undefined {
    return [...this.#serving.values()][0]?.opened;
  }

  /** How many there are to be, and how many of them serve. */
  get strength(): { readonly wanted: number; readonly serving: number } {
    return { wanted: this.#primary.count, serving: this.#serving.size };
  }

  /**
   * Has everyone take a configuration or nobody.
   * @param take what the primary itself takes, in between
   * @throws Fault what one of them found wrong with it
   */
  async reload(config: To["read"]["about"], take: () => void): Promise<void> {
    await this.#turns.run(async () => {
      try {
        await this.askAll("read", config);
      } catch (thrown) {
        await this.askAll("take", false).catch(() => undefined);
        throw thrown;
      }
      take();
      const late = ({ process }: Worker): void => void process.kill("SIGKILL"); // it begins anew, with what counts now
      await Promise.all([...this.#serving.values()].map((one) => this.#order(one, "take", true).catch(() => late(one.process))));
    });
  }

  /** Asks one of them. @param within milliseconds @throws Fault what it says; `unavailable`: it does not serve, or it does not answer in time */
  async ask<Name extends keyof To & string>(
    number: number,
    name: Name,
    about: To[Name]["about"],
    within?: number,
  ): Promise<To[Name]["answer"]> {
    const one = this.#serving.get(number);
    if (!one) throw new Fault("unavailable", `worker ${number} does not serve`, ADVICE);
    return one.line.ask(name, about, within);
  }

  /** Asks all that serve now. @param within milliseconds @throws Fault what one of them says, with its number */
  async askAll<Name extends keyof To & string>(name: Name, about: To[Name]["about"], within?: number): Promise<To[Name]["answer"][]> {
    const asked = [...this.#serving.values()].map((one) => this.#order(one, name, about, within));
    return (await Promise.all(asked)).flatMap((one) => (one ? [one.answer] : []));
  }

  /** The same while none starts or stops: who starts later finds what they were told of. */
  async tellAll<Name extends keyof To & string>(name: Name, about: To[Name]["about"]): Promise<void> {
    await this.#turns.run(() => this.askAll(name, about));
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

  async #end({ process, line, ended }: Serving<Line<To, Asked & Hello, News>, Opened>): Promise<void> {
    const order = line.ask("stop", undefined, this.#primary.stopWithin).then(
      () => process.process.disconnect(), // then it ends by itself
      () => process.process.kill("SIGKILL"),
    );
    await Promise.all([order, ended]);
  }

  /** @returns undefined where it has ended meanwhile: the next one begins with what counts then. @throws Fault what it says, with its number */
  async #order<Name extends keyof To & string>(
    one: Serving<Line<To, Asked & Hello, News>, Opened>,
    name: Name,
    about: To[Name]["about"],
    within?: number,
  ): Promise<{ readonly answer: To[Name]["answer"] } | undefined> {
    try {
      return { answer: await one.line.ask(name, about, within) };
    } catch (thrown) {
      if (this.#serving.get(one.number) !== one) return undefined;
      const { code, message, advice } = Fault.from(thrown);
      throw new Fault(code, `worker ${one.number}: ${message}`, { cause: thrown, ...(advice !== undefined && { advice }) });
    }
  }

  async #open(number: number): Promise<Serving<Line<To, Asked & Hello, News>, Opened>> {
    const { answers, heard, config, log } = this.#primary;
    const process = cluster.fork({ [WORKER_NUMBER]: String(number) });
    let attends = (): void => undefined;
    const attended = new Promise<void>((resolve) => (attends = resolve));
    const line = new Line<To, Asked & Hello, News>(process, { ...answers, hello: async () => attends() }, heard);
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
      const opened = await line.ask("start", config(), STARTED_WITHIN_MS);
      const serving = { number, process, line, opened, since: performance.now(), ended };
      this.#serving.set(number, serving);
      log.info({ event: "worker.started", worker: String(number), pid: process.process.pid });
      return serving;
    } catch (thrown) {
      process.process.kill("SIGKILL");
      await ended;
      throw thrown;
    }
  }

  /** Kills one that lives and does not answer: its mailboxes would wait for ever. */
  async #attendTo(one: Serving<Line<To, Asked & Hello, News>, Opened>): Promise<void> {
    const { number, process, line } = one;
    const { log, attention: { every, within, times } = ATTENTION } = this.#primary;
    let silent = 0;
    while (silent < times) {
      if (!(await pause(every, this.#stopping.signal)) || this.#serving.get(number) !== one) return;
      silent = await line.ask("attends", undefined, within).then(
        () => 0,
        () => silent + 1,
      );
    }
    if (this.#stopping.signal.aborted || this.#serving.get(number) !== one) return;
    log.error({ event: "worker.hung", worker: String(number), silentMs: times * (every + within) });
    process.process.kill("SIGKILL");
  }

  /** Starts it again whenever it ends, until everything stops. */
  async #keep(first: Serving<Line<To, Asked & Hello, News>, Opened>): Promise<void> {
    const { number } = first;
    const { log } = this.#primary;
    const { signal } = this.#stopping;
    let current: typeof first | undefined = first;
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
          const next = await this.#open(number);
          void this.#attendTo(next);
          return next;
        } catch (thrown) {
          log.error({ event: "worker.not-started", worker: String(number), reason: reasonOf(thrown), againMs: wait });
          return undefined;
        }
      });
    }
  }
}
