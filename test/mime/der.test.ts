/** The DER writer and the bounded BER reader: what is written reads back, and a bomb is one word, `malformed`. */
import { describe, expect, test } from "@jest/globals";
import {
  Cursor,
  TAG,
  contextTag,
  derNull,
  encode,
  generalizedTime,
  integer,
  integerOf,
  isOid,
  octetString,
  octetsOf,
  oid,
  parse,
  parseGeneralizedTime,
  sequence,
  setOf,
  utf8String,
} from "../../mime/der.ts";
import { OID } from "../../mime/oids.ts";
import { faultOf } from "./faults.ts";

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");
const nested = (depth: number): Buffer => {
  let inner = derNull();
  for (let level = 0; level < depth; level++) inner = sequence(inner);
  return inner;
};

describe("writing", () => {
  test.each([
    ["NULL", derNull(), "05 00"],
    ["an empty SEQUENCE", sequence(), "30 00"],
    ["an OCTET STRING", octetString(hex("00ff")), "04 02 00ff"],
    ["a UTF8String", utf8String("é"), "0c 02 c3a9"],
    ["the INTEGER 0", integer(0), "02 01 00"],
    ["the INTEGER 127", integer(127), "02 01 7f"],
    ["the INTEGER 128, which needs a leading zero", integer(128), "02 02 0080"],
    ["the INTEGER 256", integer(256), "02 02 0100"],
    ["the INTEGER 2^32", integer(2 ** 32), "02 05 0100000000"],
    ["a SET OF in DER order (X.690 §11.6)", setOf(integer(2), integer(1), derNull()), "31 08 020101 020102 0500"],
    ["id-data", oid(OID.data), "06 09 2a864886f70d010701"],
    ["an arc of 128 (two octets)", oid("1.2.128"), "06 03 2a8100"],
    ["2.999, whose first octets hold two arcs (X.690 §8.19)", oid("2.999"), "06 02 8837"],
    [
      "an arc of 128 bits (X.667)",
      oid("2.25.3314271590363898792616752670520927778"),
      `06 13 69 ${oid("2.25.3314271590363898792616752670520927778").subarray(3).toString("hex")}`,
    ],
    [
      "a time in UTC to the second",
      generalizedTime(new Date("2026-03-01T12:34:56.789Z")),
      `18 0f ${Buffer.from("20260301123456Z").toString("hex")}`,
    ],
    ["a context tag", encode(contextTag(2, "constructed"), derNull()), "a2 02 0500"],
  ])("%s", (_why, der, expected) => {
    expect(der.toString("hex")).toBe(expected.replaceAll(" ", ""));
  });

  test.each([
    [0, "00"],
    [127, "7f"],
    [128, "8180"],
    [255, "81ff"],
    [256, "820100"],
    [65_535, "82ffff"],
    [65_536, "83010000"],
    [1 << 24, "8401000000"],
  ])("a length of %d octets, and reads it back", (length, octets) => {
    const der = octetString(Buffer.alloc(length, 1));
    expect(der.subarray(1, der.length - length).toString("hex")).toBe(octets);
    expect(parse(der).content).toHaveLength(length);
  });

  test("the arc of a UUID comes back as the number it is", () => {
    const octets = [...parse(oid("2.25.3314271590363898792616752670520927778")).content];
    const arc = octets.slice(1).reduce((sum, octet) => (sum << 7n) | BigInt(octet & 0x7f), 0n);
    expect(octets[0]).toBe(2 * 40 + 25);
    expect(arc).toBe(3314271590363898792616752670520927778n);
  });
});

