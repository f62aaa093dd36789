/** A sealed letter as a mail: its exact shape, found again in a mailbox, and told from everything that only looks like one. */
import { beforeAll, describe, expect, test } from "@jest/globals";
import { decodedBody, encodeBase64, multipart, parseEntity, splitMultipart } from "../../mime/entity.ts";
import { whole } from "../../mime/pieces.ts";
import { field, joinMessage, valueOf, fieldsNamed, splitMessage } from "../../mime/headers.ts";
import { readSealed } from "../../mime/message.ts";
import { openWithKey, openWithPrivateKey } from "../../mime/open.ts";
import { sealToCertificate } from "../../mime/seal.ts";
import { verify } from "../../mime/sign.ts";
import { OID } from "../../mime/oids.ts";
import { faultOf, outcomeOf } from "./faults.ts";
import { MESSAGE, NOW, makeParties, openEnvelope, payloadOf, sealedLetter, type Parties, type SealedLetter } from "./parties.ts";
import { bitFlips } from "./tree.ts";

let parties: Parties;
let sealed: SealedLetter;
beforeAll(async () => {
  parties = await makeParties();
  sealed = sealedLetter(parties);
});

const partsOf = (mail: Buffer): Buffer[] => splitMultipart(parseEntity(mail));

describe("a sealed mail", () => {
  test("is a multipart/mixed of exactly one notice and one envelope", () => {
    const top = parseEntity(sealed.mail);
    expect(top.contentType.type).toBe("multipart/mixed");
    const [notice, envelope, ...others] = splitMultipart(top).map((part) => parseEntity(part));
    expect(others).toEqual([]);
    expect(notice?.contentType.type).toBe("text/plain");
    expect(envelope?.contentType).toEqual({
      type: "application/pkcs7-mime",
      parameters: new Map([
        ["smime-type", "authEnveloped-data"],
        ["name", "registered.p7m"],
      ]),
    });
    expect(envelope?.fields.map(({ raw }) => raw.toString())).toEqual(
      expect.arrayContaining(["Content-Transfer-Encoding: base64\r\n", 'Content-Disposition: attachment; filename="registered.p7m"\r\n']),
    );
    expect(envelope && decodedBody(envelope).equals(sealed.envelope)).toBe(true);
  });

  test("shows the outer fields once each, and [...] for the subject", () => {
    const { fields } = splitMessage(sealed.mail);
    expect(fields.map(({ name }) => name)).toEqual(["from", "to", "date", "message-id", "subject", "mime-version", "content-type"]);
    expect(fieldsNamed(fields, "subject").map(valueOf)).toEqual(["[...]"]);
  });

  test("is ASCII in lines of at most 78 characters, which no relay has to change", () => {
    expect(sealed.mail.every((octet) => octet < 0x80 && octet !== 0)).toBe(true);
    for (const line of sealed.mail.toString().split("\r\n")) expect(line.length).toBeLessThanOrEqual(78);
    expect(sealed.mail.toString()).not.toMatch(/[^\r]\n|\r[^\n]/u);
  });

  test("holds nothing of subject, text, or Received, in no encoding", () => {
    for (const secret of ["secret", "The secret text", "client.a.example"]) {
      for (const form of [secret, Buffer.from(secret).toString("base64").slice(0, 8), Buffer.from(secret).toString("hex")]) {
        expect(sealed.mail.includes(form)).toBe(false);
        expect(sealed.envelope.includes(form)).toBe(false);
      }
    }
  });

  test("has the layers of the norm: Kc, then the recipient's certificate, then the signature", () => {
    const inner = parseEntity(openWithKey(sealed.envelope, sealed.key));
    expect(inner.contentType.parameters.get("smime-type")).toBe("authEnveloped-data");
    const entity = openWithPrivateKey(decodedBody(inner), [parties.bob.opener]);
    expect(entity?.equals(whole(sealed.letter.entity))).toBe(true);
    const [payload = Buffer.alloc(0), file = Buffer.alloc(0), ...others] = partsOf(entity);
    expect(others).toEqual([]);
    expect(payload.equals(payloadOf(MESSAGE))).toBe(true);
    const signature = decodedBody(parseEntity(file));
    expect(signature.equals(sealed.letter.signatureFile ?? Buffer.alloc(0))).toBe(true);
    const trust = { roots: [parties.root.certificate], at: NOW, purpose: OID.emailProtection };
    expect(verify(signature, trust, payload).signer).toBe(parties.alice.signer.certificate);
  });

  test("goes without the recipient's layer where none is wanted", () => {
    const { envelope, key, letter } = sealedLetter(parties, { dual: undefined });
    expect(openWithKey(envelope, key).equals(whole(letter.entity))).toBe(true);
  });
});

