/** ENVELOPE and BODYSTRUCTURE of odd messages; where no note says otherwise, the answers are those of Dovecot 2.3.19. */

import { expect, test } from "@jest/globals";
import { extract, parseEntity } from "../../../cli/demo/imap/entity.ts";
import { envelope, structure } from "../../../cli/demo/imap/structure.ts";
import { mail } from "./talk.ts";

const EMPTY = '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0)';

test.each([
  ["a message without a type", mail("Subject: x", "", "one", "two", ""), '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 10 2)'],
  ["a header without a blank line", mail("Subject: x", ""), EMPTY],
  ["no octets at all", mail(""), EMPTY],
  ["a type that is none", mail("Content-Type: garbage", "", ""), EMPTY],
  ["a multipart without its boundary in the text", mail("Content-Type: multipart/mixed; boundary=b", "", "nothing"), `(${EMPTY} "mixed")`],
  ["a multipart that names no boundary", mail("Content-Type: multipart/mixed", "", "--", "--"), `(${EMPTY} "mixed")`],
  [
    "a multipart that never ends",
    mail("Content-Type: multipart/mixed; boundary=b", "", "--b", "", "x"),
    '(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0) "mixed")',
  ],
  [
    "a boundary that begins like another",
    mail("Content-Type: multipart/mixed; boundary=b", "", "--b", "", "--bb", "--b--"),
    '(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 4 0) "mixed")',
  ],
  [
    "bare line feeds",
    Buffer.from("Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\ny\n--b--\n"),
    '(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 1) "mixed")',
  ],
  [
    "a comment and quotes in the type",
    mail('Content-Type: text/x-y (com;ment); Name="a;\\"b\\""; charset=utf-8', "", ""),
    '("text" "x-y" ("Name" "a;\\"b\\"" "charset" "utf-8") NIL NIL "7bit" 0 0)',
  ],
  [
    "a digest, whose parts are messages by default",
    mail("Content-Type: multipart/digest; boundary=d", "", "--d", "", "Subject: one", "", "body", "--d--"),
    '(("message" "rfc822" NIL NIL NIL "7bit" 20 (NIL "one" NIL NIL NIL NIL NIL NIL NIL NIL) ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 4 0) 2) "digest")',
  ],
])("BODY of %s", (_what, bytes, expected) => {
  expect(structure(bytes, parseEntity(bytes), false)).toBe(expected);
});

test("BODYSTRUCTURE tells identity, disposition, languages and location", () => {
  const bytes = mail(
    "Content-Type: application/pdf",
    "Content-ID: <1@x>",
    "Content-Description: a paper",
    "Content-Transfer-Encoding: BASE64",
    "Content-MD5: Q2hlY2s=",
    'Content-Disposition: attachment; filename="a b.pdf"',
    "Content-Language: en, de",
    "Content-Location: http://x.example/",
    "",
    "AAAA",
  );
  expect(structure(bytes, parseEntity(bytes), true)).toBe(
    '("application" "pdf" NIL "<1@x>" "a paper" "BASE64" 4 "Q2hlY2s=" ("attachment" ("filename" "a b.pdf")) ("en" "de") "http://x.example/")',
  );
});

test("a thousand levels of multiparts are cut off, not followed to the end of the stack", () => {
  const lines = Array.from({ length: 1000 }, (_, level) => [`Content-Type: multipart/mixed; boundary=b${level}`, "", `--b${level}`]).flat();
  const bytes = mail(...lines, "", "deep");
  expect(structure(bytes, parseEntity(bytes), true)).toContain('"mixed"');
});

test.each([
  ["a name in quotes with a comma", '"Bob, the builder" <bob@b.example>', '(("Bob, the builder" NIL "bob" "b.example"))'],
  ["a name in a comment", "carol@c.example (Carol (the) C.)", '(("Carol (the) C." NIL "carol" "c.example"))'],
  ["a route of old", "<@r1.example,@r2.example:list@l.example>", '((NIL "@r1.example,@r2.example" "list" "l.example"))'],
  [
    "a group, and an empty one",
    "F: a@a.example, b@b.example;, none:;",
    '((NIL NIL "F" NIL)(NIL NIL "a" "a.example")(NIL NIL "b" "b.example")(NIL NIL NIL NIL)(NIL NIL "none" NIL)(NIL NIL NIL NIL))',
  ],
  ["a group that does not end", "F: a@a.example", '((NIL NIL "F" NIL)(NIL NIL "a" "a.example")(NIL NIL NIL NIL))'],
  ["a local part in quotes", '"a b"@x.example', '((NIL NIL "a b" "x.example"))'],
  ["a host in brackets", "a@[127.0.0.1]", '((NIL NIL "a" "[127.0.0.1]"))'],
  ["no host (ours: an empty one, for NIL would mean a group)", "local", '((NIL NIL "local" ""))'],
  ["octets above 127, in a literal", "J\xf6rg <j@x.example>", '(({4}\r\nJ\xf6rg NIL "j" "x.example"))'],
  ["nothing", "", "NIL"],
])("ENVELOPE of an address with %s", (_what, to, expected) => {
  const bytes = mail(`To: ${to}`, "", "");
  expect(envelope(parseEntity(bytes))).toBe(`(NIL NIL NIL NIL NIL ${expected} NIL NIL NIL NIL)`);
});

test("sections of a message within a message are numbered from it", () => {
  const bytes = mail(
    "Content-Type: multipart/mixed; boundary=o",
    "",
    "--o",
    "Content-Type: message/rfc822",
    "",
    "Subject: inside",
    "Content-Type: multipart/mixed; boundary=i",
    "",
    "--i",
    "X: y",
    "",
    "first",
    "--i",
    "",
    "second",
    "--i--",
    "--o--",
    "",
  );
  const section = (path: number[], part: "" | "HEADER" | "TEXT" | "MIME"): string | undefined =>
    extract(bytes, { path, part, fields: [] })?.toString();
  expect(section([1, 1], "")).toBe("first");
  expect(section([1, 1], "MIME")).toBe("X: y\r\n\r\n");
  expect(section([1, 2], "")).toBe("second");
  expect(section([1], "MIME")).toBe("Content-Type: message/rfc822\r\n\r\n");
  expect(section([1], "HEADER")).toBe("Subject: inside\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n");
  expect(section([1], "TEXT")).toBe("--i\r\nX: y\r\n\r\nfirst\r\n--i\r\n\r\nsecond\r\n--i--");
  expect(section([1, 3], "")).toBeUndefined();
  expect(section([1, 1, 1], "")).toBeUndefined();
  expect(section([1, 1], "HEADER")).toBeUndefined();
});
