/** What waits for a line together is done in one step; where that fails, each is tried alone, and only what fails alone has failed. */
import { beforeEach, expect, test } from "@jest/globals";
import { Slots } from "../../config/slots.ts";
import { Gathering } from "../../gateway/gathering.ts";

const BAD = 7;
let line: Slots;
let steps: (readonly number[])[];
let doubles: Gathering<number, number>;
beforeEach(() => {
  line = new Slots(1);
  steps = [];
  doubles = new Gathering(line, async (items: readonly number[]) => {
    steps.push(items);
    await Promise.resolve();
    if (items.includes(BAD)) throw new Error("refused");
    return new Map(items.filter((item) => item > 0).map((item) => [item, 2 * item]));
  });
});

/** Holds the line until `release` is called. */
function busy(): { release(): void; readonly ended: Promise<void> } {
  let release = (): void => undefined;
  const ended = line.run(() => new Promise<void>((resolve) => (release = resolve)));
  return { release: () => release(), ended };
}

test("what comes alone is done alone, at once", async () => {
  expect(await doubles.add(2)).toBe(4);
  expect(await doubles.add(3)).toBe(6);
  expect(steps).toEqual([[2], [3]]);
});

test("what comes while the line is busy is done in one step, each with its own answer", async () => {
  const other = busy();
  const answers = Promise.all([1, 2, -1, 3].map((item) => doubles.add(item)));
  expect(steps).toEqual([]);
  other.release();
  expect(await answers).toEqual([2, 4, undefined, 6]);
  expect(steps).toEqual([[1, 2, -1, 3]]);
});

test("what comes while a step is done waits for the next one", async () => {
  let late: Promise<number | undefined> | undefined;
  const named = new Gathering(line, async (items: readonly number[]) => {
    steps.push(items);
    late ??= named.add(2);
    return new Map(items.map((item) => [item, item]));
  });
  expect(await named.add(1)).toBe(1);
  expect(await late).toBe(2);
  expect(steps).toEqual([[1], [2]]);
});

test("one that fails fails for itself only", async () => {
  const other = busy();
  const answers = Promise.allSettled([1, BAD, 2].map((item) => doubles.add(item)));
  other.release();
  expect(await answers).toEqual([
    { status: "fulfilled", value: 2 },
    { status: "rejected", reason: new Error("refused") },
    { status: "fulfilled", value: 4 },
  ]);
  expect(steps).toEqual([[1, BAD, 2], [1], [BAD], [2]]);
  await expect(doubles.add(BAD)).rejects.toThrow("refused");
  expect(steps).toHaveLength(5); // not tried a second time where it was alone
});

test("the line is free again afterwards, however it ended", async () => {
  await Promise.allSettled([doubles.add(BAD), doubles.add(1)]);
  const other = busy();
  other.release();
  await other.ended;
  expect(await doubles.add(4)).toBe(8);
});
