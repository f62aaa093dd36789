/** Opening: strict in every parameter, and one answer to whatever is wrong: nobody may learn where it failed (threats 2-4, 9). */
import { beforeAll, describe, expect, test } from "@jest/globals";
import { contextTag, derNull, encode, integer, octetString, oid, sequence, setOf, utf8String } from "../../mime/der.ts";
import { ContentKey } from "../../mime/key.ts";
import { OID } from "../../mime/oids.ts";
import { openWithKey, openWithPrivateKey, readShell, type Opener } from "../../mime/open.ts";
import { sealToCertificate, sealWithKey } from "../../mime/seal.ts";
import { faceOf, faultOf, outcomeOf } from "./faults.ts";
import { contentKeyOf, forge, streamed, type Forgery } from "./forge.ts";
import { holder, makeParties, rsaKey, shellOf, type Parties } from "./parties.ts";
import { AT, at, bitFlips, edit, rangeOf } from "./tree.ts";

const TEXT = Buffer.from("The secret text.\r\n");
const key = ContentKey.generate();
const held = sealWithKey(TEXT, key, shellOf());
/** The one face of every refusal. */
const REFUSAL = JSON.stringify(["cannot-open", "content key or content refused", undefined, "never"]);
const ATTRIBUTES = setOf(sequence(oid(OID.contentType), setOf(oid(OID.data))));

let parties: Parties;
let agreed: Buffer;
let rsa: Opener;
let transported: Buffer;
beforeAll(async () => {
  parties = await makeParties();
  rsa = await holder(parties.root, "mailbox-encryption", [parties.bob.mailbox], { key: rsaKey() });
  agreed = sealToCertificate(TEXT, parties.bob.opener.certificate);
  transported = sealToCertificate(TEXT, rsa.certificate);
});

const open = (envelope: Buffer): Buffer => openWithKey(envelope, key);
const openAsBob = (envelope: Buffer): Buffer => openWithPrivateKey(envelope, [parties.bob.opener, rsa]);

describe("a held envelope opens", () => {
  test("with its key, and as a genuine copy of our own making", () => {
    expect(open(held).equals(TEXT)).toBe(true);
    expect(open(forge(held, key, TEXT)).equals(TEXT)).toBe(true); // the forgeries below differ from this in one thing each
  });

  test("in streamed BER, in segments as Thunderbird cuts them, for letters of megabytes", () => {
    const large = Buffer.alloc(5 << 20, "letter");
    const envelope = sealWithKey(large, key, shellOf());
    expect(open(streamed(held, 5)).equals(TEXT)).toBe(true);
    expect(open(streamed(envelope, 1_024)).equals(large)).toBe(true);
    expect(readShell(streamed(envelope, 1_024))).toEqual(readShell(envelope));
  });
});

