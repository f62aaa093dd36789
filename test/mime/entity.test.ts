/** MIME entities as octets: canonical line ends, base64, Content-Type; each strict, for others will read the same octets. */
import { describe, expect, test } from "@jest/globals";
import { base64Entity, decodedBody, encodeBase64, parseContentType, parseEntity, textEntity, toCrlf } from "../../mime/entity.ts";
import { joinMessage, splitMessage } from "../../mime/headers.ts";
import { faultOf } from "./faults.ts";

describe("toCrlf", () => {
  test.each([
    ["nothing", "", ""],
    ["no line end", "a", "a"],
    ["LF", "a\nb\n", "a\r\nb\r\n"],
    ["CR", "a\rb\r", "a\r\nb\r\n"],
    ["CR LF", "a\r\nb\r\n", "a\r\nb\r\n"],
    ["all three", "a\nb\rc\r\nd", "a\r\nb\r\nc\r\nd"],
    ["CR CR LF: a lone CR and a line end", "a\r\r\nb", "a\r\n\r\nb"],
    ["CR LF LF", "a\r\n\nb", "a\r\n\r\nb"],
    ["LF CR", "a\n\rb", "a\r\n\r\nb"],
    ["empty lines", "\n\n\n", "\r\n\r\n\r\n"],
    ["LF at both ends", "\na\n", "\r\na\r\n"],
    ["8-bit octets and NUL", "\xff\0\n\x80", "\xff\0\r\n\x80"],
  ])("of %s", (_why, text, canonical) => {
    expect(toCrlf(Buffer.from(text, "latin1")).toString("latin1")).toBe(canonical);
  });

  test("does not copy what is canonical, and does not change its input", () => {
    const canonical = Buffer.from("a\r\nb\r\n");
    expect(toCrlf(canonical)).toBe(canonical);
    const input = Buffer.from("a\nb\n");
    toCrlf(input);
    expect(input.toString()).toBe("a\nb\n");
  });
});

