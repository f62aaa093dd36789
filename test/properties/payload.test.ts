/** For every message: the payload gives it back byte for byte, and nothing that must stay inside stands outside. */
import { expect, test } from "@jest/globals";
import * as fc from "fast-check";
import { toCrlf } from "../../mime/entity.ts";
import { whole } from "../../mime/pieces.ts";
import { joinMessage, splitMessage } from "../../mime/headers.ts";
import { readSealed } from "../../mime/message.ts";
import { outerFields, parsePayload, restore } from "../../mime/payload.ts";
import { makeParties, openEnvelope, payloadOf, sealedLetter } from "../mime/parties.ts";

const CONTENT_TYPES = [
  "Content-Type: text/plain",
  "content-type:text/html;",
  "Content-Type: multipart/mixed;\r\n boundary=b",
  'Content-Type: text/plain; hp="cipher"',
  'Content-Type: text/plain;\r\n hp="cipher"',
  'Content-Type: text/plain; charset=us-ascii; hp="cipher"',
  "Content-Type: ((",
  "Content-Type:",
  'Content-Type: a/b; name="\\',
];
const LINES = [
  "Subject: gr\xc3\xbc\xdf",
  "Subject:",
  "X-Folded: a\r\n b\r\n\tc",
  "X-Folded: a\r\n \r\n b",
  "no field at all",
  ": nameless",
  "Sub ject: x",
  "Received: x",
  "Cc: carol@c.example",
  "MIME-Version: 1.0",
  "Content-Transfer-Encoding: 8bit",
  "X-Octets: \xff\x01\x80",
  "Authentication-Results: gateway.b.example; smime=pass",
];
const required = ["From: alice@a.example", "To: bob@b.example", "Message-ID: <1@a.example>"];
const body = fc
  .array(fc.constantFrom("\r\n", "\n", "\r", "x", "--b", "\0", "\xff", "HP-Outer: x", 'hp="cipher"', " "), { maxLength: 20 })
  .map((parts) => parts.join(""));
const message = fc
  .tuple(
    fc.array(fc.constantFrom(...LINES), { maxLength: 8 }),
    fc.array(fc.constantFrom(...CONTENT_TYPES), { maxLength: 2 }),
    fc.boolean(),
    body,
  )
  .chain(([lines, types, from, text]) =>
    fc
      .shuffledSubarray([...lines, ...types, ...required], { minLength: lines.length + types.length + required.length })
      .map((header) => `${from ? "From alice Sun Mar  1 12:00:00 2026\r\n" : ""}${header.join("\r\n")}\r\n\r\n${text}`),
  )
  .map((text) => toCrlf(Buffer.from(text, "latin1")));

test("plain delivery gives back what was submitted, whatever its header looks like", () => {
  fc.assert(
    fc.property(message, (bytes) => {
      expect(restore(parsePayload(payloadOf(bytes)), Buffer.alloc(0), "plain", []).toString("latin1")).toBe(bytes.toString("latin1"));
    }),
    { numRuns: 1_000 },
  );
});

test("outside stand only fields that are allowed there, as they were written", () => {
  fc.assert(
    fc.property(message, (bytes) => {
      for (const { name, raw } of outerFields(splitMessage(bytes), "[...]")) {
        expect(["from", "to", "cc", "date", "message-id", "subject"]).toContain(name);
        if (name === "subject") expect(raw.toString()).toBe("Subject: [...]\r\n");
        else expect(bytes.includes(raw)).toBe(true);
      }
    }),
  );
});

test("a message that was signed, sealed, mailed, found and opened is the message that was submitted", async () => {
  const parties = await makeParties();
  fc.assert(
    fc.property(message, (bytes) => {
      const { mail, key, binding, letter } = sealedLetter(parties, { payload: payloadOf(bytes) });
      const { envelope } = readSealed(mail) ?? { envelope: Buffer.alloc(0) };
      const opened = openEnvelope(envelope, { key, openers: [parties.bob.opener] }, { ...binding, messageId: "<1@a.example>" });
      expect(restore(opened.payload, opened.entity, "plain", []).equals(bytes)).toBe(true);
      const { fields, body: signed } = splitMessage(whole(letter.entity));
      expect(joinMessage(fields, signed).equals(opened.entity ?? Buffer.alloc(0))).toBe(true);
    }),
    { numRuns: 40 },
  );
});
