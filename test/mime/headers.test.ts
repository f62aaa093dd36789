/** Header fields as octets: what is not changed stays exact, and no text can become a second field. */
import { describe, expect, test } from "@jest/globals";
import { field, fieldsNamed, folded, joinMessage, onlyValue, splitMessage, valueOf } from "../../mime/headers.ts";
import { faultOf } from "./faults.ts";

const bytes = (text: string): Buffer => Buffer.from(text, "latin1");
const split = (text: string) => splitMessage(bytes(text));
const rejoined = (text: string): string => {
  const { fields, body } = split(text);
  return joinMessage(fields, body).toString("latin1");
};

describe("a message splits into fields and body", () => {
  test.each([
    ["one field", "A: b\r\n\r\nbody", ["a"], "body"],
    ["folded by a space", "A: b\r\n c\r\nD: e\r\n\r\n", ["a", "d"], ""],
    ["folded by a tab", "A: b\r\n\tc\r\nD: e\r\n\r\n", ["a", "d"], ""],
    ["a continuation that holds only white space", "A: b\r\n \r\nD: e\r\n\r\nx", ["a", "d"], "x"],
    ["a continuation that looks like a field", "A: b\r\n D: e\r\n\r\n", ["a"], ""],
    ["a line without a colon", "A: b\r\nno field\r\nD: e\r\n\r\n", ["a", "", "d"], ""],
    ["an mbox From line, which is no From field", "From a@b Sat Jan  1 00:00:00 2026\r\nA: b\r\n\r\n", ["", "a"], ""],
    ["a continuation in front of everything", " x: y\r\nA: b\r\n\r\n", ["", "a"], ""],
    ["a name with white space before its colon", "Subject : b\r\n\r\n", ["subject"], ""],
    ["white space inside a name", "Sub ject: b\r\n\r\n", [""], ""],
    ["a colon alone", ": b\r\n\r\n", [""], ""],
    ["8-bit octets in a name", "\xc3\xa4: b\r\n\r\n", [""], ""],
    ["8-bit octets in a value", "A: \xc3\xa4\xff\r\n\r\n", ["a"], ""],
    ["an empty value", "A:\r\n\r\n", ["a"], ""],
    ["no header", "\r\nbody", [], "body"],
    ["an empty line in the body", "A: b\r\n\r\n\r\nC: d\r\n", ["a"], "\r\nC: d\r\n"],
    ["8-bit octets and NUL in the body", "A: b\r\n\r\n\0\x80\xff", ["a"], "\0\x80\xff"],
    ["no final line end", "A: b\r\n\r\nbody\r\nend", ["a"], "body\r\nend"],
    ["a lone LF, which ends no line", "A: b\nC: d\r\n\r\nbody", ["a"], "body"],
    ["a lone CR, which ends no line", "A: b\rC: d\r\n\r\nbody", ["a"], "body"],
    ["a name of 900 characters", `${"a".repeat(900)}: b\r\n\r\n`, ["a".repeat(900)], ""],
  ])("with %s, and joins to the same octets", (_why, text, names, body) => {
    const parts = split(text);
    expect(parts.fields.map(({ name }) => name)).toEqual(names);
    expect(parts.body.toString("latin1")).toBe(body);
    expect(rejoined(text)).toBe(text);
  });

  test.each([
    ["nothing", "", "\r\n"],
    ["a field without a line end", "A: b", "A: b\r\n\r\n"],
    ["fields without an empty line", "A: b\r\nC: d\r\n", "A: b\r\nC: d\r\n\r\n"],
    ["half of a line end", "A: b\r", "A: b\r\r\n\r\n"],
  ])("without a body: %s; joining adds the empty line, and nothing else", (_why, text, joined) => {
    expect(split(text).body).toHaveLength(0);
    expect(rejoined(text)).toBe(joined);
  });
});

describe("values", () => {
  test.each([
    ["white space around it", "A: \t b \r\n\r\n", "b"],
    ["folding undone, its white space kept", "A: b\r\n  c\r\n\td\r\n\r\n", "b  c\td"],
    ["a colon in it", "A: b:c\r\n\r\n", "b:c"],
    ["UTF-8", "A: \xc3\xa4\r\n\r\n", "ä"],
    ["nothing", "A:\r\n\r\n", ""],
  ])("valueOf reads %s", (_why, text, value) => {
    expect(split(text).fields.map(valueOf)).toEqual([value]);
  });

  test("fieldsNamed finds all of a name in any case, onlyValue the only one", () => {
    const { fields } = split("Received: 1\r\nSubject: x\r\nRECEIVED: 2\r\nreceived : 3\r\n\r\n");
    expect(fieldsNamed(fields, "received").map(valueOf)).toEqual(["1", "2", "3"]);
    expect(onlyValue(fields, "subject")).toBe("x");
    expect(onlyValue(fields, "from")).toBeUndefined();
  });

  test("onlyValue refuses two fields of a name: nobody knows which of them a reader will show", () => {
    const { fields } = split("From: a@a.example\r\nFROM: b@b.example\r\n\r\n");
    expect(faultOf(() => onlyValue(fields, "from")).code).toBe("malformed");
  });
});

