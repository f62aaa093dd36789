/** Sealing: what we write comes back, stock OpenSSL opens it, and it has exactly the shape of docs/protocol.md section 2.1. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { parseCertificate } from "../../mime/certificate.ts";
import { TAG, integerOf, isOid, octetsOf } from "../../mime/der.ts";
import { ContentKey } from "../../mime/key.ts";
import { OID } from "../../mime/oids.ts";
import { openWithKey, openWithPrivateKey, readShell, type Opener } from "../../mime/open.ts";
import { sealToCertificate, sealWithKey } from "../../mime/seal.ts";
import { faultOf } from "./faults.ts";
import { openSsl, type OpenSsl } from "./openssl.ts";
import { holder, makeParties, pem, rsaKey, shellOf, type Parties } from "./parties.ts";
import { AT, at } from "./tree.ts";

const TEXT = Buffer.from("Content-Type: text/plain\r\n\r\nThe secret text.\r\n");
const TEXTS: readonly (readonly [string, Buffer])[] = [
  ["a short text", TEXT],
  ["nothing", Buffer.alloc(0)],
  ["one octet", Buffer.from([0])],
  ["a block less one octet", Buffer.alloc(15, 1)],
  ["a block", Buffer.alloc(16, 1)],
  ["a megabyte", Buffer.alloc(1 << 20, 0xa5)],
];

let parties: Parties;
let rsa: Opener;
let ssl: OpenSsl;
beforeAll(async () => {
  [parties, ssl] = await Promise.all([makeParties(), openSsl("seal")]);
  rsa = await holder(parties.root, "mailbox-encryption", [parties.bob.mailbox], { key: rsaKey() });
  for (const [name, { key, certificate }] of [
    ["bob", parties.bob.opener],
    ["carol", parties.carol.opener],
    ["rsa", rsa],
  ] as const) {
    ssl.put(`${name}.key`, pem(key));
    ssl.put(`${name}.pem`, certificate.pem);
  }
});

const openers: readonly (readonly [string, () => Opener])[] = [
  ["P-256", () => parties.bob.opener],
  ["RSA", () => rsa],
];

describe("held: sealed under Kc", () => {
  test.each(TEXTS)("%s comes back", (_why, plaintext) => {
    const key = ContentKey.generate();
    expect(openWithKey(sealWithKey(plaintext, key, shellOf()), key).equals(plaintext)).toBe(true);
  });

  test.each(TEXTS)("stock OpenSSL opens %s with the key and the ticket", (_why, plaintext) => {
    const key = ContentKey.generate();
    const { ticket } = shellOf();
    ssl.put("held.der", sealWithKey(plaintext, key, shellOf()));
    const secret = key.lend((octets) => octets.toString("hex"));
    const args = ["cms", "-decrypt", "-binary", "-inform", "DER", "-in", "held.der", "-secretkeyid", ticket.toString("hex")];
    expect(ssl.run([...args, "-secretkey", secret]).equals(plaintext)).toBe(true);
    expect(ssl.try([...args, "-secretkey", "00".repeat(32)])).toMatchObject({ status: 4, stdout: Buffer.alloc(0) });
  });

  test("everyone reads ticket, broker and expiry, to the second, without any key", () => {
    const shell = {
      ...shellOf(Buffer.alloc(600, 0xfe)),
      expiresAt: new Date("2026-03-31T12:34:56.789Z"),
      brokerUrl: "https://例え.example:8443/ä",
    };
    const read = readShell(sealWithKey(TEXT, ContentKey.generate(), shell));
    expect(read).toEqual({ ...shell, expiresAt: new Date("2026-03-31T12:34:56Z") });
  });

  test("the envelope has the one shape of the norm", () => {
    const envelope = sealWithKey(TEXT, ContentKey.generate(), shellOf());
    const tags = (path: readonly number[]): number[] => at(envelope, path).children?.map(({ tag }) => tag) ?? [];
    expect(isOid(at(envelope, AT.type), OID.authEnvelopedData)).toBe(true);
    expect(tags(AT.data)).toEqual([TAG.integer, TAG.set, TAG.sequence, TAG.octetString]); // no attributes
    expect(integerOf(at(envelope, AT.version))).toBe(0);
    expect(tags(AT.recipients)).toEqual([0xa2]); // one KEKRecipientInfo and nothing beside it
    expect(integerOf(at(envelope, [...AT.recipient, 0]))).toBe(4);
    expect(tags([...AT.recipient, 1])).toEqual([TAG.octetString, TAG.generalizedTime, TAG.sequence]);
    expect(isOid(at(envelope, [...AT.recipient, 2, 0]), OID.aes256Wrap)).toBe(true);
    expect(tags([...AT.recipient, 2])).toEqual([TAG.oid]); // parameters absent, RFC 3565 §2.3.2
    expect(octetsOf(at(envelope, [...AT.recipient, 3]))).toHaveLength(40);
    expect(isOid(at(envelope, AT.contentType), OID.data)).toBe(true);
    expect(isOid(at(envelope, AT.cipher), OID.aes256Gcm)).toBe(true);
    expect(octetsOf(at(envelope, AT.nonce))).toHaveLength(12);
    expect(integerOf(at(envelope, AT.tagLength))).toBe(16);
    expect(octetsOf(at(envelope, AT.mac))).toHaveLength(16);
    expect(octetsOf(at(envelope, AT.ciphertext))).toHaveLength(TEXT.length);
  });

  test("two envelopes of one text under one key share neither nonce, wrapped key, ciphertext nor tag", () => {
    const key = ContentKey.generate();
    const [one, two] = [sealWithKey(TEXT, key, shellOf()), sealWithKey(TEXT, key, shellOf())];
    for (const path of [AT.nonce, AT.ciphertext, AT.mac, [...AT.recipient, 3]]) {
      expect(at(one, path).content.equals(at(two, path).content)).toBe(false);
    }
  });

  test("nothing of the text and nothing of the key stands in the envelope", () => {
    const key = ContentKey.generate();
    const envelope = sealWithKey(TEXT, key, shellOf());
    expect(envelope.includes("secret")).toBe(false);
    expect(key.lend((octets) => envelope.includes(octets))).toBe(false);
  });

  test("a wiped key seals nothing", () => {
    const key = ContentKey.generate();
    key.wipe();
    expect(faultOf(() => sealWithKey(TEXT, key, shellOf())).code).toBe("internal");
  });
});

describe.each(openers)("sealed to a certificate with %s", (name, opener) => {
  const file = name === "RSA" ? "rsa" : "bob";

  test.each(TEXTS)("%s comes back", (_why, plaintext) => {
    const envelope = sealToCertificate(plaintext, opener().certificate);
    expect(openWithPrivateKey(envelope, [opener()]).equals(plaintext)).toBe(true);
  });

  test("comes back by the right one of several openers", () => {
    const envelope = sealToCertificate(TEXT, opener().certificate);
    expect(openWithPrivateKey(envelope, [parties.carol.opener, parties.bob.opener, rsa]).equals(TEXT)).toBe(true);
  });

  test.each(TEXTS)("stock OpenSSL opens %s", (_why, plaintext) => {
    ssl.put("sealed.der", sealToCertificate(plaintext, opener().certificate));
    const args = ["cms", "-decrypt", "-binary", "-inform", "DER", "-in", "sealed.der"];
    expect(ssl.run([...args, "-recip", `${file}.pem`, "-inkey", `${file}.key`]).equals(plaintext)).toBe(true);
    expect(ssl.try([...args, "-recip", "carol.pem", "-inkey", "carol.key"]).status).not.toBe(0);
  });

  test("has one recipient, who is named by issuer and serial number, and no attributes", () => {
    const envelope = sealToCertificate(TEXT, opener().certificate);
    expect(at(envelope, AT.recipients).children).toHaveLength(1);
    expect(at(envelope, AT.data).children).toHaveLength(4);
    const { issuer, serial } = opener().certificate;
    expect(envelope.includes(Buffer.concat([issuer, serial]))).toBe(true);
  });
});

describe("sealed to a certificate", () => {
  test("RSA is OAEP with SHA-256 in both places, never PKCS#1 v1.5", () => {
    const algorithm = at(sealToCertificate(TEXT, rsa.certificate), [...AT.recipient, 2]).encoding;
    ssl.put("algorithm.der", algorithm);
    const listing = ssl.run(["asn1parse", "-inform", "DER", "-in", "algorithm.der"]).toString();
    expect(listing).toMatch(/rsaesOaep[^]*sha256[^]*mgf1[^]*sha256/u);
    expect(listing).not.toContain("rsaEncryption");
  });

  test("P-256 takes a fresh ephemeral key each time", () => {
    const points = Array.from(
      { length: 10 },
      () => at(sealToCertificate(TEXT, parties.bob.opener.certificate), [...AT.recipient, 1, 0, 1]).content,
    );
    expect(new Set(points.map((point) => point.toString("hex"))).size).toBe(10);
    expect(points.every((point) => point.length === 66)).toBe(true);
  });

  test("a certificate on another curve, which cannot be sealed to, is refused as a Fault and not by a crash", () => {
    ssl.run([
      "req",
      "-x509",
      "-nodes",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-384",
      "-keyout",
      "k",
      "-subj",
      "/CN=x",
      "-out",
      "p384.pem",
    ]);
    const certificate = parseCertificate(readFileSync(join(ssl.folder, "p384.pem")));
    expect(faultOf(() => sealToCertificate(TEXT, certificate)).retry).toBe("never");
  });
});
