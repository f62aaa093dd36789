/** Payloads: the header protected, the body byte for byte; what the sender submitted is what the reader gets. */
import { describe, expect, test } from "@jest/globals";
import { parseMailbox } from "../../mime/address.ts";
import { parseEntity } from "../../mime/entity.ts";
import { fieldsNamed, splitMessage, valueOf } from "../../mime/headers.ts";
import { buildPayload, outerFields, parsePayload, restore } from "../../mime/payload.ts";
import { faultOf } from "./faults.ts";
import { MESSAGE, MESSAGE_ID, NONCE, mail, payloadOf } from "./parties.ts";

const OWN = "From: Alice <alice@a.example>\r\nTo: bob@b.example\r\nMessage-ID: <1@a.example>\r\n";
const octets = (text: string): Buffer => Buffer.from(text, "latin1");
const roundTrip = (message: Buffer): Buffer => restore(parsePayload(payloadOf(message)), Buffer.alloc(0), "plain", []);

describe("a header in which other programs see other fields than we do is refused", () => {
  const signed = payloadOf(octets(`${OWN}Subject: x\r\n\r\nx`)).toString("latin1");
  const having = (line: string): Buffer => octets(signed.replace("Subject: x\r\n", line));
  test.each([
    ["LF without CR, which files and mail servers take for a line end", "Subject: x\nFrom: ceo@bank.example\r\n"],
    ["and an end of the header", "Subject: x\nFrom: ceo@bank.example\n\nPay at once\r\n"],
    ["CR without LF", "Subject: x\rFrom: ceo@bank.example\r\n"],
    ["NUL", "Subject: x\0\r\n"],
    ["a second From, its colon far away", `From${" ".repeat(1_000)}: ceo@bank.example\r\n`],
    ["a second From, its colon on the next line", "From\r\n : ceo@bank.example\r\n"],
  ])("%s", (_why, line) => {
    expect(parsePayload(having("Subject: x\r\n")).messageId).toBe("<1@a.example>");
    expect(faultOf(() => parsePayload(having(line))).code).toBe("malformed");
  });
});

test("a text that says that it repeats its Subject, and does not, keeps every octet", () => {
  const payload = payloadOf(octets(`${OWN}\r\nHello`))
    .toString("latin1")
    .replace('hp="cipher"', 'hp="cipher"; hp-legacy-display="1"');
  expect(parsePayload(octets(payload)).body.toString()).toBe("Hello");
});

