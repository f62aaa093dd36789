/** Starting and stopping: what was started last stops first, and a signal of the system stops everything once. */

import { setMaxListeners } from "node:events";

export interface Running {
  stop(): Promise<void>;
}

/** What runs listens to a signal, and much may run: Node.js would call more than ten at a time a leak, and say so beside the log. */
export function everybodyMayListen(signal: AbortSignal): void {
  setMaxListeners(0, signal);
}

/** Collects what was started; `stop` undoes it in reverse order and goes on past failures. */
export class Lifecycle implements Running {
  readonly #stops: (() => Promise<void> | void)[] = [];
  readonly #abort = new AbortController();

  /** Aborted as soon as stopping begins. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  constructor() {
    everybodyMayListen(this.#abort.signal);
  }

  onStop(stop: () => Promise<void> | void): void {
    this.#stops.push(stop);
  }

  async stop(): Promise<void> {
    this.#abort.abort(new Error("stopping"));
    for (let stop = this.#stops.pop(); stop; stop = this.#stops.pop()) {
      try {
        await stop();
      } catch {
        // the next one must still be stopped
      }
    }
  }
}

/** Resolves when the process is asked to end (SIGTERM, SIGINT). */
export function stopRequested(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => resolve(name));
  });
}

/** What a timer can count; a longer one would end at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Waits; resolves early with false when one of the signals aborts. @param milliseconds how long */
export function pause(milliseconds: number, ...signals: readonly AbortSignal[]): Promise<boolean> {
  return new Promise((resolve) => {
    if (signals.some(({ aborted }) => aborted)) return resolve(false);
    const done = (waited: boolean) => (): void => {
      clearTimeout(timer);
      for (const signal of signals) signal.removeEventListener("abort", aborted);
      resolve(waited);
    };
    const aborted = done(false);
    const timer = setTimeout(done(true), Math.min(milliseconds, LONGEST_TIMER_MS));
    for (const signal of signals) signal.addEventListener("abort", aborted, { once: true });
  });
}

/**
 * Works under a signal that aborts when another one does, and after a time. AbortSignal.any leaves some octets behind each time as long as
 * a signal lives that it was made of (Node.js 20).
 * @param milliseconds how long
 */
export async function within<T>(milliseconds: number, signal: AbortSignal, work: (limit: AbortSignal) => Promise<T>): Promise<T> {
  const limit = new AbortController();
  const abort = (): void => limit.abort(signal.reason);
  const late = (): void => limit.abort(new DOMException(`not done within ${milliseconds} ms`, "TimeoutError"));
  const timer = setTimeout(late, Math.min(milliseconds, LONGEST_TIMER_MS));
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) abort();
  try {
    return await work(limit.signal);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
  }
}
