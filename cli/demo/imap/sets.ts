/** Sets of sequence numbers and of UIDs, `2,4:7,9:*`: RFC 3501 §9 (sequence-set) and RFC 4315 §4 (uid-set). */

import { bad } from "./refusal.ts";

/** Ranges as the client wrote them; "*" is Infinity until the set is resolved. */
export type NumberSet = readonly (readonly [number, number])[];

/** Parse the text of a set. @throws Refusal BAD: not a set, a zero, or a number over 32 bits. */
export function parseSet(text: string): NumberSet {
  return text.split(",").map((range) => {
    const [first = "", last = first, ...rest] = range.split(":");
    if (rest.length > 0) throw bad("a range has two ends");
    return [parseEnd(first), parseEnd(last)] as const;
  });
}

function parseEnd(text: string): number {
  if (text === "*") return Infinity;
  if (!/^[1-9]\d{0,9}$/.test(text) || Number(text) > 0xffffffff) throw bad("not a message number");
  return Number(text);
}

/** A test for membership, with "*" standing for `last`. */
export function resolveSet(set: NumberSet, last: number): (value: number) => boolean {
  const ranges = set.map(([a, b]) => {
    const [x, y] = [a === Infinity ? last : a, b === Infinity ? last : b];
    return [Math.min(x, y), Math.max(x, y)] as const;
  });
  return (value) => ranges.some(([low, high]) => value >= low && value <= high);
}

/**
 * Check that a set of sequence numbers names only messages that are there: RFC 3501 §9, seq-number.
 * @throws Refusal BAD: a number over the count, or "*" in an empty mailbox.
 */
export function checkSequence(set: NumberSet, count: number): void {
  for (const [a, b] of set) {
    // "5:*" in a mailbox of three is a range some clients ask for; it means the last message.
    const open = a === Infinity || b === Infinity;
    if (count === 0 || (!open && Math.max(a, b) > count)) throw bad("no such message number");
  }
}

/** UIDs in their given order as a set, runs drawn together, for COPYUID. */
export function formatSet(values: readonly number[]): string {
  const runs: [number, number][] = [];
  for (const value of values) {
    const run = runs.at(-1);
    if (run !== undefined && value === run[1] + 1) run[1] = value;
    else runs.push([value, value]);
  }
  return runs.map(([low, high]) => (low === high ? `${low}` : `${low}:${high}`)).join(",");
}

/** Position of a value in an ascending list, or -1. */
export function positionOf(values: readonly number[], value: number): number {
  let low = 0;
  let high = values.length - 1;
  while (low <= high) {
    const middle = (low + high) >>> 1;
    const found = values[middle] ?? 0;
    if (found === value) return middle;
    if (found < value) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}