describe("plain delivery gives back exactly what was submitted", () => {
  test.each([
    ["an ordinary message", MESSAGE.toString("latin1")],
    ["no Content-Type", `${OWN}MIME-Version: 1.0\r\n\r\nx\r\n`],
    ["no MIME-Version", `${OWN}Content-Type: text/plain\r\n\r\nx\r\n`],
    ["a folded Content-Type", `${OWN}Content-Type: multipart/mixed;\r\n\tboundary="b"\r\n\r\nx`],
    ["a Content-Type that ends with a semicolon", `${OWN}Content-Type: text/plain;\r\n\r\nx`],
    ["a Content-Type that ends with white space", `${OWN}Content-Type: text/plain \t \r\n\r\nx`],
    ["a Content-Type that ends with an empty continuation", `${OWN}Content-Type: text/plain\r\n \r\n\r\nx`],
    ["an empty Content-Type", `${OWN}Content-Type:\r\n\r\nx`],
    ["a Content-Type that nobody can read", `${OWN}Content-Type: text plain; charset="\r\n\r\nx`],
    ["a Content-Type with a comment", `${OWN}Content-Type: text/plain (hello; "x)\r\n\r\nx`],
    ["white space in front of the colon", `${OWN}Content-Type : text/html\r\n\r\nx`],
    ["a Content-Type in capitals", `${OWN}CONTENT-TYPE: TEXT/HTML\r\n\r\nx`],
    ["two Content-Types", `${OWN}Content-Type: text/plain\r\nX: y\r\nContent-Type: text/html\r\n\r\nx`],
    ["the words of protection in its own Content-Type", `${OWN}Content-Type: text/plain;\r\n hp="cipher"\r\n\r\nx`],
    ["the words of protection on one line", `${OWN}Content-Type: text/plain; hp="cipher"\r\n\r\nx`],
    ["the field that we write where there is none", `${OWN}Content-Type: text/plain; charset=us-ascii; hp="cipher"\r\n\r\nx`],
    ["the words of protection in a second Content-Type", `${OWN}Content-Type: a/b\r\nContent-Type: a/b;\r\n hp="cipher"\r\n\r\nx`],
    [
      "our own field as a second Content-Type",
      `${OWN}Content-Type: a/b\r\nContent-Type: text/plain; charset=us-ascii; hp="cipher"\r\n\r\nx`,
    ],
    ["8-bit headers", `${OWN}Subject: gr\xc3\xbc\xc3\x9fe \xff\xfe\r\n\r\n\x80\xff`],
    ["an mbox From line", `From alice Sun Mar  1 12:00:00 2026\r\n${OWN}\r\nx`],
    ["lines that are no fields", `${OWN}no field\r\n:\r\nSub ject: x\r\n\r\nx`],
    ["a continuation in front of everything", ` x\r\n${OWN}\r\nx`],
    ["folding at odd places", `${OWN}Subject:\r\n x\r\n \r\n y\r\n\r\nx`],
    ["a header line of 5,000 characters", `${OWN}X: ${"y".repeat(5_000)}\r\n\r\nx`],
    ["an empty body", `${OWN}\r\n`],
    ["a body that begins with an empty line", `${OWN}\r\n\r\n\r\nx`],
    ["no final line end", `${OWN}\r\nx\r\ny`],
    ["NUL and every octet in the body", `${OWN}\r\n${Buffer.from(Array.from({ length: 256 }, (_, at) => at)).toString("latin1")}`],
    ["what looks like a boundary in the body", `${OWN}\r\n--b\r\n--=_\r\n--b--\r\n`],
    ["what looks like our fields in the body", `${OWN}\r\nHP-Outer: From: x\r\nRegistered-Mail-Nonce: x\r\n`],
    ["many fields of one name", `${OWN}Received: 1\r\nReceived: 2\r\nX: y\r\nReceived: 3\r\n\r\nx`],
    [
      "an S/MIME message, untouched inside",
      `${OWN}Content-Type: multipart/signed; boundary=b; micalg=sha-256\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n`,
    ],
  ])("%s", (_why, message) => {
    expect(roundTrip(octets(message)).toString("latin1")).toBe(message);
  });

  test("a message without even an empty line gets one, and nothing else", () => {
    expect(roundTrip(octets(OWN)).toString()).toBe(`${OWN}\r\n`);
    expect(roundTrip(octets(`${OWN}Content-Type: text/plain`)).toString()).toBe(`${OWN}Content-Type: text/plain\r\n\r\n`);
  });

  test.each([
    ["Bcc, which no copy but its own may show", "Bcc: secret@c.example\r\n"],
    ["a folded Bcc", "Bcc: secret@c.example,\r\n secret@d.example\r\n"],
    ["Resent-Bcc, which no recipient may see (RFC 5322 §3.6.6)", "Resent-Bcc: secret@c.example\r\n"],
    ["Return-Path, which is of the way", "Return-Path: <secret@c.example>\r\n"],
    ["HP-Outer of the sender, which would lie about our outside", "HP-Outer: Subject: secret\r\n"],
    ["a nonce of the sender", "Registered-Mail-Nonce: c2VjcmV0c2VjcmV0\r\n"],
  ])("but %s is left out", (_why, line) => {
    const message = octets(`${line}${OWN}${line}\r\nx`);
    expect(payloadOf(message).includes("secret")).toBe(false);
    expect(roundTrip(message).toString()).toBe(`${OWN}\r\nx`);
  });
});

