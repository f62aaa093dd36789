/** Multiparts: the parts come out exactly as octets, and nothing that only looks like a boundary is one. */
import { describe, expect, test } from "@jest/globals";
import { multipart, parseEntity, splitMultipart } from "../../mime/entity.ts";
import { field } from "../../mime/headers.ts";
import { faultOf } from "./faults.ts";
import { ending } from "./patience.ts";

const partsOf = (body: string, boundary = '"b"'): string[] =>
  splitMultipart(parseEntity(Buffer.from(`Content-Type: multipart/mixed; boundary=${boundary}\r\n\r\n${body}`, "latin1"))).map((part) =>
    part.toString("latin1"),
  );

describe("splitMultipart cuts", () => {
  test.each([
    ["one part", "--b\r\nx\r\n--b--\r\n", ["x"]],
    ["two parts", "--b\r\nx\r\n--b\r\ny\r\n--b--\r\n", ["x", "y"]],
    ["a part whose own last line end stays", "--b\r\nx\r\n\r\n--b--", ["x\r\n"]],
    ["an empty part", "--b\r\n\r\n--b--", [""]],
    ["a part without even an empty line", "--b\r\n--b--", [""]],
    ["no line end behind the last boundary", "--b\r\nx\r\n--b--", ["x"]],
    ["preamble and epilogue, which are dropped", "pre\r\n--b\r\nx\r\n--b--\r\nepi\r\n--b\r\nz\r\n--b--", ["x"]],
    ["white space behind the boundaries (RFC 2046 §5.1.1)", "--b \t\r\nx\r\n--b-- \r\n", ["x"]],
    ["8-bit octets, NUL and lone line ends in a part", "--b\r\n\xff\0\n\r\x80\r\n--b--", ["\xff\0\n\r\x80"]],
    ["a part with a header", "--b\r\nA: b\r\n\r\nx\r\n--b--", ["A: b\r\n\r\nx"]],
  ])("%s", (_why, body, parts) => {
    expect(partsOf(body)).toEqual(parts);
  });

  test.each([
    ["a longer boundary", "--bb"],
    ["the boundary of a part inside", "--b-inner"],
    ["a boundary with words behind it", "--b x"],
    ["a closing boundary with words behind it", "--b--x"],
    ["three dashes", "---b"],
    ["a boundary in the middle of a line", "x --b"],
    ["a boundary behind a space", " --b"],
    ["a boundary behind a lone LF", "x\n--b"],
    ["a boundary behind a lone CR", "x\r--b"],
    ["another case", "--B"],
    ["one dash behind it", "--b-"],
  ])("not at %s", (_why, line) => {
    expect(partsOf(`--b\r\n${line}\r\nx\r\n--b--\r\n`)).toEqual([`${line}\r\nx`]);
  });

  test("a boundary with every special character it may have is compared as it stands", () => {
    const boundary = "'()+_,-./:=? .*[a]{2}$^|\\";
    expect(partsOf(`--${boundary}\r\nx\r\n--${boundary}--`, `"${boundary.replace("\\", "\\\\")}"`)).toEqual(["x"]);
  });

  test("100 parts", () => {
    expect(partsOf(`${"--b\r\nx\r\n".repeat(100)}--b--`)).toHaveLength(100);
  });
});

describe("splitMultipart refuses", () => {
  test.each([
    ["101 parts", `${"--b\r\nx\r\n".repeat(101)}--b--`],
    ["100,000 parts", `${"--b\r\nx\r\n".repeat(100_000)}--b--`],
    ["100,000 empty parts that are never closed", "--b\r\n".repeat(100_000)],
    ["no part, not even a boundary", "x"],
    ["an empty body", ""],
    ["parts that are not closed", "--b\r\nx\r\n--b\r\ny\r\n"],
    ["a closing boundary inside a line", "--b\r\nx --b--\r\n"],
  ])("%s", (_why, body) => {
    expect(faultOf(() => partsOf(body)).code).toBe("malformed");
  });

  test("a closing boundary alone has no parts", () => {
    expect(partsOf("--b--\r\n")).toEqual([]);
  });

  test.each([
    ["no boundary parameter", "multipart/mixed"],
    ["an empty boundary", 'multipart/mixed; boundary=""'],
    ["a boundary of 71 characters (RFC 2046 §5.1.1)", `multipart/mixed; boundary=${"b".repeat(71)}`],
    ["another type", "text/plain; boundary=b"],
  ])("%s", (_why, type) => {
    const entity = parseEntity(Buffer.from(`Content-Type: ${type}\r\n\r\n--b\r\nx\r\n--b--\r\n`));
    expect(faultOf(() => splitMultipart(entity)).code).toBe("malformed");
  });

  test.each([
    ["on one line without end", "--b".repeat(700_000)],
    ["on one line that ends", `${"--b".repeat(700_000)}\r\n`],
    ["each on a line of its own", "--bx\r\n".repeat(350_000)],
    ["each behind a lone LF", "--b\n".repeat(500_000)],
  ])("2 MiB of boundary look-alikes without ado: %s", (_why, body) => {
    expect(ending(() => faultOf(() => partsOf(body)).code)).toBe("malformed");
  });
});

describe("multipart", () => {
  test("writes parts that come out exactly, whatever they end in", () => {
    const parts = ["", "x", "x\r\n", "\r\n", "--b\r\n", "a\r\n--b--\r\n\r\n"].map((text) => Buffer.from(text));
    expect(splitMultipart(parseEntity(multipart("mixed", parts)))).toEqual(parts);
  });

  test("stands inside another multipart, which does not take its boundaries for its own", () => {
    const inner = multipart("mixed", [Buffer.from("x"), Buffer.from("y")]);
    expect(splitMultipart(parseEntity(multipart("signed", [inner, Buffer.from("z")])))).toEqual([inner, Buffer.from("z")]);
  });

  test("writes its fields first and its parameters as given", () => {
    const boundary = "=_chosen";
    const bytes = multipart("signed", [Buffer.from("x")], { fields: [field("A", "b")], parameters: "micalg=sha-256", boundary });
    expect(bytes.toString()).toBe(
      `A: b\r\nContent-Type: multipart/signed; micalg=sha-256;\r\n boundary="${boundary}"\r\n\r\n--${boundary}\r\nx\r\n--${boundary}--\r\n`,
    );
  });

  test("takes a fresh boundary of 144 random bits each time: a part cannot hold it by intent", () => {
    const boundaries = Array.from({ length: 20 }, () => parseEntity(multipart("mixed", [])).contentType.parameters.get("boundary"));
    expect(new Set(boundaries).size).toBe(20);
  });
});
