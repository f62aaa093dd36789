/** Real and odd mail that nobody here wrote: nothing of it changes on its way through headers and payload, but for line ends. */
import { describe, expect } from "@jest/globals";
import { toCrlf } from "../../mime/entity.ts";
import { joinMessage, splitMessage } from "../../mime/headers.ts";
import { parsePayload, restore } from "../../mime/payload.ts";
import { corpusFiles, corpusTest, type CorpusFile } from "../mime/corpora.ts";
import { payloadOf } from "../mime/parties.ts";

const CRLF = Buffer.from("\r\n");
const mails = (): CorpusFile[] =>
  corpusFiles(["mikel-mail", "james-mime4j", "cpython-test-email", "thunderbird-smime"]).map(({ name, bytes }) => ({
    name,
    bytes: toCrlf(bytes),
  }));

/** The message; where its header is not ended by an empty line, with that line: there is no other way to write it. */
function ended(message: Buffer): Buffer {
  if (message.includes("\r\n\r\n") || message.subarray(0, 2).equals(CRLF)) return message;
  return Buffer.concat(message.length === 0 || message.subarray(-2).equals(CRLF) ? [message, CRLF] : [message, CRLF, CRLF]);
}

/** Fields that a payload must have once, or never carries: the mail goes with ours instead. */
const REPLACED = ["from", "message-id", "bcc", "return-path", "hp-outer", "registered-mail-nonce"];
function withOurNames(message: Buffer): Buffer {
  const { fields, body } = splitMessage(message);
  const ours = splitMessage(Buffer.from("From: alice@a.example\r\nMessage-ID: <1@a.example>\r\n")).fields;
  const kept = fields.filter(({ name }) => !REPLACED.includes(name));
  return joinMessage([...kept, ...ours], body);
}

describe("mail of the corpora", () => {
  corpusTest("splits and joins to the same octets", () => {
    const all = mails();
    expect(all.length).toBeGreaterThan(900);
    const changed = all.filter(({ bytes }) => {
      const { fields, body } = splitMessage(bytes);
      return !joinMessage(fields, body).equals(ended(bytes));
    });
    expect(changed.map(({ name }) => name)).toEqual([]);
  });

  corpusTest("comes back from a payload byte for byte", () => {
    const changed = mails().filter(({ bytes }) => {
      if (bytes.includes(0)) return false; // the door takes no such mail
      const message = withOurNames(bytes);
      return !restore(parsePayload(payloadOf(message)), Buffer.alloc(0), "plain", []).equals(message);
    });
    expect(changed.map(({ name }) => name)).toEqual([]);
  });

  corpusTest("is the same when it is taken as it stands, wherever it names one author and one Message-ID", () => {
    let whole = 0;
    for (const { bytes } of mails()) {
      const { fields } = splitMessage(bytes);
      if (fields.some(({ name }) => REPLACED.slice(2).includes(name))) continue;
      let restored: Buffer;
      try {
        restored = restore(parsePayload(payloadOf(bytes)), Buffer.alloc(0), "plain", []);
      } catch {
        continue; // no author or no Message-ID: the gateway refuses or completes it before
      }
      expect(restored.equals(ended(bytes))).toBe(true);
      whole++;
    }
    expect(whole).toBeGreaterThan(150);
  });
});