describe("the protected header", () => {
  test("the root says hp=cipher, with a Content-Type and without", () => {
    expect(parseEntity(payloadOf(MESSAGE)).contentType).toEqual({
      type: "text/plain",
      parameters: new Map([
        ["charset", "utf-8"],
        ["hp", "cipher"],
      ]),
    });
    expect(parseEntity(payloadOf(octets(`${OWN}\r\nx`))).contentType.parameters.get("hp")).toBe("cipher");
  });

  test("each field outside is recorded as HP-Outer as it stands there, folding included (RFC 9788 §2.2)", () => {
    const message = mail(
      'From: "A" <alice@a.example>\nTo: bob@b.example,\n carol@c.example\nDate: x\nMessage-ID: <1@a>\nSubject: secret\n\nx',
    );
    const split = splitMessage(message);
    const outer = outerFields(split, "[...]");
    const recorded = fieldsNamed(splitMessage(payloadOf(message)).fields, "hp-outer");
    expect(recorded.map(({ raw }) => raw.toString().replace(/^HP-Outer: /u, ""))).toEqual(outer.map(({ raw }) => raw.toString()));
    expect(recorded.map(valueOf)).toContain("Subject: [...]");
  });

  test("outside stand only From, To, Cc, Date, Message-ID and the words for the subject", () => {
    const message = mail(
      "Received: x\nFrom: a@a.example\nSender: s@a.example\nReply-To: r@a.example\nTo: b@b.example\nCc: c@c.example\nBcc: d@d.example\n" +
        "Date: x\nMessage-ID: <1@a>\nIn-Reply-To: <0@a>\nReferences: <0@a>\nSubject: secret\nKeywords: secret\nX-Mailer: secret\nContent-Type: text/plain\n\nx",
    );
    const outer = outerFields(splitMessage(message), "[...]");
    expect(outer.map(({ name }) => name)).toEqual(["from", "to", "cc", "date", "message-id", "subject"]);
    expect(Buffer.concat(outer.map(({ raw }) => raw)).toString()).not.toMatch(/secret|d@d\.example/u);
  });

  test("the subject is inside, and outside only what the policy says", () => {
    expect(payloadOf(MESSAGE).toString()).toContain("\r\nSubject: the secret subject\r\n");
    expect(outerFields(splitMessage(MESSAGE), "Registered letter").map(valueOf).at(-1)).toBe("Registered letter");
  });

  test("a subject of the policy cannot smuggle in a field", () => {
    expect(faultOf(() => outerFields(splitMessage(MESSAGE), "x\r\nBcc: evil@x.example")).code).toBe("malformed");
  });

  test("a blind copy names its own blind recipient inside, and nobody else's", () => {
    const message = mail("From: alice@a.example\nTo: bob@b.example\nBcc: carol@c.example, dave@d.example\nMessage-ID: <1@a>\n\nx");
    const carols = payloadOf(message, { bcc: parseMailbox("carol@c.example") });
    expect(parsePayload(carols).recipients.map(({ key }) => key)).toEqual(["bob@b.example", "carol@c.example"]);
    expect(carols.includes("dave")).toBe(false);
    expect(payloadOf(message).includes("carol")).toBe(false);
    expect(Buffer.concat(outerFields(splitMessage(message), "[...]").map(({ raw }) => raw)).includes("carol")).toBe(false);
  });

  test("the nonce makes two payloads of one message differ", () => {
    expect(payloadOf(MESSAGE, { nonce: Buffer.alloc(16, 1) }).equals(payloadOf(MESSAGE, { nonce: Buffer.alloc(16, 2) }))).toBe(false);
    expect(
      valueOf(fieldsNamed(splitMessage(payloadOf(MESSAGE)).fields, "registered-mail-nonce")[0] ?? { name: "", raw: Buffer.alloc(0) }),
    ).toBe(NONCE.toString("base64url"));
  });
});