describe("readSealed", () => {
  test("finds envelope and shell again", () => {
    expect(readSealed(sealed.mail)).toEqual({
      hold: "held",
      envelope: sealed.envelope,
      shell: sealed.shell,
      use: "keep",
      outside: undefined,
    });
  });

  test.each<[string, (mail: string) => string]>([
    ["trace fields above it", (mail) => `Received: x\r\nDKIM-Signature: y\r\n${mail}`],
    ["text around its parts, which is dropped", (mail) => mail.replace("\r\n\r\n--", "\r\n\r\npreamble\r\n--").concat("epilogue\r\n")],
    ["base64 in lines of another length", (mail) => mail.replace(/(?<=^[A-Za-z0-9+/]{40})(?=[A-Za-z0-9+/]{36}\r\n)/gmu, "\r\n")],
    ["the old name of its type", (mail) => mail.replace("application/pkcs7-mime", "application/x-pkcs7-mime")],
    [
      "other letters in its types",
      (mail) => mail.replace("authEnveloped-data", "AUTHENVELOPED-DATA").replace("multipart/mixed", "Multipart/Mixed"),
    ],
    ["no final line end", (mail) => mail.slice(0, -2)],
  ])("reads it with %s", (_why, change) => {
    const mail = sealed.mail.toString("latin1");
    expect(change(mail)).not.toBe(mail);
    expect(readSealed(Buffer.from(change(mail), "latin1"))?.envelope.equals(sealed.envelope)).toBe(true);
  });

  const notice = (): Buffer => partsOf(sealed.mail)[0] ?? Buffer.alloc(0);
  const envelope = (): Buffer => partsOf(sealed.mail)[1] ?? Buffer.alloc(0);
  const html = Buffer.from('Content-Type: text/html\r\n\r\n<img src="http://evil.example/');
  const mixed = (...parts: readonly Buffer[]): Buffer => multipart("mixed", parts);
  const swapped = (search: string, replacement: string): Buffer =>
    Buffer.from(sealed.mail.toString("latin1").replace(search, replacement), "latin1");
  test.each<[string, () => Buffer]>([
    ["nothing", () => Buffer.alloc(0)],
    ["no MIME", () => Buffer.from("Subject: hello\r\n\r\nhello")],
    ["an ordinary mail", () => MESSAGE],
    ["a mail with another attachment", () => mixed(notice(), html)],
    ["an envelope alone: such a mail is shown as an empty page", () => envelope()],
    ["a notice alone", () => mixed(notice())],
    ["a multipart without parts", () => mixed()],
    ["an envelope in front of its notice", () => mixed(envelope(), notice())],
    ["two envelopes", () => mixed(notice(), envelope(), envelope())],
    ["a foreign part behind the envelope (EFAIL)", () => mixed(notice(), envelope(), html)],
    ["foreign parts around the envelope (EFAIL)", () => mixed(html, envelope(), Buffer.from('Content-Type: text/html\r\n\r\n">'))],
    ["a foreign part between notice and envelope", () => mixed(notice(), html, envelope())],
    ["an HTML part for a notice", () => mixed(html, envelope())],
    ["an envelope one level deeper", () => mixed(notice(), mixed(envelope()))],
    [
      "a sealed letter inside a forwarded one",
      () => mixed(notice(), Buffer.concat([Buffer.from("Content-Type: message/rfc822\r\n\r\n"), sealed.mail])),
    ],
    ["another multipart", () => swapped("multipart/mixed", "multipart/related")],
    ["signed data", () => swapped("authEnveloped-data", "signed-data")],
    ["enveloped data of any S/MIME client", () => swapped("authEnveloped-data", "enveloped-data")],
    ["no smime-type", () => swapped("smime-type=authEnveloped-data;\r\n ", "")],
    ["two Content-Types", () => swapped("MIME-Version: 1.0\r\n", "MIME-Version: 1.0\r\nContent-Type: text/html\r\n")],
    ["a multipart that is not closed", () => sealed.mail.subarray(0, -6)],
    ["a header that is too large", () => Buffer.concat([Buffer.from("X: y\r\n".repeat(6_000)), sealed.mail])],
  ])("is silent about what is not ours: %s", (_why, mail) => {
    expect(readSealed(mail())).toBeUndefined();
  });

  const claiming = (body: Buffer, encoding = "base64"): Buffer =>
    mixed(
      notice(),
      joinMessage(
        [field("Content-Type", "application/pkcs7-mime; smime-type=authEnveloped-data"), field("Content-Transfer-Encoding", encoding)],
        body,
      ),
    );
  test.each<[string, () => Buffer]>([
    ["no envelope in it", () => claiming(Buffer.alloc(0))],
    ["text that is no base64", () => claiming(Buffer.from("hello, world!"))],
    [
      "a footer that a mailing list wrote into it",
      () => claiming(Buffer.concat([encodeBase64(sealed.envelope), Buffer.from("-- \r\na list\r\n")])),
    ],
    ["base64 of text", () => claiming(encodeBase64(Buffer.from("hello")))],
    ["half of an envelope", () => claiming(encodeBase64(sealed.envelope.subarray(0, 200)))],
    ["an envelope twice", () => claiming(encodeBase64(Buffer.concat([sealed.envelope, sealed.envelope])))],
    ["an envelope to a certificate", () => claiming(encodeBase64(sealToCertificate(MESSAGE, parties.bob.opener.certificate)))],
    ["a signature", () => claiming(encodeBase64(sealed.letter.signatureFile ?? Buffer.alloc(0)))],
    ["an encoding that we never write", () => claiming(encodeBase64(sealed.envelope), "quoted-printable")],
    [
      "two encodings",
      () => swapped("Content-Transfer-Encoding: base64", "Content-Transfer-Encoding: base64\r\nContent-Transfer-Encoding: 7bit"),
    ],
    ["a bomb", () => claiming(encodeBase64(Buffer.from("3080".repeat(50_000), "hex")))],
  ])("refuses what claims to be ours and is not: %s", (_why, mail) => {
    expect(faultOf(() => readSealed(mail())).code).toBe("malformed");
  });

  test("a thousand letters sealed into each other are one letter", () => {
    let nested = sealed.mail;
    for (let depth = 0; depth < 3; depth++)
      nested = mixed(notice(), Buffer.concat([Buffer.from("Content-Type: message/rfc822\r\n\r\n"), nested]));
    expect(readSealed(nested)).toBeUndefined();
  });

  test("of any mutant, nothing but the letter that was registered ever opens", () => {
    const outcomes = new Set<string>();
    for (const { mutant } of bitFlips(sealed.mail, 89)) {
      outcomes.add(
        outcomeOf(() => {
          const found = readSealed(mutant);
          if (!found) return;
          const { entity } = openEnvelope(found.envelope, { key: sealed.key, openers: [parties.bob.opener] }, sealed.binding);
          expect(entity?.equals(whole(sealed.letter.entity))).toBe(true);
        }),
      );
    }
    expect([...outcomes].every((outcome) => ["ok", "malformed", "cannot-open"].includes(outcome))).toBe(true);
  });
});