describe("a held envelope does not open", () => {
  test.each<[string, Forgery]>([
    ...Array.from({ length: 16 }, (_, octets): [string, Forgery] => [
      `a tag of ${octets} octets, honestly declared`,
      { tagOctets: octets },
    ]),
    ...[4, 12, 15].map((octets): [string, Forgery] => [
      `a tag of ${octets} octets, declared as 16`,
      { tagOctets: octets, writtenTagOctets: 16 },
    ]),
    ["a tag of 16 octets, declared as 12", { writtenTagOctets: 12 }],
    ["a tag of 16 octets, declared as 17", { writtenTagOctets: 17 }],
    ["ICVlen left out, which means 12 (RFC 5084 §3.2)", { tagOctets: 12, writtenTagOctets: null }],
    ["ICVlen left out over a tag of 16 octets", { writtenTagOctets: null }],
    ["a nonce of 8 octets", { nonceOctets: 8 }],
    ["a nonce of 16 octets", { nonceOctets: 16 }],
    ["a nonce of 1 octet", { nonceOctets: 1 }],
    ["AES-128", { cipher: "aes-128-gcm" }],
    ["AES-192", { cipher: "aes-192-gcm" }],
    ["authenticated attributes, which older readers refuse", { attributes: ATTRIBUTES }],
    ["another content type inside", { contentType: OID.signedData }],
  ])("with %s, though its cryptography is genuine", (_why, forgery) => {
    expect(faceOf(faultOf(() => open(forge(held, key, TEXT, forgery))))).toBe(REFUSAL);
  });

  const CBC = "2.16.840.1.101.3.4.1.42";
  const CCM = "2.16.840.1.101.3.4.1.47";
  const wrapAt = [...AT.recipient, 2];
  const otherAt = [...AT.recipient, 1, 2];
  test.each<[string, (envelope: Buffer) => Buffer]>([
    ["relabelled as EnvelopedData", (der) => edit(der, AT.type, () => [oid("1.2.840.113549.1.7.3")])],
    [
      "relabelled as EnvelopedData over CBC (RFC 9709)",
      (der) =>
        edit(
          edit(der, AT.type, () => [oid("1.2.840.113549.1.7.3")]),
          AT.algorithm,
          () => [sequence(oid(CBC), octetString(Buffer.alloc(16)))],
        ),
    ],
    ["relabelled as AES-256-CBC", (der) => edit(der, AT.cipher, () => [oid(CBC)])],
    ["relabelled as AES-256-CCM", (der) => edit(der, AT.cipher, () => [oid(CCM)])],
    ["relabelled as AES-128-GCM", (der) => edit(der, AT.cipher, () => [oid("2.16.840.1.101.3.4.1.6")])],
    ["relabelled as AES-128 key wrap", (der) => edit(der, [...wrapAt, 0], () => [oid("2.16.840.1.101.3.4.1.5")])],
    ["key wrap with parameters", (der) => edit(der, wrapAt, () => [sequence(oid(OID.aes256Wrap), integer(1))])],
    ["key wrap with padding", (der) => edit(der, [...wrapAt, 0], () => [oid("2.16.840.1.101.3.4.1.48")])],
    ["GCM parameters left out", (der) => edit(der, AT.parameters, () => [])],
    ["more GCM parameters", (der) => edit(der, AT.tagLength, ({ encoding }) => [encoding, derNull()])],
    ["version 1", (der) => edit(der, AT.version, () => [integer(1)])],
    ["recipient version 3", (der) => edit(der, [...AT.recipient, 0], () => [integer(3)])],
    ["the same recipient twice", (der) => edit(der, AT.recipient, ({ encoding }) => [encoding, encoding])],
    [
      "a second recipient with a certificate",
      (der) => edit(der, AT.recipient, ({ encoding }) => [encoding, at(agreed, AT.recipient).encoding]),
    ],
    ["no recipient", (der) => edit(der, AT.recipient, () => [])],
    ["originatorInfo", (der) => edit(der, AT.version, ({ encoding }) => [encoding, encode(contextTag(0, "constructed"))])],
    ["unprotected attributes", (der) => edit(der, AT.mac, ({ encoding }) => [encoding, encode(contextTag(2, "constructed"), sequence())])],
    [
      "authenticated attributes that nobody authenticated",
      (der) => edit(der, AT.mac, ({ encoding }) => [encode(contextTag(1, "constructed"), sequence()), encoding]),
    ],
    ["no ciphertext", (der) => edit(der, AT.ciphertext, () => [])],
    ["ciphertext twice", (der) => edit(der, AT.ciphertext, ({ encoding }) => [encoding, encoding])],
    ["no tag", (der) => edit(der, AT.mac, () => [])],
    ["its ticket left out", (der) => edit(der, [...AT.recipient, 1, 0], () => [])],
    ["its expiry left out", (der) => edit(der, [...AT.recipient, 1, 1], () => [])],
    ["its broker left out", (der) => edit(der, otherAt, () => [])],
    ["another attribute for its broker", (der) => edit(der, [...otherAt, 0], () => [oid("1.2.3")])],
    [
      "its broker as something else than UTF-8",
      (der) => edit(der, [...otherAt, 1], () => [octetString(Buffer.from("https://broker.example"))]),
    ],
    ["a word behind its broker", (der) => edit(der, [...otherAt, 1], ({ encoding }) => [encoding, utf8String("x")])],
    ["a wrapped key of 32 octets", (der) => edit(der, [...AT.recipient, 3], ({ content }) => [octetString(content.subarray(8))])],
    [
      "a wrapped key of 48 octets",
      (der) => edit(der, [...AT.recipient, 3], ({ content }) => [octetString(Buffer.concat([content, Buffer.alloc(8)]))]),
    ],
    ["an empty wrapped key", (der) => edit(der, [...AT.recipient, 3], () => [octetString(Buffer.alloc(0))])],
    ["the content key in the open", (der) => edit(der, [...AT.recipient, 3], () => [octetString(contentKeyOf(der, key))])],
    ["an octet behind its end", (der) => Buffer.concat([der, Buffer.from([0])])],
    ["nothing at all", () => Buffer.alloc(0)],
    ["text", () => TEXT],
    ["an envelope to a certificate instead", () => agreed],
  ])("with %s", (_why, change) => {
    expect(faceOf(faultOf(() => open(change(held))))).toBe(REFUSAL);
  });

  test("with another key, or one that was wiped", () => {
    const wiped = ContentKey.generate();
    wiped.wipe();
    for (const other of [ContentKey.generate(), ContentKey.adopt(Buffer.alloc(32)), wiped]) {
      expect(faceOf(faultOf(() => openWithKey(held, other)))).toBe(REFUSAL);
    }
  });

  test("with the recipient or the content of another envelope under the same key", () => {
    const other = sealWithKey(Buffer.from("Another secret.   "), key, shellOf());
    for (const path of [AT.recipient, AT.ciphertext, AT.mac, AT.nonce]) {
      expect(faceOf(faultOf(() => open(edit(held, path, () => [at(other, path).encoding]))))).toBe(REFUSAL);
    }
  });

  test("cut off at any length", () => {
    for (let length = 0; length < held.length; length++) expect(faceOf(faultOf(() => open(held.subarray(0, length))))).toBe(REFUSAL);
  });

  test("with any one bit flipped, but for the shell, which says where the key is and is held against the broker's row", () => {
    const shell = [
      [1, 0],
      [1, 1],
      [1, 2, 1],
    ].map((path) => rangeOf(held, [...AT.recipient, ...path]));
    let opened = 0;
    for (const { mutant, offset } of bitFlips(held)) {
      if (shell.some(({ start, end }) => offset >= start && offset < end)) {
        if (outcomeOf(() => open(mutant)) === "ok") opened += open(mutant).equals(TEXT) ? 1 : Number.NaN;
      } else expect(faceOf(faultOf(() => open(mutant)))).toBe(REFUSAL);
    }
    expect(opened).toBeGreaterThan(100);
  });
});

