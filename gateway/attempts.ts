/** Who may try to log in: a few failures are free, then each costs a pause that grows; nobody can lock another out (RFC 4954 §9). */
import type { DoorLimits } from "../config/schema.ts";
import { Recent } from "./recent.ts";
import { placeOf } from "./visits.ts";

/** Failures of one place, or of one user from one place, or of one user from anywhere. */
interface Failures {
  readonly count: number;
  readonly last: number;
}

/** Attempts of one place whose password is being checked. */
interface Undecided {
  count: number;
  /** Resolves with the next decision. */
  readonly next: Promise<void>;
  readonly decided: () => void;
}

export interface Attempt {
  succeeded(): void;
  failed(): void;
  /** It could not be told; counts as nothing. */
  undecided(): void;
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
  readonly #undecided = new Map<string, Undecided>();
  readonly #known = new Recent<true>(MOST_REMEMBERED);

  /** @param clock milliseconds, by a clock that nobody sets */
  constructor(limits: AttemptLimits, clock: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /**
   * Begins an attempt, once so few others of its place are undecided that all of them may fail: a thousand at once are no way around,
   * and an honest client with many connections only waits its turn.
   * @returns how it ended, to be told once; undefined where it must come again later
   */
  async begin(address: string, name: string): Promise<Attempt | undefined> {
    const user = name.slice(0, LONGEST_NAME);
    const place = JSON.stringify([placeOf(address)]);
    const pair = JSON.stringify([placeOf(address), user]);
    const anywhere = JSON.stringify({ user });
    for (;;) {
      const { failures, userFailures } = this.#limits;
      const isKnown = this.#known.get(pair) === true;
      const isHunted = !isKnown && (this.#of(anywhere)?.count ?? 0) >= userFailures;
      if (this.#mustWait(pair, isHunted ? 1 : failures)) return undefined;
      if (!isKnown && this.#mustWait(place, failures)) return undefined;
      const left = isHunted ? 1 : failures - (this.#of(isKnown ? pair : place)?.count ?? 0);
      const undecided = this.#undecided.get(place);
      if ((undecided?.count ?? 0) < Math.max(left, 1)) break;
      await undecided?.next;
    }
    this.#open(place);
    const end = (): void => this.#close(place);
    return {
      undecided: end,
      succeeded: () => {
        this.#failures.delete(pair);
        this.#known.set(pair, true);
        end();
      },
      failed: () => {
        for (const key of [place, pair, anywhere]) {
          this.#failures.set(key, { count: (this.#of(key)?.count ?? 0) + 1, last: this.#clock() });
        }
        end();
      },
    };
  }

  #open(place: string): void {
    const before = this.#undecided.get(place);
    if (before) before.count++;
    else this.#undecided.set(place, { count: 1, ...signal() });
  }

  /** Lets those look again who wait for a decision. */
  #close(place: string): void {
    const before = this.#undecided.get(place);
    if (!before) return;
    const count = before.count - 1;
    if (count > 0) this.#undecided.set(place, { count, ...signal() });
    else this.#undecided.delete(place);
    before.decided();
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

function signal(): Pick<Undecided, "next" | "decided"> {
  let decided = (): void => undefined;
  const next = new Promise<void>((resolve) => (decided = resolve));
  return { next, decided };
}
