/** Mailboxes: what parses is safe in an SMTP command and a header field, and parses again to itself. */
import { describe, expect, test } from "@jest/globals";
import { inScope, leastQuoted, parseDomain, parseMailbox } from "../../mime/address.ts";
import { faultOf } from "./faults.ts";

const LABEL = "d".repeat(63);

describe("parseMailbox reads", () => {
  test.each([
    ["a plain address", "alice@a.example", "alice@a.example"],
    ["a domain in capitals, lower from now on", "alice@A.EXAMPLE", "alice@a.example"],
    ["a local part in capitals, kept as written", "Alice@a.example", "Alice@a.example"],
    ["every character of an atom", "!#$%&'*+-/=?^_`{|}~09azAZ@a.example", "!#$%&'*+-/=?^_`{|}~09azAZ@a.example"],
    ["dots between atoms", "a.b.c@a.example", "a.b.c@a.example"],
    ["a quoted local part", '"a b"@a.example', '"a b"@a.example'],
    ["an @ in quotes", '"a@b"@a.example', '"a@b"@a.example'],
    ["quoted pairs", '"a\\"b\\\\c"@a.example', '"a\\"b\\\\c"@a.example'],
    ["dots where only quotes allow them", '".a..b."@a.example', '".a..b."@a.example'],
    ["an empty quoted local part (RFC 5321 §4.1.2)", '""@a.example', '""@a.example'],
    ["a host without dots", "root@localhost", "root@localhost"],
    ["digits and dashes in a domain", "a@1-2.3--4.example", "a@1-2.3--4.example"],
    ["a punycode domain", "a@xn--r8jz45g.example", "a@xn--r8jz45g.example"],
    ["a UTF-8 domain, in A-labels", "alice@例え.example", "alice@xn--r8jz45g.example"],
    ["a UTF-8 local part (RFC 6531)", "böb@b.example", "böb@b.example"],
    ["an IPv4 literal", "a@[192.0.2.1]", "a@[192.0.2.1]"],
    ["labels of 63 characters", `a@${LABEL}.example`, `a@${LABEL}.example`],
    ["a local part of 64 octets", `${"a".repeat(64)}@a.example`, `${"a".repeat(64)}@a.example`],
    ["254 octets", `a@${"d".repeat(60)}.${LABEL}.${LABEL}.${LABEL}`, `a@${"d".repeat(60)}.${LABEL}.${LABEL}.${LABEL}`],
    ["a kanji outside the basic plane, as in many Japanese names", "𠮷田@𠮷.example", "𠮷田@xn--7l3i.example"],
  ])("%s", (_why, text, address) => {
    expect(parseMailbox(text).address).toBe(address);
  });

  test("the key of a mailbox is all in lower case", () => {
    expect(parseMailbox("Alice.BÖB@A.Example")).toEqual({
      local: "Alice.BÖB",
      domain: "a.example",
      address: "Alice.BÖB@a.example",
      key: "alice.böb@a.example",
    });
  });

  test.each(["bob@bücher.example", "bob@BÜCHER.Example", "bob@xn--bcher-kva.example", "bob@bu\u0308cher.example", "bob@bücher。example"])(
    "a domain as one mailbox, in whatever form it is written: %s",
    (text) => expect(parseMailbox(text)).toMatchObject({ domain: "xn--bcher-kva.example", key: "bob@xn--bcher-kva.example" }),
  );

  test("an IPv6 literal, whose address parses again", () => {
    const { address } = parseMailbox("a@[IPv6:2001:db8::1]");
    expect(parseMailbox(address).address).toBe(address);
  });
});

