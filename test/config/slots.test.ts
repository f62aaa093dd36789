/** Slots: so many at once, the others in the order in which they came. */
import { expect, test } from "@jest/globals";
import { Slots } from "../../config/slots.ts";

test("never more run at once than there are slots, and the others in their order, also those that come meanwhile", async () => {
  const slots = new Slots(2);
  const [begun, running]: [number[], Set<number>] = [[], new Set()];
  const late: Promise<void>[] = [];
  const step = async (number: number): Promise<void> => {
    begun.push(number);
    running.add(number);
    expect(running.size).toBeLessThanOrEqual(2);
    if (number >= 2 && number < 5) late.push(slots.run(() => step(number + 100)));
    await Promise.resolve();
    running.delete(number);
  };
  await Promise.all(Array.from({ length: 10 }, (_none, number) => slots.run(() => step(number))));
  await Promise.all(late);
  expect(begun).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 102, 103, 104]);
});

test("a step that fails gives its slot to the next", async () => {
  const slots = new Slots(1);
  const failing = slots.run(() => Promise.reject(new Error("no")));
  const next = slots.run(async () => "next");
  await expect(failing).rejects.toThrow("no");
  expect(await next).toBe("next");
});
