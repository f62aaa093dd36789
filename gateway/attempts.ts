/** Who may try to log in: a few failures are free, then each costs a pause that grows; nobody can lock another out (RFC 4954 §9). */
import type { DoorLimits } from "../config/schema.ts";
import { Recent } from "./recent.ts";
import { placeOf } from "./visits.ts";

/** Failures of one place, or of one user from one place, or of one user from anywhere. */
interface Failures {
  readonly count: number;
  readonly last: number;
}

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

  /** @param clock milliseconds, by a clock that nobody sets */
  constructor(limits: AttemptLimits, clock: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /**
   * Begins an attempt; it counts as a failure until it succeeded, so that a thousand at once are no way around.
   * @returns how it ended, to be told; undefined where it must wait
   */
  begin(address: string, name: string): { succeeded(): void; undecided(): void } | undefined {
    const user = name.slice(0, LONGEST_NAME);
    const place = JSON.stringify([placeOf(address)]);
    const pair = JSON.stringify([placeOf(address), user]);
    const anywhere = JSON.stringify({ user });
    const { failures, userFailures } = this.#limits;
    const isHunted = (this.#of(anywhere)?.count ?? 0) >= userFailures;
    const isKnown = this.#known.get(pair) === true;
    if (this.#mustWait(pair, isHunted && !isKnown ? 1 : failures)) return undefined;
    if (!isKnown && this.#mustWait(place, failures)) return undefined;
    const counted = [place, pair, anywhere];
    for (const key of counted) this.#change(key, 1);
    const undo = (): void => {
      for (const key of counted) this.#change(key, -1);
    };
    return {
      undecided: undo,
      succeeded: () => {
        undo();
        this.#failures.delete(pair);
        this.#known.set(pair, true);
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

  #change(key: string, by: 1 | -1): void {
    const before = this.#of(key);
    const count = (before?.count ?? 0) + by;
    if (count <= 0) this.#failures.delete(key);
    else this.#failures.set(key, { count, last: by > 0 ? this.#clock() : (before?.last ?? this.#clock()) });
  }
}