describe("parseMailbox refuses as malformed", () => {
  test.each([
    ["nothing", ""],
    ["no @", "alice"],
    ["an empty local part", "@a.example"],
    ["an empty domain", "alice@"],
    ["two @", "a@b@c.example"],
    ["a dot in front", ".a@a.example"],
    ["a dot at the end", "a.@a.example"],
    ["two dots", "a..b@a.example"],
    ["a space", "a b@a.example"],
    ["a space around it", " a@a.example"],
    ["a line end behind it", "a@a.example\n"],
    ["angle brackets", "<a@a.example>"],
    ["a comment", "a(b)@a.example"],
    ["a display name", "Alice <a@a.example>"],
    ["a comma", "a,b@a.example"],
    ["a bare backslash", "a\\b@a.example"],
    ["an unclosed quote", '"a@a.example'],
    ["a quote in the middle", 'a"b"@a.example'],
    ["a quote inside quotes", '"a"b"@a.example'],
    ["a backslash that escapes the closing quote", '"a\\"@a.example'],
    ["an empty label", "a@a..example"],
    ["a dot behind the domain", "a@a.example."],
    ["a dash in front of a label", "a@-a.example"],
    ["a dash behind a label", "a@a-.example"],
    ["an underscore in a domain", "a@a_b.example"],
    ["a label of 64 characters", `a@${LABEL}d.example`],
    ["a local part of 65 octets", `${"a".repeat(65)}@a.example`],
    ["a local part of 65 octets in 33 characters", `${"ö".repeat(32)}a@a.example`],
    ["255 octets", `a@${"d".repeat(61)}.${LABEL}.${LABEL}.${LABEL}`],
    ["an open literal", "a@[192.0.2.1"],
    ["text behind a literal", "a@[192.0.2.1]x"],
    ["a literal of no known kind", "a@[host]"],
    ["a source route", "@r.example:a@a.example"],
    ["a UUCP path", "a@b!c"],
    ["half of a surrogate pair, which UTF-8 cannot carry", "a\uD842@a.example"],
    ["half of a surrogate pair in the domain", "a@\uDFB7.example"],
  ])("%s", (_why, text) => {
    expect(faultOf(() => parseMailbox(text)).code).toBe("malformed");
  });

  test.each([
    ["a second SMTP command", "a@x>\r\nRCPT TO:<evil@x"],
    ["a second command behind a good address", "a@b.example\r\nRCPT TO:<c@d.example>"],
    ["a header field", "a@b.example\r\nBcc: c@d.example"],
    ["a bare LF", "a@b.example\nX: y"],
    ["a bare CR", "a@b.example\rX: y"],
    ["a line end inside quotes", '"a\r\nb"@b.example'],
    ["an escaped line end inside quotes", '"a\\\r\\\nb"@b.example'],
    ["NUL", "a\0b@b.example"],
    ["NUL inside quotes", '"a\0b"@b.example'],
    ["TAB inside quotes", '"a\tb"@b.example'],
    ["DEL", "a\x7Fb@b.example"],
    ["parameters of MAIL FROM", "a@b.example> SIZE=1"],
    ["a next line of the second control set", "a\u0085b@b.example"],
    ["a control character of the second set in the domain", "a@b\u009B.example"],
  ])("what would smuggle in %s", (_why, text) => {
    expect(faultOf(() => parseMailbox(text)).code).toBe("malformed");
  });

  test("the message quotes at most the beginning of what was refused, with control characters escaped", () => {
    const { message } = faultOf(() => parseMailbox(`\r\n${"x".repeat(10_000)}`));
    expect(message.length).toBeLessThan(120);
    expect(message).not.toMatch(/[\r\n]/u);
  });
});

describe("domains and scopes", () => {
  test("parseDomain reads what stands to the right of the @", () => {
    expect(parseDomain("B.Example")).toBe("b.example");
  });

  test.each([["a@b.example"], ["b.example\r\n"], [""], ["b example"], ["*.example"]])("parseDomain refuses %j", (text) => {
    expect(faultOf(() => parseDomain(text)).code).toBe("malformed");
  });

  test.each([
    ["its own address", ["alice@a.example"], true],
    ["its own address in other letters", ["ALICE@A.example"], true],
    ["its domain", ["a.example"], true],
    ["one entry among others", ["b.example", "c.example", "a.example"], true],
    ["no entry", [], false],
    ["another mailbox of the domain", ["bob@a.example"], false],
    ["the domain above", ["example"], false],
    ["a domain below", ["x.a.example"], false],
    ["a domain that ends alike", ["aa.example"], false],
    ["the empty entry", [""], false],
    ["@ and its domain", ["@a.example"], false],
  ])("a mailbox is in a scope of %s: %j", (_why, scope, inside) => {
    expect(inScope(parseMailbox("Alice@a.example"), scope)).toBe(inside);
  });
});

test.each([
  ["none", "bob@b.example", "bob@b.example"],
  ["needless ones", '"bob.x"@b.example', "bob.x@b.example"],
  ["needless quoted pairs", '"b\\ob"@b.example', "bob@b.example"],
  ["quotes that are needed, and a pair in them that is not", '"b\\ o\\b"@b.example', '"b ob"@b.example'],
  ["pairs that are needed", '"b\\"o\\\\b"@b.example', '"b\\"o\\\\b"@b.example'],
  ["dots where only quotes allow them", '"bob."@b.example', '"bob."@b.example'],
])("leastQuoted writes a mailbox with as few quotes as can be: %s", (_what, address, written) => {
  expect(leastQuoted(parseMailbox(address)).address).toBe(written);
});