describe("reading", () => {
  const sample = sequence(
    integer(5),
    octetString(hex("abcd")),
    setOf(derNull(), utf8String("x")),
    encode(contextTag(0, "primitive"), hex("01")),
  );

  test("a nested encoding, every element with its octets", () => {
    const root = parse(sample);
    expect(root.encoding.equals(sample)).toBe(true);
    expect(root.children?.map(({ tag }) => tag)).toEqual([TAG.integer, TAG.octetString, TAG.set, 0x80]);
    expect(Buffer.concat(root.children?.map(({ encoding }) => encoding) ?? []).equals(root.content)).toBe(true);
  });

  test("every prefix of a valid encoding is refused, and so is an octet behind it", () => {
    for (let length = 0; length < sample.length; length++) {
      expect(faultOf(() => parse(sample.subarray(0, length))).code).toBe("malformed");
    }
    expect(faultOf(() => parse(Buffer.concat([sample, hex("00")]))).code).toBe("malformed");
  });

  test("indefinite lengths, nested, and segments of an OCTET STRING in segments", () => {
    const segmented = hex("24 80 04 01 aa 24 80 04 01 bb 04 00 00 00 04 01 cc 00 00");
    expect(octetsOf(parse(segmented)).toString("hex")).toBe("aabbcc");
    const root = parse(Buffer.concat([hex("30 80"), segmented, hex("30 80 00 00 00 00")]));
    expect(root.children).toHaveLength(2);
    expect(root.children?.[0]?.encoding.equals(segmented)).toBe(true);
    expect(root.children?.[1]?.children).toHaveLength(0);
  });

  test("every prefix of an indefinite encoding is refused", () => {
    const whole = hex("30 80 24 80 04 01 aa 00 00 02 01 05 00 00");
    parse(whole);
    for (let length = 0; length < whole.length; length++) expect(faultOf(() => parse(whole.subarray(0, length))).code).toBe("malformed");
  });

  test.each([
    ["a length of more octets than the number allows", "04 87 00 00 00 00 00 00 01 aa"],
    ["a length of 127 length octets", `04 ff ${"00".repeat(127)}`],
    ["a length octet that is reserved", "04 ff"],
    ["a length of 2^48 - 1", "04 86 ff ff ff ff ff ff aa"],
    ["a length of 2 GiB", "04 84 80 00 00 00 aa"],
    ["a length one beyond the end", "04 02 aa"],
    ["a child longer than its parent", "30 03 04 02 aa bb"],
    ["a child whose length octets lie beyond its parent", "30 02 04 82 00 01 aa"],
    ["a child of one octet", "30 01 04"],
    ["a child that reaches into the next one of its parent", "30 07 30 02 04 02 02 01 05"],
    ["a primitive of indefinite length", "04 80 aa 00 00"],
    ["an indefinite length that is not closed", "30 80 04 01 aa"],
    ["an indefinite length that is closed by half", "30 80 04 01 aa 00"],
    ["an indefinite length closed beyond its parent", "30 04 30 80 05 00 00 00"],
    ["a tag of several octets", "1f 81 01 00"],
    ["a constructed tag of several octets", "3f 81 01 00"],
    ["nothing", ""],
    ["an end of contents with octets behind it", "00 00 00"],
  ])("refuses %s", (_why, octets) => {
    expect(faultOf(() => parse(hex(octets))).code).toBe("malformed");
  });

  test.each([
    ["100,000 levels", Buffer.concat([Buffer.from("3080".repeat(100_000), "hex"), Buffer.alloc(200_000)])],
    ["100,000 levels that are not closed", Buffer.from("3080".repeat(100_000), "hex")],
    ["25 levels of definite length", nested(25)],
    ["100,000 elements", sequence(Buffer.from("0500".repeat(100_000), "hex"))],
    ["100,000 elements in indefinite length", Buffer.from(`3080${"0500".repeat(100_000)}0000`, "hex")],
    ["4,000 elements below the root", sequence(Buffer.from("0500".repeat(4_000), "hex"))],
  ])("refuses a bomb of %s", (_why, bomb) => {
    expect(faultOf(() => parse(bomb)).code).toBe("malformed");
  });

  test("reads what lies just inside the limits, and more where they are raised", () => {
    expect(parse(nested(24)).tag).toBe(TAG.sequence);
    expect(parse(sequence(Buffer.from("0500".repeat(3_999), "hex"))).children).toHaveLength(3_999);
    const many = sequence(Buffer.from("0500".repeat(50_000), "hex"));
    expect(parse(many, { depth: 2, elements: 50_001 }).children).toHaveLength(50_000);
    expect(faultOf(() => parse(nested(3), { depth: 2, elements: 9 })).code).toBe("malformed");
  });
});

