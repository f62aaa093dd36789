/** The readable part of a sealed letter: fixed words, and nothing that a mail client turns into a link. */
import { describe, expect, test } from "@jest/globals";
import { parseMailbox } from "../../mime/address.ts";
import { decodedBody, parseEntity } from "../../mime/entity.ts";
import { noticePart } from "../../mime/notice.ts";

const UNTIL = new Date("2026-03-31T12:34:56Z");
const textOf = (sender: string, broker: string): string =>
  decodedBody(parseEntity(noticePart(parseMailbox(sender), broker, UNTIL))).toString();

describe("the notice", () => {
  test("says who sent the letter, who keeps its key, and until when", () => {
    const text = textOf("alice@a.example", "https://broker.example");
    expect(text).toContain("alice at a.example");
    expect(text).toContain("broker.example\r\n");
    expect(text).toContain("until 2026-03-31 12:34 UTC");
  });

  test("is a text part that is shown in place", () => {
    const part = parseEntity(noticePart(parseMailbox("alice@a.example"), "https://broker.example", UNTIL));
    expect(part.contentType.type).toBe("text/plain");
    expect(part.fields.map(({ raw }) => raw.toString())).toContain("Content-Disposition: inline\r\n");
  });

  test.each([
    ["an ordinary sender and broker", "alice@a.example", "https://broker.example"],
    ["a broker on a port", "alice@a.example", "https://broker.example:8443"],
    ["a broker with a path and a query", "alice@a.example", "https://broker.example/v1/?x=http://evil.example"],
    ["a broker with a password in its address", "alice@a.example", "https://user:secret@broker.example"],
    ["a sender outside ASCII", "böb@例え.example", "https://broker.example"],
    ["a broker whose name begins with www", "alice@a.example", "https://www.broker.example"],
    ["a sender whose domain begins with www", "alice@www.a.example", "https://broker.example"],
  ])("holds nothing that is made a link of: %s", (_why, sender, broker) => {
    const text = textOf(sender, broker);
    expect(text).not.toMatch(/https?:|mailto:|ftp\.|www\.|@|:\/\/|href/iu);
    expect(text).not.toContain("secret");
  });

  test("names the port of a broker in words, also of one that has only an IPv6 address", () => {
    expect(textOf("alice@a.example", "https://broker.example:8443")).toContain("broker broker.example, port 8443\r\n");
    expect(textOf("alice@a.example", "https://[2001:db8::1]:8443")).toContain("broker [2001:db8::1], port 8443\r\n");
  });
});
