/** The twelve words: each of them decides whether the same attempt is worth making again. */
import { describe, expect, test } from "@jest/globals";
import { FAULT_CODES, Fault, isFaultCode, type FaultCode } from "../../mime/fault.ts";

const RETRIES: readonly (readonly [FaultCode, "never" | "later", string])[] = [
  ["malformed", "never", "the same octets stay wrong"],
  ["too-large", "never", "the same octets stay too many"],
  ["unauthenticated", "never", "the same credentials stay wrong"],
  ["forbidden", "never", "who asks stays the same"],
  ["no-certificate", "never", "the recipient has to enrol first"],
  ["session-gone", "never", "what is erased does not come back"],
  ["recalled", "never", "a sender does not take a recall back"],
  ["cannot-open", "never", "the same envelope stays shut"],
  ["signature-invalid", "never", "the same signature stays wrong"],
  ["unavailable", "later", "a server comes back"],
  ["storage-full", "later", "somebody makes room"],
  ["internal", "later", "a mistake of ours must not lose a letter"],
];

describe("the twelve words", () => {
  test.each(RETRIES)("%s is tried again %s: %s", (code, retry) => {
    expect(new Fault(code, "why").retry).toBe(retry);
  });

  test("the table above is complete", () => {
    expect(RETRIES.map(([code]) => code)).toEqual([...FAULT_CODES]);
  });

  test.each([
    ["a word of the list", "cannot-open", true],
    ["another word", "broken", false],
    ["a name that every object has", "constructor", false],
    ["a name that every object has", "toString", false],
    ["the prototype", "__proto__", false],
    ["nothing", undefined, false],
    ["a number", 451, false],
    ["a list of a word", ["malformed"], false],
  ])("isFaultCode knows %s: %j", (_why, text, known) => {
    expect(isFaultCode(text)).toBe(known);
  });
});

describe("a Fault", () => {
  test("carries its word, its message, its cause and the advice", () => {
    const cause = new Error("ECONNREFUSED");
    const fault = new Fault("unavailable", "the broker did not answer", { cause, advice: "Try again later." });
    expect(fault).toMatchObject({ name: "Fault", code: "unavailable", message: "the broker did not answer", advice: "Try again later." });
    expect(fault.cause).toBe(cause);
    expect(fault).toBeInstanceOf(Error);
  });

  test("has no advice and no cause unless they are given", () => {
    const fault = new Fault("malformed", "why");
    expect(fault.advice).toBeUndefined();
    expect("cause" in fault).toBe(false);
  });

  test("advice is never taken from the message, which is for our own log", () => {
    expect(new Fault("internal", "at /etc/secret").advice).toBeUndefined();
  });
});

describe("Fault.from", () => {
  test("returns a Fault as it is", () => {
    const fault = new Fault("session-gone", "why");
    expect(Fault.from(fault)).toBe(fault);
  });

  test.each([
    ["an Error", new TypeError("x is undefined"), "x is undefined"],
    ["a text", "broken", "broken"],
    ["nothing", undefined, "undefined"],
    ["null", null, "null"],
    ["a number", 7, "7"],
    ["a symbol", Symbol("odd"), "Symbol(odd)"],
    ["an object that only looks like a Fault", { code: "forbidden", message: "trust me" }, "[object Object]"],
  ])("makes `internal` of %s and keeps it as the cause", (_why, thrown, message) => {
    const fault = Fault.from(thrown);
    expect(fault).toMatchObject({ code: "internal", retry: "later", message });
    expect(fault.cause).toBe(thrown);
  });

  test("makes `internal` even of what cannot be turned into a text", () => {
    expect(Fault.from(Object.create(null)).code).toBe("internal");
  });
});
