/** Content keys: they cannot be printed by accident, and a wiped one is gone. */
import { inspect } from "node:util";
import { describe, expect, test } from "@jest/globals";
import { ContentKey } from "../../mime/key.ts";
import { faultOf } from "./faults.ts";

const SECRET = Buffer.from("canary-canary-canary-canary-1234");

describe("a content key cannot print", () => {
  const key = ContentKey.adopt(Buffer.from(SECRET));
  const ways: readonly (readonly [string, () => string])[] = [
    ["String()", () => String(key)],
    ["a template", () => `Kc=${key as unknown as string}`],
    ["joining texts", () => ["key", key].join(" ")],
    ["JSON", () => JSON.stringify({ key })],
    ["util.inspect", () => inspect(key)],
    ["util.inspect of all it has", () => inspect({ deep: { key } }, { showHidden: true, depth: 9, getters: true })],
    ["an error that names it", () => inspect(new Error("refused", { cause: key }))],
    ["its own properties", () => inspect(Object.entries(key)) + Reflect.ownKeys(key).join(",")],
    ["a copy by spreading", () => inspect({ ...key })],
    ["a structured clone", () => inspect(structuredClone(key))],
  ];

  test.each(ways)("by %s", (_way, print) => {
    const printed = print();
    for (const form of [SECRET.toString(), SECRET.toString("hex"), SECRET.toString("base64"), "63 61 6e 61 72 79", "99,97,110,97"]) {
      expect(printed).not.toContain(form);
    }
  });

  test.each(ways.slice(0, 6))("and says what it is instead, by %s", (_way, print) => {
    expect(print()).toContain("[ContentKey]");
  });
});

describe("lending and wiping", () => {
  test("lends the 256 bits it was made of", () => {
    const octets = Buffer.from(SECRET);
    expect(ContentKey.adopt(octets).lend((lent) => lent.toString())).toBe(SECRET.toString());
    expect(ContentKey.generate(() => octets).lend((lent) => lent.equals(SECRET))).toBe(true);
  });

  test("generates another key of 32 octets each time", () => {
    const keys = Array.from({ length: 50 }, () => ContentKey.generate().lend((octets) => octets.toString("hex")));
    expect(new Set(keys).size).toBe(50);
    expect(keys.every((hex) => hex.length === 64)).toBe(true);
  });

  test("a wiped key cannot be lent, and the octets it took over are overwritten", () => {
    const octets = Buffer.from(SECRET);
    const key = ContentKey.adopt(octets);
    key.wipe();
    expect(faultOf(() => key.lend(String)).code).toBe("internal");
    expect(octets.equals(Buffer.alloc(32))).toBe(true);
    key.wipe(); // once more does no harm
  });

  test.each([0, 16, 24, 31, 33, 64])("refuses a key of %d octets", (size) => {
    expect(faultOf(() => ContentKey.adopt(Buffer.alloc(size))).code).toBe("malformed");
  });
});