describe("base64", () => {
  const octets = (length: number): Buffer => Buffer.from(Array.from({ length }, (_, at) => (at * 151 + length) & 0xff));
  const decoded = (body: Buffer): Buffer =>
    decodedBody(splitMessage(Buffer.concat([Buffer.from("Content-Transfer-Encoding: base64\r\n\r\n"), body])));

  test("comes back at every length from 0 to 300, in lines of at most 76 characters that all end in CR LF", () => {
    for (let length = 0; length <= 300; length++) {
      const encoded = encodeBase64(octets(length));
      expect(decoded(encoded).equals(octets(length))).toBe(true);
      const lines = encoded.toString("latin1").split("\r\n");
      expect(lines.pop()).toBe("");
      expect(lines.every((line) => /^[A-Za-z0-9+/]{1,76}={0,2}$/u.test(line) && line.length <= 76)).toBe(true);
      expect(lines.slice(0, -1).every((line) => line.length === 76)).toBe(true);
      expect(lines.join("")).toBe(octets(length).toString("base64"));
    }
  });

  test.each([
    ["lines of other lengths, as relays cut them", "aGVs\r\nbG8g\r\ndG8gYm\r\n9i\r\n"],
    ["spaces and tabs at the ends of lines", "aGVsbG8g \t\r\ndG8gYm9i\t\r\n"],
    ["no final line end", "aGVsbG8gdG8gYm9i"],
    ["lone LF", "aGVsbG8g\ndG8gYm9i\n"],
  ])("is read with %s", (_why, body) => {
    expect(decoded(Buffer.from(body)).toString()).toBe("hello to bob");
  });

  const long = octets(200_000).toString("base64");
  const inLinesOf = (length: number, end: string): string => (long.match(new RegExp(`.{1,${length}}`, "gu")) ?? []).join(end);

  test.each([
    ["lines of 64", inLinesOf(64, "\r\n")],
    ["lines of 75, which are no whole groups", inLinesOf(75, "\r\n")],
    ["lone LF", inLinesOf(76, "\n")],
    ["tabs behind the lines", inLinesOf(76, "\t\r\n")],
    ["an empty line in front", `\r\n${inLinesOf(76, "\r\n")}`],
    ["one line for all of it", long],
    ["one line end of another kind in the middle", inLinesOf(76, "\r\n").replace(/(?<=^.{100000,}?)\r\n/su, "\n")],
  ])("a long one is read with %s, into other octets and into its own", (_why, body) => {
    for (const use of ["keep", "spend"] as const) {
      const entity = splitMessage(Buffer.from(`Content-Transfer-Encoding: base64\r\n\r\n${body}`));
      expect(decodedBody(entity, use).equals(octets(200_000))).toBe(true);
    }
  });

  test.each(["-", "_", "\0", "\xe4", "*"])(
    "a long one is refused with %j anywhere in it, in another's place or between others",
    (foreign) => {
      const body = inLinesOf(76, "\r\n");
      for (const at of [0, 75, 76, 77, 78, 66_690, 66_767, 150_000, body.length - 1]) {
        for (const next of [at, at + 1]) {
          const text = Buffer.from(body.slice(0, at) + foreign + body.slice(next), "latin1");
          expect(faultOf(() => decoded(text)).code).toBe("malformed");
        }
      }
    },
  );

  test.each([
    ["a footer that a mailing list wrote behind it", "aGVsbG8=\r\n-- \r\nlist@x.example\r\n"],
    ["the characters of base64url", "aGVs_G8-"],
    ["8-bit octets", "aGVs\xe4G8="],
    ["NUL", "aGVs\0bG8="],
  ])("is refused with %s", (_why, body) => {
    expect(faultOf(() => decoded(Buffer.from(body, "latin1"))).code).toBe("malformed");
  });

  test.each(["7bit", "8bit", "binary", "BINARY"])("a body in %s is returned as it stands", (encoding) => {
    const entity = splitMessage(Buffer.from(`Content-Transfer-Encoding: ${encoding}\r\n\r\na=3D\r\n`));
    expect(decodedBody(entity).toString()).toBe("a=3D\r\n");
  });

  test("no Content-Transfer-Encoding means 7bit (RFC 2045 §6.1)", () => {
    expect(decodedBody(splitMessage(Buffer.from("A: b\r\n\r\naGVs"))).toString()).toBe("aGVs");
  });

  test.each([
    ["quoted-printable, which Kakitome never writes", "Content-Transfer-Encoding: quoted-printable\r\n"],
    ["an unknown one", "Content-Transfer-Encoding: x-uuencode\r\n"],
    ["two of them", "Content-Transfer-Encoding: base64\r\nContent-Transfer-Encoding: 7bit\r\n"],
  ])("a transfer encoding is refused: %s", (_why, header) => {
    expect(faultOf(() => decodedBody(splitMessage(Buffer.from(`${header}\r\nx`)))).code).toBe("malformed");
  });
});