describe("typed reading", () => {
  test("a Cursor takes what is there, in order, and nothing may be left", () => {
    const cursor = new Cursor(parse(sequence(integer(1), derNull(), octetString(hex("aa")))));
    expect(cursor.optional(TAG.oid)).toBeUndefined();
    expect(integerOf(cursor.take(TAG.integer))).toBe(1);
    expect(faultOf(() => cursor.take(TAG.oid)).code).toBe("malformed");
    expect(cursor.any().tag).toBe(TAG.null);
    expect(faultOf(() => cursor.end()).code).toBe("malformed");
    cursor.take(TAG.octetString);
    cursor.end();
    expect(faultOf(() => cursor.any()).code).toBe("malformed");
    expect(faultOf(() => cursor.take(TAG.null)).code).toBe("malformed");
  });

  test("a Cursor refuses another tag and a primitive", () => {
    expect(faultOf(() => new Cursor(parse(setOf()))).code).toBe("malformed");
    expect(faultOf(() => new Cursor(parse(derNull()), TAG.null)).code).toBe("malformed");
  });

  test.each([0, 1, 127, 128, 255, 256, 65_535, 2 ** 31, 2 ** 40])("the INTEGER %d comes back", (value) => {
    expect(integerOf(parse(integer(value)))).toBe(value);
  });

  test.each([
    ["a negative number", "02 01 80"],
    ["no octet", "02 00"],
    ["seven octets", "02 07 01000000000000"],
    ["an OCTET STRING", "04 01 01"],
  ])("integerOf refuses %s", (_why, octets) => {
    expect(faultOf(() => integerOf(parse(hex(octets)))).code).toBe("malformed");
  });

  test("an OCTET STRING with a segment of another kind is refused", () => {
    expect(faultOf(() => octetsOf(parse(hex("24 03 02 01 05")))).code).toBe("malformed");
  });

  test("isOid knows an OBJECT IDENTIFIER only by its whole encoding", () => {
    expect(isOid(parse(oid(OID.data)), OID.data)).toBe(true);
    expect(isOid(parse(oid(`${OID.data}.1`)), OID.data)).toBe(false);
    expect(isOid(parse(octetString(parse(oid(OID.data)).content)), OID.data)).toBe(false);
  });

  test("times come back to the second", () => {
    const time = new Date("2026-02-28T23:59:59Z");
    expect(parseGeneralizedTime(parse(generalizedTime(time)).content)).toEqual(time);
    expect(parseGeneralizedTime(Buffer.from("20280229000000Z"))).toEqual(new Date("2028-02-29T00:00:00Z"));
  });

  test.each([
    ["nothing", ""],
    ["no Z", "20260301123456"],
    ["an offset", "20260301123456+0900"],
    ["fractions of a second (RFC 5652 §11.3)", "20260301123456.5Z"],
    ["no seconds", "202603011234Z"],
    ["two digits of the year", "260301123456Z"],
    ["a month that is none", "20261301000000Z"],
    ["an hour that is none", "20260301250000Z"],
    ["letters", "2026030112345xZ"],
    ["a line end behind it", "20260301123456Z\n"],
    ["a 30th of February", "20260230000000Z"],
    ["a 29th of February in a common year", "20260229000000Z"],
  ])("parseGeneralizedTime refuses %s", (_why, text) => {
    expect(faultOf(() => parseGeneralizedTime(Buffer.from(text))).code).toBe("malformed");
  });
});
