/** Who may try to log in: a few failures are free, then each costs a pause that grows; nobody can lock another out (RFC 4954 §9). */
import type { DoorLimits } from "../config/schema.ts";
import { Recent } from "./recent.ts";
import { placeOf } from "./visits.ts";

/** Failures of one place, or of one user from one place, or of one user from anywhere. */
interface Failures {
  readonly count: number;
  readonly last: number;
}

/** An attempt that runs; it is told once how it ended. */
export interface Attempt {
  succeeded(): void;
  failed(): void;
  undecided(): void;
}

/** Attempts of one place that run, and those that wait for them. */
interface Line {
  running: number;
  readonly waiting: (() => void)[];
}

/** So many wait at one place; more are put off at once. */
const MOST_WAITING = 20;
/** After this without a failure all is forgotten. */
const FORGOTTEN_MS = 60 * 60_000;
const MOST_REMEMBERED = 20_000;
const LONGEST_NAME = 254;

export type AttemptLimits = Pick<DoorLimits, "failures" | "userFailures" | "firstPause" | "longestPause">;

/**
 * What is refused here costs no scrypt. A place (an address, of IPv6 its first 64 bits) has `failures` for free. A user who is tried from
 * many places (`userFailures`) leaves each place one failure, never none: whoever comes from elsewhere with the right password is let in.
 * A place from which a user once came in stays open to this user whatever others do there, as behind one address of an office.
 */
export class Attempts {
  readonly #limits: AttemptLimits;
  readonly #clock: () => number;
  readonly #failures = new Recent<Failures>(MOST_REMEMBERED);
  readonly #known = new Recent<true>(MOST_REMEMBERED);
  readonly #lines = new Map<string, Line>();

  /** @param clock milliseconds, by a clock that nobody sets */
  constructor(limits: AttemptLimits, clock: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /**
   * Begins an attempt. As many as may still fail for free are decided at a time; others of the place wait until one of them has ended, so
   * that a thousand at once are no way around, and ten good ones at once no failures.
   * @returns to be told how it ended; undefined where it is put off
   */
  async begin(address: string, name: string): Promise<Attempt | undefined> {
    const user = name.slice(0, LONGEST_NAME);
    const place = JSON.stringify([placeOf(address)]);
    const pair = JSON.stringify([placeOf(address), user]);
    const anywhere = JSON.stringify({ user });
    const { failures, userFailures } = this.#limits;
    for (let first = true; ; first = false) {
      const isHunted = (this.#of(anywhere)?.count ?? 0) >= userFailures;
      const isKnown = this.#known.get(pair) === true;
      if (this.#mustWait(pair, isHunted && !isKnown ? 1 : failures)) return undefined;
      if (!isKnown && this.#mustWait(place, failures)) return undefined;
      const key = isKnown ? pair : place;
      const room = Math.max(1, failures - (this.#of(key)?.count ?? 0));
      const line = this.#lines.get(key) ?? { running: 0, waiting: [] };
      if (line.running < room) {
        line.running++;
        this.#lines.set(key, line);
        return this.#attempt(key, line, [place, pair, anywhere], pair);
      }
      if (line.waiting.length >= MOST_WAITING) return undefined;
      await new Promise<void>((resolve) => (first ? line.waiting.push(resolve) : line.waiting.unshift(resolve)));
    }
  }

  #attempt(key: string, line: Line, counted: readonly string[], pair: string): Attempt {
    const end = (): void => {
      line.running--;
      const next = line.waiting.splice(0); // each looks anew whether there is room for it
      if (line.running === 0 && next.length === 0) this.#lines.delete(key);
      for (const go of next) go();
    };
    return {
      undecided: end,
      failed: () => {
        for (const one of counted) this.#failures.set(one, { count: (this.#of(one)?.count ?? 0) + 1, last: this.#clock() });
        end();
      },
      succeeded: () => {
        this.#failures.delete(pair);
        this.#known.set(pair, true);
        end();
      },
    };
  }

  #of(key: string): Failures | undefined {
    const found = this.#failures.get(key);
    return found && this.#clock() - found.last < FORGOTTEN_MS ? found : undefined;
  }

  #mustWait(key: string, free: number): boolean {
    const found = this.#of(key);
    if (!found || found.count < free) return false;
    const { firstPause, longestPause } = this.#limits;
    return this.#clock() - found.last < Math.min(firstPause * 2 ** Math.min(found.count - free, 30), longestPause);
  }
}
