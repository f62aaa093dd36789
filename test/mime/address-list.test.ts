/** Address lists of header fields: read like every mail client reads them, or refused; never guessed. */
import { describe, expect, test } from "@jest/globals";
import { parseAddressList } from "../../mime/address.ts";
import { faultOf } from "./faults.ts";
import { ending } from "./patience.ts";

const addressesIn = (value: string): string[] => parseAddressList(value).map(({ address }) => address);
const A = "a@a.example";
const B = "b@b.example";

describe("parseAddressList reads", () => {
  test.each([
    ["one address", A, [A]],
    ["one in angle brackets", `<${A}>`, [A]],
    ["a display name", `Alice Smith <${A}>`, [A]],
    ["a display name with a dot", `Alice B. Smith <${A}>`, [A]],
    ["a display name in quotes with a comma", `"Smith, Alice" <${A}>`, [A]],
    ["a display name in quotes with an address", `"${B}" <${A}>`, [A]],
    ["escaped quotes in a display name", `"Alice \\"${B}\\" Smith" <${A}>`, [A]],
    ["an encoded word", `=?utf-8?q?M=C3=BCller=2C?= <${A}>`, [A]],
    ["two encoded words that hold an address", `=?utf-8?b?YkBiLmV4YW1wbGU=?= =?us-ascii?q?x?= <${A}>`, [A]],
    ["a display name in UTF-8", `山田 太郎 <${A}>`, [A]],
    ["a comment behind", `${A} (Alice)`, [A]],
    ["a comment in front", `(Alice) ${A}`, [A]],
    ["a comment with a comma and an address", `${A} (Smith, <${B}>)`, [A]],
    ["comments in comments", `${A} (a (b (c)) d)`, [A]],
    ["comments between the parts of an address", "a (x) @ (y) a.example", [A]],
    ["white space around the dots", "a @ a . example", [A]],
    ["a folded list", `${A},\r\n ${B}`, [A, B]],
    ["two addresses", `Alice <${A}>, "Bob" <${B}>`, [A, B]],
    ["two addresses without names", `${A},${B}`, [A, B]],
    ["empty places between commas (obsolete, RFC 5322 §4.4)", `${A},, ,${B},`, [A, B]],
    ["a group", `Friends: ${A}, Bob <${B}>;`, [A, B]],
    ["a group with a quoted name", `"Our: friends; all": ${A};`, [A]],
    ["an address behind a group", `Friends: ${A}; , ${B}`, [A, B]],
    ["an empty group", "undisclosed-recipients:;", []],
    ["nothing", "", []],
    ["nothing but a comment", "(nobody)", []],
    ["the null path", "<>", []],
    ["a quoted local part", '"a b"@a.example', ['"a b"@a.example']],
    ["a quoted local part in angle brackets", 'Alice <"a, b"@a.example>', ['"a, b"@a.example']],
    ["an address literal", "a@[192.0.2.1]", ["a@[192.0.2.1]"]],
    ["a quoted pair in a comment", `${A} (a \\) b)`, [A]],
  ])("%s", (_why, value, addresses) => {
    expect(addressesIn(value)).toEqual(addresses);
  });
});

describe("parseAddressList refuses as malformed", () => {
  test.each([
    ["a source route", "<@r.example:a@a.example>"],
    ["a source route of two hosts", "<@r.example,@s.example:a@a.example>"],
    ["a bracket that is not closed", `Alice <${A}`],
    ["a comma inside brackets", `<${A},${B}>`],
    ["words behind an address in brackets", `<${A}> Alice`],
    ["brackets in brackets", `<<${A}>>`],
    ["a quote that is not closed", `"Alice <${A}>`],
    ["a comment that is not closed", `${A} (Alice`],
    ["a comment that was not opened", `${A} Alice)`],
    ["a square bracket that is not closed", "a@[192.0.2.1"],
    ["a name without an address", "Alice"],
    ["two addresses without a comma", `${A} ${B}`],
    ["an address as the name of a group", `${A}: ${B};`],
    ["a field that was smuggled behind a line end", `${A}\r\nBcc: ${B}`],
    ["NUL in an address", "a\0b@a.example"],
    ["two at signs", "a@b@c.example"],
  ])("%s", (_why, value) => {
    expect(faultOf(() => parseAddressList(value)).code).toBe("malformed");
  });

  test.each([
    ["two words in front of the @", "al ice@a.example"],
    ["a name in front of an address without brackets", "Alice Smith alice@a.example"],
    ["two words inside brackets", "<al ice@a.example>"],
    ["two words in the domain", "alice@a.exa mple"],
  ])("%s, which must not be joined into another address", (_why, value) => {
    expect(faultOf(() => parseAddressList(value)).code).toBe("malformed");
  });

  test.each([
    ["a closing bracket that was not opened", `${A} > ${B}`],
    ["a second address in brackets without a comma", `<${A}> <${B}>`],
    ["a closing bracket alone", ">"],
  ])("%s, which is no comma", (_why, value) => {
    expect(faultOf(() => parseAddressList(value)).code).toBe("malformed");
  });

  test.each([
    ["more than 20,000 words", "a ".repeat(20_010)],
    ["a hundred thousand open comments", "(".repeat(100_000)],
    ["a hundred thousand quotes", '"'.repeat(100_001)],
    ["a hundred thousand escaped quotes", `"${'\\"'.repeat(100_000)}`],
    ["half a million open square brackets", "[".repeat(500_000)],
    ["a hundred thousand angle brackets", "<".repeat(100_000)],
  ])("%s, without ado", (_why, value) => {
    expect(ending(() => faultOf(() => parseAddressList(value)).code)).toBe("malformed");
  });
});

describe("nobody is hidden from the rule of one author", () => {
  test.each([
    ["between two comments that each hold half of a pair of quotes", `${A} (5" wide), ${B} ("quoted)`],
    ["between two comments that each hold half of a pair of square brackets", `${A} ([), ${B} (])`],
  ])("an address %s is read, for quotes and brackets mean nothing in comments (RFC 5322 §3.2.2)", (_why, value) => {
    expect(addressesIn(value)).toEqual([A, B]);
  });

  test("a display name as long as a header may be is read over", () => {
    expect(addressesIn(`"${"x".repeat(1_000_000)}" <${A}>`)).toEqual([A]);
  });
});
