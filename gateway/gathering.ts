/** Steps of one kind that wait for a line together are one step: under load a server is asked once for many. */
import type { Slots } from "../config/slots.ts";

export class Gathering<Item, Answer> {
  readonly #line: Slots;
  readonly #work: (items: readonly Item[]) => Promise<ReadonlyMap<Item, Answer>>;
  #next: { readonly items: Set<Item>; readonly done: Promise<ReadonlyMap<Item, Answer>> } | undefined;

  /** @param work is done while it has the line; it answers for each item, or for some */
  constructor(line: Slots, work: (items: readonly Item[]) => Promise<ReadonlyMap<Item, Answer>>) {
    this.#line = line;
    this.#work = work;
  }

  /**
   * Has the work done for an item and for all others that come before the line is free.
   * @returns its answer; undefined where the work had none for it
   * @throws what the work throws for this item alone: where it fails for several, it is tried for each of them
   */
  async add(item: Item): Promise<Answer | undefined> {
    const { items, done } = (this.#next ??= this.#gather());
    items.add(item);
    try {
      return (await done).get(item);
    } catch (thrown) {
      if (items.size === 1) throw thrown;
      return (await this.#line.run(() => this.#work([item]))).get(item);
    }
  }

  #gather(): { readonly items: Set<Item>; readonly done: Promise<ReadonlyMap<Item, Answer>> } {
    const items = new Set<Item>();
    const done = this.#line.run(async () => {
      await Promise.resolve(); // who opened the line has yet to put its item in
      this.#next = undefined;
      return this.#work([...items]);
    });
    return { items, done };
  }
}