describe("field", () => {
  test.each([
    ["a text", "Subject", "hello", "Subject: hello\r\n"],
    ["UTF-8", "Subject", "häl€😀", "Subject: häl€😀\r\n"],
    ["a folded value", "To", "a,\r\n b", "To: a,\r\n b\r\n"],
    ["a tab", "To", "a\tb", "To: a\tb\r\n"],
    ["nothing", "To", "", "To: \r\n"],
  ])("writes %s", (_why, name, value, raw) => {
    const written = field(name, value);
    expect(written.raw.toString("utf8")).toBe(raw);
    expect(written.name).toBe(name.toLowerCase());
  });

  test.each([
    ["a second field", "x\r\nBcc: evil@x.example"],
    ["the end of the header", "x\r\n\r\nbody"],
    ["a bare LF", "x\nBcc: evil@x.example"],
    ["a bare CR", "x\rBcc: evil@x.example"],
    ["a CR in front of CR LF", "x\r\r\n y"],
    ["LF CR", "x\n\r y"],
    ["a line end at the end", "x\r\n"],
    ["a bare LF at the end", "x\n"],
    ["a bare LF in front of white space", "x\n y"],
    ["NUL", "x\0y"],
    ["BEL", "x\x07y"],
    ["ESC", "x\x1b[2Jy"],
    ["a vertical tab", "x\x0By"],
    ["DEL", "x\x7Fy"],
  ])("refuses a value that smuggles in %s", (_why, value) => {
    expect(faultOf(() => field("Subject", value)).code).toBe("malformed");
  });

  test.each([[""], ["Sub ject"], ["Subject:"], ["Subject\r\n"], ["Sub\nject"], ["Ä"], ["a\0"], ["\tA"]])("refuses the name %j", (name) => {
    expect(faultOf(() => field(name, "x")).code).toBe("malformed");
  });

  test("a refusal does not repeat the value, which may be a secret", () => {
    expect(faultOf(() => field("Subject", "the secret\0")).message).not.toContain("secret");
  });
});

describe("folding", () => {
  test("keeps lines within 78 octets where the words allow it, and loses no word", () => {
    const words = Array.from({ length: 60 }, (_, at) => "w".repeat((at * 7) % 30) + at);
    const value = folded(words, "References: ".length);
    const lines = `References: ${value}`.split("\r\n");
    expect(lines.length).toBeGreaterThan(10);
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(78);
    expect(value.replace(/\r\n/gu, "").split(" ")).toEqual(words);
    expect(valueOf(field("References", value))).toBe(words.join(" "));
  });

  test("a word longer than a line stands alone", () => {
    expect(folded(["a", "b".repeat(100), "c"], 4)).toBe(`a\r\n ${"b".repeat(100)}\r\n c`);
  });
});

describe("bounds", () => {
  const fields = (count: number): string => "a: b\r\n".repeat(count);

  test("5,000 fields and a header of 1 MiB less a line are read", () => {
    expect(split(`${fields(5_000)}\r\nx`).fields).toHaveLength(5_000);
    expect(split(`A: ${"b".repeat((1 << 20) - 10)}\r\n\r\nx`).fields).toHaveLength(1);
  });

  test("a body of any size is read", () => {
    expect(splitMessage(Buffer.concat([bytes("A: b\r\n\r\n"), Buffer.alloc(8 << 20, 0x0a)])).body).toHaveLength(8 << 20);
  });

  test.each([
    ["5,001 fields", `${fields(5_001)}\r\n`],
    ["5,001 fields without a body", fields(5_001)],
    ["100,000 fields", `${fields(100_000)}\r\n`],
    ["100,000 lines that are no fields", `${"x\r\n".repeat(100_000)}\r\n`],
    ["a field of 2 MiB", `A: ${"b".repeat(2 << 20)}\r\n\r\n`],
    ["a field of 2 MiB in folded lines", `A: b${"\r\n ccccccc".repeat(1 << 18)}\r\n\r\n`],
    ["a field of 2 MiB that is followed by nothing", `A: ${"b".repeat(2 << 20)}\r\n`],
    ["2 MiB without any line end", "b".repeat(2 << 20)],
  ])("too large: %s", (_why, text) => {
    expect(faultOf(() => split(text)).code).toBe("too-large");
  });
});
