/** Envelopes that stock OpenSSL makes: opened where their algorithms are the accepted ones, refused where they are others. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createPrivateKey } from "node:crypto";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { parseCertificate } from "../../mime/certificate.ts";
import { ContentKey } from "../../mime/key.ts";
import { openEnclosed } from "../../mime/open-enclosed.ts";
import { openWithKey, openWithPrivateKey, type Opener } from "../../mime/open.ts";
import { faceOf, faultOf } from "./faults.ts";
import { openSsl, type OpenSsl } from "./openssl.ts";
import { holder, makeParties, rsaKey, type Parties } from "./parties.ts";

const TEXT = Buffer.from("Content-Type: text/plain\r\n\r\nThe secret text.\r\n");
const REFUSAL = JSON.stringify(["cannot-open", "content key or content refused", undefined, "never"]);
const AGREED = ["-keyopt", "ecdh_kdf_md:sha256", "-aes256-wrap"];
const OAEP = ["-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256", "-keyopt", "rsa_mgf1_md:sha256"];

let parties: Parties;
let rsa: Opener;
let ssl: OpenSsl;
beforeAll(async () => {
  [parties, ssl] = await Promise.all([makeParties(), openSsl("open")]);
  rsa = await holder(parties.root, "mailbox-encryption", [parties.bob.mailbox], { key: rsaKey() });
  ssl.put("bob.pem", parties.bob.opener.certificate.pem);
  ssl.put("carol.pem", parties.carol.opener.certificate.pem);
  ssl.put("rsa.pem", rsa.certificate.pem);
  ssl.put("letter", TEXT);
});

const sealedBy = (...options: readonly string[]): Buffer =>
  ssl.run(["cms", "-encrypt", "-binary", "-outform", "DER", "-in", "letter", ...options]);
const open = (envelope: Buffer): Buffer => openWithPrivateKey(envelope, [parties.bob.opener, rsa]);

describe("opened here", () => {
  test.each<[string, readonly string[]]>([
    ["AES-256-GCM by P-256 with SHA-256", ["-aes-256-gcm", "-recip", "bob.pem", ...AGREED]],
    ["the recipient named by key identifier, P-256", ["-aes-256-gcm", "-keyid", "-recip", "bob.pem", ...AGREED]],
    ["AES-256-GCM by RSA-OAEP with SHA-256", ["-aes-256-gcm", "-recip", "rsa.pem", ...OAEP]],
    ["the recipient named by key identifier, RSA", ["-aes-256-gcm", "-keyid", "-recip", "rsa.pem", ...OAEP]],
    ["streamed in BER of indefinite length", ["-aes-256-gcm", "-stream", "-recip", "rsa.pem", ...OAEP]],
  ])("%s", (_why, options) => {
    expect(open(sealedBy(...options)).equals(TEXT)).toBe(true);
  });
});

test.each([
  ["RSA-OAEP with SHA-256 (version 0)", ["-recip", "rsa.pem", ...OAEP]],
  ["P-256 with SHA-256 (version 2)", ["-recip", "bob.pem", ...AGREED]],
])("the enclosed form of another writer, without attributes, by %s", (_why, options) => {
  expect(openEnclosed(sealedBy("-aes-256-cbc", ...options), [parties.bob.opener, rsa]).equals(TEXT)).toBe(true);
});

describe("refused here, in the one way", () => {
  test.each<[string, readonly string[]]>([
    ["CBC, which is malleable (EFAIL)", ["-aes-256-cbc", "-recip", "rsa.pem", ...OAEP]],
    ["AES-128-GCM", ["-aes-128-gcm", "-recip", "rsa.pem", ...OAEP]],
    ["AES-192-GCM", ["-aes-192-gcm", "-recip", "rsa.pem", ...OAEP]],
    ["PKCS#1 v1.5 (Bleichenbacher)", ["-aes-256-gcm", "-recip", "rsa.pem"]],
    ["OAEP with SHA-1", ["-aes-256-gcm", "-recip", "rsa.pem", "-keyopt", "rsa_padding_mode:oaep"]],
    ["OAEP with SHA-512", ["-aes-256-gcm", "-recip", "rsa.pem", ...OAEP.map((option) => option.replace("sha256", "sha512"))]],
    ["OAEP with another hash for its mask", ["-aes-256-gcm", "-recip", "rsa.pem", ...OAEP.slice(0, 4), "-keyopt", "rsa_mgf1_md:sha1"]],
    ["OAEP with a label", ["-aes-256-gcm", "-recip", "rsa.pem", ...OAEP, "-keyopt", "rsa_oaep_label:aabb"]],
    ["P-256 with SHA-1, OpenSSL's default", ["-aes-256-gcm", "-recip", "bob.pem", "-aes256-wrap"]],
    ["P-256 with SHA-512", ["-aes-256-gcm", "-recip", "bob.pem", "-keyopt", "ecdh_kdf_md:sha512", "-aes256-wrap"]],
    ["P-256 with AES-128 key wrap", ["-aes-256-gcm", "-recip", "bob.pem", "-keyopt", "ecdh_kdf_md:sha256", "-aes128-wrap"]],
    ["two recipients", ["-aes-256-gcm", "-recip", "rsa.pem", ...OAEP, "-recip", "bob.pem", ...AGREED]],
    ["another's certificate", ["-aes-256-gcm", "-recip", "carol.pem", ...AGREED]],
  ])("%s", (_why, options) => {
    expect(faceOf(faultOf(() => open(sealedBy(...options))))).toBe(REFUSAL);
  });

  test("a shared key under an identifier that names no broker", () => {
    const key = ContentKey.generate();
    const envelope = sealedBy(
      "-aes-256-gcm",
      "-secretkey",
      key.lend((octets) => octets.toString("hex")),
      "-secretkeyid",
      "aabb",
    );
    expect(faceOf(faultOf(() => openWithKey(envelope, key)))).toBe(REFUSAL);
  });
});

describe("fixed vectors, made once by stock OpenSSL (test/vectors/README.md)", () => {
  const vector = (name: string): Buffer => readFileSync(join(import.meta.dirname, "..", "vectors", name));

  test.each(["p256", "rsa2048"])("%s opens to the letter", (name) => {
    const certificate = parseCertificate(vector(`${name}.pem`));
    const key = createPrivateKey(vector(`${name}.key.pem`));
    expect(openWithPrivateKey(vector(`${name}.envelope.der`), [{ key, certificate }]).equals(vector("letter.txt"))).toBe(true);
  });
});
