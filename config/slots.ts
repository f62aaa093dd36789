/** A bound on how much runs at once; what finds no free slot waits its turn. */
export class Slots {
  #free: number;
  /** Who came last, in their order. */
  #come: (() => void)[] = [];
  /** Who came before them, the other way round: taking the first out of a very long list would move all the others each time. */
  #next: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  async run<T>(step: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#come.push(resolve));
    try {
      return await step();
    } finally {
      if (this.#next.length === 0) [this.#next, this.#come] = [this.#come.toReversed(), []];
      const next = this.#next.pop();
      if (next) next();
      else this.#free++;
    }
  }
}
