/** Every fault at both edges: HTTP problem documents and SMTP replies keep the word, and nothing of the inner message goes out. */
import { describe, expect, test } from "@jest/globals";
import { faultOf, problemOf } from "../../broker/problem.ts";
import { replyFor } from "../../gateway/reply.ts";
import { FAULT_CODES, Fault, type FaultCode } from "../../mime/fault.ts";

const SECRET = "SELECT key FROM session WHERE id = 7";
const codes = FAULT_CODES.map((code) => [code] as const);

const STATUS: Readonly<Record<FaultCode, readonly [http: number, smtp: number, enhanced: string]>> = {
  malformed: [400, 554, "5.6.0"],
  "too-large": [413, 552, "5.3.4"],
  unauthenticated: [401, 530, "5.7.0"],
  forbidden: [403, 550, "5.7.1"],
  "no-certificate": [422, 550, "5.7.5"],
  "session-gone": [404, 554, "5.7.5"],
  recalled: [410, 554, "5.7.5"],
  "cannot-open": [422, 554, "5.7.5"],
  "signature-invalid": [422, 554, "5.7.7"],
  unavailable: [503, 451, "4.4.1"],
  "storage-full": [507, 452, "4.3.1"],
  internal: [500, 451, "4.3.0"],
};

describe.each(codes)("the fault %s", (code) => {
  const [http, smtp, enhanced] = STATUS[code];
  const bare = new Fault(code, SECRET, { cause: new Error(SECRET) });
  const advised = new Fault(code, SECRET, { advice: "Set the clock." });

  test("has its numbers at both edges", () => {
    expect(problemOf(bare).status).toBe(http);
    expect(replyFor(bare).code).toBe(smtp);
    expect(replyFor(bare).text.split(" ")[0]).toBe(enhanced);
  });

  test("is worth another attempt by the peer's reading exactly where it is by ours", () => {
    const again = bare.retry === "later";
    expect(problemOf(bare).status >= 500).toBe(again);
    expect(Math.trunc(replyFor(bare).code / 100)).toBe(again ? 4 : 5);
    expect(replyFor(bare).text.startsWith(again ? "4." : "5.")).toBe(true); // RFC 2034 §4: the classes agree
  });

  test("says nothing of its message and cause, and its advice where it has one", () => {
    expect(JSON.stringify([problemOf(bare), replyFor(bare)])).not.toContain("SELECT");
    expect(JSON.stringify([problemOf(advised), replyFor(advised)])).not.toContain("SELECT");
    expect(problemOf(bare)).not.toHaveProperty("detail");
    expect(problemOf(advised).detail).toBe("Set the clock.");
    expect(replyFor(advised).text).toBe(`${enhanced} Set the clock.`);
  });

  test("survives its way as a problem document", () => {
    for (const fault of [bare, advised]) {
      const problem = problemOf(fault);
      const read = faultOf(problem.status, JSON.parse(JSON.stringify(problem)));
      expect([read.code, read.advice]).toEqual([fault.code, fault.advice]);
    }
  });
});

test.each([
  ["nothing", undefined],
  ["null", null],
  ["a text", "urn:kakitome:fault:forbidden"],
  ["an empty object", {}],
  ["an array", ["urn:kakitome:fault:forbidden"]],
  ["another problem", { type: "about:blank", status: 403 }],
  ["a word of no fault", { type: "urn:kakitome:fault:teapot" }],
  ["a property of every object", { type: "urn:kakitome:fault:constructor" }],
  ["the prefix alone", { type: "urn:kakitome:fault:" }],
  ["a number for a type", { type: 7 }],
])("an answer that is no problem document is unavailable: %s", (_why, body) => {
  expect(faultOf(502, body)).toMatchObject({ code: "unavailable", advice: undefined });
});

test("advice that is no text is not taken over", () => {
  expect(faultOf(403, { type: "urn:kakitome:fault:forbidden", detail: { html: "<b>" } }).advice).toBeUndefined();
});

test.each([
  ["an Error", new Error(SECRET)],
  ["a text", SECRET],
  ["nothing", undefined],
])("whatever else is thrown is 451 4.3.0 to a mail client, so that no letter is lost: %s", (_why, thrown) => {
  const { code, text } = replyFor(thrown);
  expect([code, text]).toEqual([451, "4.3.0 The gateway failed; the letter was not accepted, try again later"]);
});
