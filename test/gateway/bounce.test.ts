/** The notice of a letter that could not be handed over (RFC 3464): right words, right status, and nothing that somebody else wrote gets a header of its own. */
import { describe, expect, test } from "@jest/globals";
import { failureNotice, type Failure } from "../../gateway/bounce.ts";
import { isPermanent, statusIn } from "../../gateway/reply.ts";
import { parseEntity, splitMultipart } from "../../mime/entity.ts";
import { splitMessage, valueOf } from "../../mime/headers.ts";

const FAILURE: Failure = {
  host: "gateway.a.example",
  language: "en",
  sender: "alice@a.example",
  recipient: "bob@b.example",
  originalRecipient: "rfc822;bob@b.example",
  envelopeId: "QQ314159",
  messageId: "<letter@a.example>",
  sealed: true,
  status: "5.1.1",
  answer: "550 5.1.1 no such mailbox",
  message: Buffer.from("From: alice@a.example\r\nSubject: [...]\r\n\r\nthe sealed text\r\n"),
  acceptedAt: new Date("2026-03-01T12:00:00Z"),
  now: new Date("2026-03-02T12:00:00Z"),
  id: "0123",
};

/** The notice and its three parts as text. */
function read(changes: Partial<Failure> = {}) {
  const notice = failureNotice({ ...FAILURE, ...changes });
  const [text, status, original] = splitMultipart(parseEntity(notice)).map((part) => part.toString("utf8"));
  const { fields } = splitMessage(notice);
  const value = (name: string): string[] => fields.filter((item) => item.name === name).map((item) => valueOf(item));
  return { notice, text: text ?? "", status: status ?? "", original: original ?? "", value };
}

test("it goes to the sender, is threaded under the letter, and answers to nothing", () => {
  const { value } = read();
  expect(value("to")).toEqual(["alice@a.example"]);
  expect(value("in-reply-to")).toEqual(["<letter@a.example>"]);
  expect(value("auto-submitted")).toEqual(["auto-replied"]);
  expect(value("content-type")[0]).toMatch(/^multipart\/report; .*report-type=delivery-status/su);
});

test("the text names the recipient, the letter and the next hop's words", () => {
  const { text } = read();
  for (const words of ["bob@b.example", "<letter@a.example>", "550 5.1.1 no such mailbox", "No receipt will come"])
    expect(text).toContain(words);
});

test("the status part has one group for the message and one for the recipient", () => {
  const { status } = read();
  expect(status.split("\r\n\r\n").slice(1).filter(Boolean)).toEqual([
    "Reporting-MTA: dns; gateway.a.example\r\nArrival-Date: Sun, 01 Mar 2026 12:00:00 +0000\r\nOriginal-Envelope-Id: QQ314159",
    [
      "Original-Recipient: rfc822;bob@b.example",
      "Final-Recipient: rfc822; bob@b.example",
      "Action: failed",
      "Status: 5.1.1",
      "Diagnostic-Code: smtp; 550 5.1.1 no such mailbox",
    ].join("\r\n"),
  ]);
});

test("what was not known is left out", () => {
  const { status } = read({ envelopeId: undefined, originalRecipient: undefined });
  expect(status).not.toMatch(/Original-/u);
});

test("it returns the header of the copy, never its text", () => {
  const { notice, original } = read();
  expect(original).toContain("Subject: [...]");
  expect(notice.includes("the sealed text")).toBe(false);
});

describe("words of others cannot write fields", () => {
  test.each([
    ["the next hop's answer", { answer: "550 no\r\nBcc: x@y.example\r\n\r\n<script>\u0000\u0007" }],
    ["the envelope identifier", { envelopeId: "Q\r\nBcc: x@y.example" }],
    ["the original recipient", { originalRecipient: "rfc822;a\r\nBcc: x@y.example" }],
  ])("%s", (_why, changes) => {
    const { notice, status } = read(changes);
    expect(notice.toString("latin1")).not.toMatch(/^Bcc:/mu);
    expect(status).not.toMatch(/^Bcc:/mu);
  });

  test("an answer of a megabyte is cut", () => {
    expect(read({ answer: `550 ${"x".repeat(1 << 20)}` }).notice.length).toBeLessThan(5_000);
  });
});

describe("the status is the one at the head of the answer", () => {
  test.each([
    ["550 5.1.1 no such mailbox", 550, "5.1.1"],
    ["451 4.7.1 Greylisted", 451, "4.7.1"],
    ["550-5.7.26 first line\n550 5.7.26 second line", 550, "5.7.26"],
    ["550 no such mailbox", 550, "5.0.0"],
    ["421 closing", 421, "4.0.0"],
    ["connect ECONNREFUSED 127.0.0.1:25", undefined, "4.0.0"],
    ["550 mail from 5.6.7.8 is refused", 550, "5.0.0"],
    ["554 your address 4.3.2.1 is on a list", 554, "5.0.0"],
  ])("%s -> %s %s", (answer, code, status) => {
    expect(statusIn(answer, code)).toBe(status);
  });
});

test.each([
  [undefined, false],
  [250, false],
  [421, false],
  [499, false],
  [500, true],
  [599, true],
  [600, false],
])("a reply of %s is final: %s", (code, final) => {
  expect(isPermanent(code)).toBe(final);
});

test("an address outside ASCII is written in ASCII in the status part, as one of its own type (RFC 6533)", () => {
  const { status } = read({ recipient: "b\u00F6b+x@b.example" });
  expect(status).toMatch(/^Final-Recipient: utf-8; b\\x\{F6\}b\\x\{2B\}x@b\.example\r$/mu);
});
