/** The log: one line of JSON an event, and of a failure its words and causes only. */
import { Writable } from "node:stream";
import { describe, expect, test } from "@jest/globals";
import { createLog, reasonOf } from "../../config/log.ts";
import { Fault } from "../../mime/fault.ts";

function written(write: (log: ReturnType<typeof createLog>) => void): string {
  let text = "";
  write(createLog(new Writable({ write: (chunk: Buffer, _encoding, done) => ((text += chunk.toString()), done()) })));
  return text;
}

test("a line is one JSON object with level, time and its facts, and nothing of the machine", () => {
  const text = written((log) => log.info({ event: "letter.accepted", sealed: 2, passed: 0, idle: false, gone: undefined }));
  expect(text.endsWith("}\n")).toBe(true);
  expect(text.trimEnd().split("\n")).toHaveLength(1);
  const { time, ...facts } = JSON.parse(text) as Record<string, unknown>;
  expect(String(time)).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/u);
  expect(facts).toEqual({ level: "info", event: "letter.accepted", sealed: 2, passed: 0, idle: false });
});

test.each(["info", "warn", "error"] as const)("%s is the level's word", (level) => {
  expect(JSON.parse(written((log) => log[level]({ event: "x" })))).toMatchObject({ level });
});

test("what somebody else wrote stays inside its line", () => {
  const text = written((log) => log.warn({ event: "x", reason: 'a\r\n{"event":"forged"}\u2028"' }));
  expect(text.trimEnd().split(/\r|\n/u)).toHaveLength(1);
  expect(JSON.parse(text)).toMatchObject({ event: "x", reason: 'a\r\n{"event":"forged"}\u2028"' });
});

test("a log with facts says them in every line, and its own log does not", () => {
  const lines = written((log) => {
    const letter = log.with({ letter: "7" });
    letter.info({ event: "a" });
    letter.with({ party: "bob" }).info({ event: "b" });
    log.info({ event: "c" });
  })
    .trimEnd()
    .split("\n");
  expect(lines.map((line) => JSON.parse(line) as object)).toEqual([
    expect.objectContaining({ event: "a", letter: "7" }),
    expect.objectContaining({ event: "b", letter: "7", party: "bob" }),
    expect.not.objectContaining({ letter: "7" }),
  ]);
});

describe("reasonOf", () => {
  test("chains the causes, the outermost first, with the word of each fault", () => {
    const inner = new Error("connect ECONNREFUSED 127.0.0.1:1");
    const middle = new Fault("unavailable", "the broker cannot be reached", { cause: inner });
    expect(reasonOf(new Fault("internal", "the walk stopped", { cause: middle }))).toBe(
      "internal: the walk stopped < unavailable: the broker cannot be reached < connect ECONNREFUSED 127.0.0.1:1",
    );
  });

  test("ends after six causes, even where they go round in circles", () => {
    const round = new Error("round");
    round.cause = round;
    expect(reasonOf(round)).toBe(Array.from({ length: 6 }, () => "round").join(" < "));
  });

  test("is cut after 500 characters", () => {
    expect(reasonOf(new Error("x".repeat(10_000)))).toHaveLength(500);
  });

  test.each([
    ["a text", "broken", "broken"],
    ["nothing", undefined, "undefined"],
    ["an object", { password: "hunter-2" }, "[object Object]"],
  ])("says of %s what it is as a text", (_why, thrown, words) => {
    expect(reasonOf(thrown)).toBe(words);
  });

  test("does not follow a cause that is no error, which could be anything", () => {
    expect(reasonOf(new Error("outer", { cause: { key: "c0ffee" } }))).toBe("outer");
  });

  test("names what stopped a connection that was tried in several ways", () => {
    const tries = new AggregateError([new Error("connect ECONNREFUSED ::1:25"), new Error("connect ECONNREFUSED 127.0.0.1:25")], "");
    expect(reasonOf(new Fault("unavailable", "the next hop", { cause: tries }))).toContain("ECONNREFUSED");
  });
});
