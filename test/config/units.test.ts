/** Quantities: a whole number and its unit, nothing else. */
import { describe, expect, test } from "@jest/globals";
import { duration, octets } from "../../config/units.ts";

test.each([
  ["0ms", 0],
  ["500ms", 500],
  ["30s", 30_000],
  ["5m", 300_000],
  ["24h", 86_400_000],
  ["30d", 2_592_000_000],
  ["007s", 7_000],
])("duration %s is %i milliseconds", (text, milliseconds) => {
  expect(duration(text)).toBe(milliseconds);
});

test.each([
  ["0B", 0],
  ["512B", 512],
  ["64KiB", 65_536],
  ["25MiB", 26_214_400],
  ["1GiB", 1_073_741_824],
])("size %s is %i octets", (text, size) => {
  expect(octets(text)).toBe(size);
});

const REFUSED = [
  ["nothing", ""],
  ["no unit", "30"],
  ["no number", "s"],
  ["a space between", "30 s"],
  ["a space around", " 30s"],
  ["a line end", "30s\n"],
  ["a fraction", "1.5h"],
  ["a comma", "1,5h"],
  ["a sign", "-30s"],
  ["an exponent", "1e3s"],
  ["another unit", "2w"],
  ["capitals", "30S"],
  ["two of them", "1h30m"],
  ["a name that every object has", "1constructor"],
  ["more digits than anybody means", "1234567890s"],
  ["digits of another script", "٣s"],
] as const;

describe("refused as malformed, with an example of what to write", () => {
  test.each(REFUSED)("duration: %s", (_why, text) => {
    expect(() => duration(text)).toThrow(expect.objectContaining({ code: "malformed", message: expect.stringContaining("such as 30s") }));
  });

  test.each([...REFUSED, ["a decimal unit", "25MB"], ["a time", "30s"]])("size: %s", (_why, text) => {
    expect(() => octets(text)).toThrow(expect.objectContaining({ code: "malformed", message: expect.stringContaining("such as 25MiB") }));
  });
});