describe("parsePayload", () => {
  test("tells author, recipients and Message-ID", () => {
    const message = mail(
      "From: Alice <Alice@A.example>\nTo: bob@b.example, x: c@c.example;\nCc: d@d.example\nCc: e@e.example\nMessage-ID: <1@a>\n\nx",
    );
    const payload = parsePayload(payloadOf(message));
    expect(payload.from.key).toBe("alice@a.example");
    expect(payload.recipients.map(({ key }) => key)).toEqual(["bob@b.example", "c@c.example", "d@d.example", "e@e.example"]);
    expect(payload.messageId).toBe("<1@a>");
  });

  test("recipients that cannot be read are nobody: the letter does not open for them", () => {
    expect(parsePayload(payloadOf(mail("From: alice@a.example\nTo: bob@b.example, <<\nMessage-ID: <1@a>\n\nx"))).recipients).toEqual([]);
  });

  test.each<[string, (payload: string) => string]>([
    ["no protection", (payload) => payload.replace(/;\r\n hp="cipher"/u, "")],
    ["another protection: clear is not cipher", (payload) => payload.replace('hp="cipher"', 'hp="clear"')],
    [
      "protection only in the body",
      (payload) => `${payload.replace(/;\r\n hp="cipher"/u, "")}Content-Type: text/plain;\r\n hp="cipher"\r\n`,
    ],
    [
      "protection only in a second Content-Type",
      (payload) => payload.replace(/^Content-Type: [^]*?cipher"\r\n/mu, 'Content-Type: a/b\r\nContent-Type: a/b;\r\n hp="cipher"\r\n'),
    ],
    ["no Content-Type", (payload) => payload.replace(/^Content-Type: [^]*?cipher"\r\n/mu, "")],
    ["no nonce", (payload) => payload.replace(/^Registered-Mail-Nonce: .*\r\n/mu, "")],
    ["an empty nonce", (payload) => payload.replace(/^Registered-Mail-Nonce: .*\r\n/mu, "Registered-Mail-Nonce: \r\n")],
    [
      "a nonce of 120 bits",
      (payload) =>
        payload.replace(/^Registered-Mail-Nonce: .*\r\n/mu, `Registered-Mail-Nonce: ${Buffer.alloc(15).toString("base64url")}\r\n`),
    ],
    ["two nonces", (payload) => payload.replace(/^(Registered-Mail-Nonce: .*\r\n)/mu, "$1$1")],
    ["no From", (payload) => payload.replace(/^From: .*\r\n/mu, "")],
    ["two From", (payload) => payload.replace(/^(From: .*\r\n)/mu, "$1$1")],
    ["two authors in From", (payload) => payload.replace(/^From: .*\r\n/mu, "From: alice@a.example, mallory@m.example\r\n")],
    ["two authors in a group", (payload) => payload.replace(/^From: .*\r\n/mu, "From: us: alice@a.example, mallory@m.example;\r\n")],
    ["nobody in From", (payload) => payload.replace(/^From: .*\r\n/mu, "From: us:;\r\n")],
    ["a From that cannot be read", (payload) => payload.replace(/^From: .*\r\n/mu, "From: alice\r\n")],
    ["no Message-ID", (payload) => payload.replace(/^Message-ID: .*\r\n/mu, "")],
    ["an empty Message-ID", (payload) => payload.replace(/^Message-ID: .*\r\n/mu, "Message-ID: \r\n")],
    ["two Message-IDs", (payload) => payload.replace(/^(Message-ID: .*\r\n)/mu, "$1$1")],
    ["no header", (payload) => `\r\n${payload}`],
    ["nothing", () => ""],
  ])("refuses %s", (_why, change) => {
    const payload = payloadOf(MESSAGE).toString("latin1");
    expect(change(payload)).not.toBe(payload);
    expect(parsePayload(octets(payload)).messageId).toBe(MESSAGE_ID);
    expect(faultOf(() => parsePayload(octets(change(payload)))).code).toBe("malformed");
  });

  test("reads a payload of another writer, whose protection stands on one line, and leaves it as it is", () => {
    const message = octets(`Content-Type: text/plain; hp="cipher"\r\n${OWN}Registered-Mail-Nonce: ${NONCE.toString("base64url")}\r\n\r\nx`);
    expect(restore(parsePayload(message), message, "plain", []).toString()).toBe(`Content-Type: text/plain; hp="cipher"\r\n${OWN}\r\nx`);
  });

  test("a nonce of exactly 128 bits is enough", () => {
    const split = splitMessage(MESSAGE);
    expect(parsePayload(buildPayload(split, { outer: [], nonce: Buffer.alloc(16) })).messageId).toBe(MESSAGE_ID);
  });
});