describe.each<[string, () => Buffer]>([
  ["P-256", () => agreed],
  ["RSA", () => transported],
])("an envelope to a certificate with %s", (name, envelope) => {
  const refused = (mutant: Buffer): void => expect(faceOf(faultOf(() => openAsBob(mutant)))).toBe(REFUSAL);

  test("opens for its holder and for nobody else", () => {
    expect(openAsBob(envelope()).equals(TEXT)).toBe(true);
    expect(faceOf(faultOf(() => openWithPrivateKey(envelope(), [parties.carol.opener])))).toBe(REFUSAL);
    expect(faceOf(faultOf(() => openWithPrivateKey(envelope(), [])))).toBe(REFUSAL);
    expect(faceOf(faultOf(() => open(envelope())))).toBe(REFUSAL);
  });

  test("does not open with another key under the name of the right certificate", () => {
    const impostors = [parties.bob.opener, rsa].map(({ certificate }) => ({ certificate, key: parties.carol.opener.key }));
    expect(faceOf(faultOf(() => openWithPrivateKey(envelope(), impostors)))).toBe(REFUSAL);
  });

  test("does not open cut off at any length", () => {
    for (let length = 0; length < envelope().length; length++) refused(envelope().subarray(0, length));
  });

  test("does not open with any one bit flipped", () => {
    const opened = new Set<number>();
    for (const { mutant, offset } of bitFlips(envelope(), name === "RSA" ? 3 : 1)) {
      if (outcomeOf(() => openAsBob(mutant)) === "ok") opened.add(offset);
      else refused(mutant);
    }
    expect([...opened]).toEqual([]);
  });

  test.each<[string, (der: Buffer) => Buffer]>([
    ["the same recipient twice", (der) => edit(der, AT.recipient, ({ encoding }) => [encoding, encoding])],
    ["another recipient version", (der) => edit(der, [...AT.recipient, 0], () => [integer(9)])],
    [
      "a second algorithm in the recipient",
      (der) => edit(der, [...AT.recipient, name === "RSA" ? 2 : 1], ({ encoding }) => [encoding, encoding]),
    ],
    [
      "authenticated attributes",
      (der) => edit(der, AT.mac, ({ encoding }) => [encode(contextTag(1, "constructed"), sequence()), encoding]),
    ],
    ["another cipher", (der) => edit(der, AT.cipher, () => [oid("2.16.840.1.101.3.4.1.42")])],
  ])("does not open with %s", (_why, change) => refused(change(envelope())));
});

