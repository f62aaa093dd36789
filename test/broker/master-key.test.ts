/** Kc at rest: it unwraps for exactly the row it was wrapped for, under exactly the key it was wrapped with. */
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "@jest/globals";
import { ContentKey } from "../../mime/key.ts";
import { letter, masterOf } from "./table-homes.ts";

const { wrappedKey: _none, ticket: _neither, declaredMac: _nor, ...row } = letter();
const folder = mkdtempSync(join(tmpdir(), "kakitome-days-"));
afterAll(() => rmSync(folder, { recursive: true }));
const master = masterOf(randomBytes(32), folder);
const octetsOf = (key: ContentKey): string => key.lend((octets) => octets.toString("hex"));

test("a key comes back as it went in", () => {
  const key = ContentKey.generate();
  expect(octetsOf(master.unwrap(master.wrap(key, row), row))).toBe(octetsOf(key));
});

test("the wrapped octets never hold the key, and never repeat", () => {
  const key = ContentKey.generate();
  const wrapped = Array.from({ length: 50 }, () => master.wrap(key, row).toString("hex"));
  expect(new Set(wrapped).size).toBe(50);
  for (const octets of wrapped) {
    expect(octets).not.toContain(octetsOf(key));
    expect(octets).not.toContain(octetsOf(key).slice(0, 16));
  }
});

describe("does not unwrap", () => {
  const wrapped = master.wrap(ContentKey.generate(), row);
  const refused = expect.objectContaining({ code: "internal" });

  test.each(Object.keys(row) as (keyof typeof row)[])("where the row's %s was edited", (name) => {
    const value = row[name];
    const edited = typeof value === "number" ? value + 1 : `${value.slice(0, -1)}${value.endsWith("0") ? "1" : "0"}`;
    expect(() => master.unwrap(wrapped, { ...row, [name]: edited })).toThrow(refused);
  });

  test("where a character moved from one field to the next", () => {
    const moved = { ...row, sender: `${row.sender}x`, recipient: row.recipient.slice(1) };
    const other = { ...row, sender: row.sender, recipient: `x${row.recipient.slice(1)}` };
    const bound = master.wrap(ContentKey.generate(), other);
    expect(() => master.unwrap(bound, moved)).toThrow(refused);
  });

  test("under another master key", () => {
    expect(() => masterOf(randomBytes(32), folder).unwrap(wrapped, row)).toThrow(refused);
  });

  test.each(Array.from({ length: 60 }, (_none, at) => at))("with octet %i altered", (at) => {
    const copy = Buffer.from(wrapped);
    copy[at] = (copy[at] ?? 0) ^ 0x80;
    expect(() => master.unwrap(copy, row)).toThrow(refused);
  });

  test.each([0, 1, 11, 12, 27, 28, 44, 59])("cut to %i octets", (length) => {
    expect(() => master.unwrap(wrapped.subarray(0, length), row)).toThrow(refused);
  });
});

test.each([0, 16, 31, 33, 64])("a master key of %i octets is refused", (length) => {
  expect(() => masterOf(randomBytes(length), folder)).toThrow(expect.objectContaining({ code: "malformed" }));
});