describe("Content-Type", () => {
  test.each<[string, string | undefined, string, Record<string, string>]>([
    ["an absent field", undefined, "text/plain", {}],
    ["a type alone", "text/html", "text/html", {}],
    ["capitals", "Text/HTML; CharSet=UTF-8", "text/html", { charset: "UTF-8" }],
    ["a parameter", "text/plain; charset=utf-8", "text/plain", { charset: "utf-8" }],
    ["a quoted parameter", 'a/b; name="x; y=z"', "a/b", { name: "x; y=z" }],
    ["quoted pairs", 'a/b; name="x\\"y\\\\z"', "a/b", { name: 'x"y\\z' }],
    ["an empty quoted parameter", 'a/b; name=""', "a/b", { name: "" }],
    ["no spaces", "a/b;c=d;e=f", "a/b", { c: "d", e: "f" }],
    ["many spaces", "  a/b \t ; c = d  ; e=f ", "a/b", { c: "d", e: "f" }],
    ["a semicolon at the end", "a/b; c=d;", "a/b", { c: "d" }],
    ["nothing between semicolons", "a/b;; c=d; ;", "a/b", { c: "d" }],
    ["the boundary of a Thunderbird", 'multipart/signed; boundary="------------ms0"', "multipart/signed", { boundary: "------------ms0" }],
    ["a type with dots and a plus", "application/vnd.x.y+xml", "application/vnd.x.y+xml", {}],
    ["RFC 2231 parts, as they stand", "a/b; name*0*=utf-8''%41; name*1=b", "a/b", { "name*0*": "utf-8''%41", "name*1": "b" }],
    ["a name that every object has", "a/b; constructor=c; __proto__=d", "a/b", { constructor: "c", ["__proto__"]: "d" }],
  ])("reads %s", (_why, value, type, parameters) => {
    const read = parseContentType(value);
    expect(read.type).toBe(type);
    expect([...read.parameters]).toEqual(Object.entries(parameters));
  });

  test.each([
    ["an empty field", ""],
    ["no subtype", "text"],
    ["an empty subtype", "text/"],
    ["two slashes", "text/plain/x"],
    ["a comment, which readers read in different ways", "text/plain (comment); charset=utf-8"],
    ["words behind the type", "text/plain charset=utf-8"],
    ["a comma for a semicolon", "text/plain, charset=utf-8"],
    ["a parameter without a value", "text/plain; charset"],
    ["a parameter without a name", "text/plain; =utf-8"],
    ["an empty value without quotes", "text/plain; charset="],
    ["an unclosed quote", 'text/plain; name="x'],
    ["words behind a quote", 'text/plain; name="x"y'],
    ["a value that needs quotes", "multipart/mixed; boundary=a:b"],
    ["a parameter twice", "multipart/mixed; boundary=a; boundary=b"],
    ["a parameter twice in other letters", "multipart/mixed; boundary=a; BOUNDARY=b"],
    ["a parameter twice with one value", "a/b; c=d; c=d"],
    ["a sign outside ASCII that lower case turns into a k", "application/p\u212Acs7-mime"],
    ["a sign outside ASCII that other cases turn into an s", "multipart/\u017Figned"],
  ])("refuses %s", (_why, value) => {
    expect(faultOf(() => parseContentType(value)).code).toBe("malformed");
  });

  test("an entity with two Content-Type fields is refused: readers would choose differently", () => {
    expect(faultOf(() => parseEntity(Buffer.from("Content-Type: a/b\r\nContent-Type: a/b\r\n\r\n"))).code).toBe("malformed");
  });
});

describe("entities that are written", () => {
  test("a text within ASCII stands readable, with canonical line ends", () => {
    const entity = parseEntity(textEntity("hello\nBob\n"));
    expect(entity.contentType).toEqual({ type: "text/plain", parameters: new Map([["charset", "us-ascii"]]) });
    expect(entity.body.toString()).toBe("hello\r\nBob\r\n");
  });

  test("a text outside ASCII goes in base64, so that no relay has to change it", () => {
    const bytes = textEntity("grüße\n");
    expect(bytes.every((octet) => octet < 0x80)).toBe(true);
    const entity = parseEntity(bytes);
    expect(entity.contentType.parameters.get("charset")).toBe("utf-8");
    expect(decodedBody(entity).toString()).toBe("grüße\r\n");
  });

  test("an attachment comes back exactly and is named", () => {
    const octets = Buffer.from([0, 255, 10, 13, 0]);
    const entity = parseEntity(base64Entity('a/b; name="x"', octets, 'attachment; filename="x"'));
    expect(decodedBody(entity).equals(octets)).toBe(true);
    expect(joinMessage(entity.fields, entity.body).toString()).toContain('Content-Disposition: attachment; filename="x"\r\n');
  });
});
