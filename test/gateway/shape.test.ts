/** The shape of a submission: header, nesting and hops have bounds, what is within them passes, and a bomb costs no time. */
import { describe, expect, test } from "@jest/globals";
import { demandShape, type ShapeLimits } from "../../gateway/shape.ts";
import { Fault } from "../../mime/fault.ts";

const LIMITS = { header: 2_000, fields: 20, nesting: 5, received: 3 } as ShapeLimits;
const NAME = "gateway.a.example";
const FROM = "From: alice@a.example\r\n";
const OWN = "Received: by gateway.a.example (Kakitome) with ESMTPSA\r\n id 1; Thu, 1 Jan 2026 00:00:00 +0000\r\n";

/** What is said of a message: the advice or the word of its refusal; undefined where it passes. */
function verdict(message: string | Buffer, limits = LIMITS): string | undefined {
  try {
    demandShape(Buffer.from(message), limits, NAME);
    return undefined;
  } catch (thrown) {
    return thrown instanceof Fault ? `${thrown.code}: ${thrown.advice}` : (thrown as Error).message;
  }
}

/** Multiparts in one another. @param wrap what stands around each but the innermost, such as a message */
function nested(depth: number, wrap = ""): string {
  const heads = Array.from({ length: depth }, (_, at) => `Content-Type: multipart/mixed; boundary="b${at}"\r\n\r\n--b${at}\r\n${wrap}`);
  const tails = Array.from({ length: depth }, (_, at) => `\r\n--b${depth - 1 - at}--\r\n`);
  return `${FROM}${heads.join("")}\r\ntext${tails.join("")}`;
}

test.each([
  ["a header of the largest size", `${FROM}X: ${"x".repeat(2_000 - FROM.length - 3)}\r\n\r\nbody`],
  ["as many fields as may be", `${FROM}${"X: y\r\n".repeat(19)}\r\nbody`],
  ["a body that looks like a large header", `${FROM}\r\n${"X: y\r\n".repeat(1_000)}`],
  ["multiparts as deep as may be", nested(5)],
  [
    "parts side by side, however many",
    `${FROM}Content-Type: multipart/mixed; boundary=b\r\n\r\n${"--b\r\n\r\nx\r\n".repeat(500)}--b--\r\n`,
  ],
  [
    "multiparts one after the other",
    `${FROM}Content-Type: multipart/mixed; boundary=b\r\n\r\n${Array.from({ length: 50 }, (_, at) => `--b\r\nContent-Type: multipart/mixed; boundary=c${at}\r\n\r\n--c${at}\r\n\r\nx\r\n--c${at}--\r\n`).join("")}--b--\r\n`,
  ],
  [
    "a boundary that begins with another one",
    `${FROM}Content-Type: multipart/mixed; boundary=b\r\n\r\n${"--b\r\nContent-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\n\r\nx\r\n--bb--\r\n".repeat(50)}--b--\r\n`,
  ],
  [
    "a boundary that nobody closes before the next part",
    `${FROM}Content-Type: multipart/mixed; boundary=b\r\n\r\n${Array.from({ length: 50 }, (_, at) => `--b\r\nContent-Type: multipart/mixed; boundary=c${at}\r\n\r\n`).join("")}--b--\r\n`,
  ],
  ["text about multiparts", `${FROM}\r\n${nested(50)}`],
  ["Received as often as may be", `${FROM}${"Received: from x by y\r\n".repeat(3)}\r\nbody`],
  ["our own trace once, as on what came back from a list", `${OWN}${FROM}\r\nbody`],
  ["our name in another host's trace", `${"Received: from gateway.a.example (Kakitome) by y\r\n".repeat(3)}${FROM}\r\nbody`],
  ["nothing", ""],
])("%s passes", (_what, message) => {
  expect(verdict(message)).toBeUndefined();
});

test.each([
  ["a header beyond", `${FROM}X: ${"x".repeat(2_000 - FROM.length)}\r\n\r\nbody`, /^too-large: The header is larger than 2000 octets/u],
  ["a header without end", `${FROM}${`X: ${"x".repeat(1_900)}\r\n`.repeat(2)}`, /^too-large: The header is larger/u],
  ["a field too many", `${FROM}${"X: y\r\n".repeat(20)}\r\nbody`, /^too-large: The header has more than 20 fields/u],
  ["a multipart too deep", nested(6), /^too-large: The message has parts in more than 5 parts/u],
  ["multiparts in messages in multiparts", nested(6, "Content-Type: message/rfc822\r\n\r\n"), /^too-large: The message has parts in more/u],
  ["Received too often", `${FROM}${"Received: from x by y\r\n".repeat(4)}\r\nbody`, /^looping$/u],
  ["our own trace twice, which is one turn of a circle", `${OWN}${OWN}${FROM}\r\nbody`, /^looping$/u],
  ["our own trace in another case", `${OWN}${OWN.toUpperCase()}${FROM}\r\nbody`, /^looping$/u],
])("%s is refused", (_what, message, why) => {
  expect(verdict(message)).toMatch(why);
});

describe("a bomb is refused or passes in little time:", () => {
  const standard = { header: 1 << 18, fields: 1_000, nesting: 100, received: 50 } as ShapeLimits;
  const deep = (body: string): string => `${FROM}Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n${body}`;
  test.each([
    ["ten thousand multiparts in one another", nested(10_000)],
    ["a hundred thousand parts", deep("\r\n\r\n--b".repeat(100_000))],
    ["a million lines of dashes", deep("--\r\n".repeat(1_000_000))],
    ["a million parts that are messages in messages", deep("Content-Type: message/rfc822\r\n--b\r\n\r\n".repeat(500_000))],
    ["part headers without end", deep("--b\r\nX: y\r\n".repeat(500_000))],
    ["twenty MiB of dashes in one line", deep("-".repeat(20 << 20))],
    ["a Content-Type of a hundred kilobytes of spaces", `${FROM}Content-Type: multipart/mixed;${" ".repeat(100_000)}x\r\n\r\n--b\r\n`],
  ])("%s", (_what, message) => {
    const bytes = Buffer.from(message);
    const began = performance.now();
    verdict(bytes, standard);
    expect(performance.now() - began).toBeLessThan(5_000);
  });
});
