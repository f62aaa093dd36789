/** What happened in a test, in its order, and waits for what will: events instead of pauses. */
import { Writable } from "node:stream";
import { createLog, type Log } from "../../config/log.ts";

export class Happenings<T> {
  readonly all: T[] = [];
  readonly #waiting = new Set<() => void>();

  add(happening: T): void {
    this.all.push(happening);
    for (const look of this.#waiting) look();
  }

  /** The first ones that fit, past or future, once there are as many as wanted. */
  until(fits: (happening: T) => boolean, count = 1): Promise<T[]> {
    return new Promise((resolve) => {
      const look = (): void => {
        const found = this.all.filter(fits);
        if (found.length < count) return;
        this.#waiting.delete(look);
        resolve(found);
      };
      this.#waiting.add(look);
      look();
    });
  }
}

export type LogLine = Readonly<Record<string, unknown>> & { readonly event: string };

export interface HeardLog {
  readonly log: Log;
  readonly lines: Happenings<LogLine>;
  /** All of it as it was written. */
  text(): string;
}

/** A real log whose lines are heard. */
export function heardLog(): HeardLog {
  const lines = new Happenings<LogLine>();
  let whole = "";
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      whole += chunk.toString();
      for (const line of chunk.toString().split("\n").filter(Boolean)) lines.add(JSON.parse(line) as LogLine);
      done();
    },
  });
  return { log: createLog(stream), lines, text: () => whole };
}