describe("key agreement is strict", () => {
  const originator = [...AT.recipient, 1, 0];
  const scheme = [...AT.recipient, 2];
  const P384 = sequence(oid(OID.ecPublicKey), oid("1.3.132.0.34"));
  test.each<[string, (der: Buffer) => Buffer]>([
    ["SHA-1 in its key derivation", (der) => edit(der, [...scheme, 0], () => [oid("1.3.133.16.840.63.0.2")])],
    ["cofactor agreement", (der) => edit(der, [...scheme, 0], () => [oid("1.3.132.1.14.1")])],
    ["AES-128 key wrap", (der) => edit(der, [...scheme, 1, 0], () => [oid("2.16.840.1.101.3.4.1.5")])],
    [
      "user keying material that was not agreed on",
      (der) => edit(der, scheme, ({ encoding }) => [encode(contextTag(1, "constructed"), octetString(TEXT)), encoding]),
    ],
    ["the point at infinity", (der) => edit(der, [...originator, 1], ({ tag }) => [encode(tag, Buffer.from([0, 0]))])],
    [
      "a point in hybrid form, which RFC 5480 forbids and OpenSSL reads",
      (der) =>
        edit(der, [...originator, 1], ({ tag, content }) => [
          encode(tag, Buffer.from([0, 6 | ((content[65] ?? 0) & 1)]), content.subarray(2)),
        ]),
    ],
    [
      "a point off the curve",
      (der) =>
        edit(der, [...originator, 1], ({ tag, content }) => [
          encode(tag, Buffer.from(content.map((octet, i) => (i === 65 ? octet ^ 1 : octet)))),
        ]),
    ],
    ["the sender's certificate in place of a key", (der) => edit(der, originator, () => [parties.alice.signer.certificate.serial])],
    ["a key of another curve named", (der) => edit(der, [...originator, 0], () => [P384])],
    ["a key of RSA named", (der) => edit(der, [...originator, 0], () => [sequence(oid(OID.rsaEncryption))])],
    ["a second recipient in one agreement", (der) => edit(der, [...AT.recipient, 3, 0], ({ encoding }) => [encoding, encoding])],
    ["something behind the originator's key", (der) => edit(der, [...originator, 1], ({ encoding }) => [encoding, derNull()])],
    ["something behind the scheme", (der) => edit(der, [...scheme, 1], ({ encoding }) => [encoding, derNull()])],
    ["something behind the wrapped key", (der) => edit(der, [...AT.recipient, 3, 0, 1], ({ encoding }) => [encoding, derNull()])],
  ])("it refuses %s", (_why, change) => {
    expect(faceOf(faultOf(() => openAsBob(change(agreed))))).toBe(REFUSAL);
  });
});
