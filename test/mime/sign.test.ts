/** SignedData: ours verifies by stock OpenSSL, OpenSSL's by ours, and everything that could mean two things is refused. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { createRoot } from "../../broker/authority.ts";
import type { Trust } from "../../mime/certificate.ts";
import { encode, octetString } from "../../mime/der.ts";
import { OID } from "../../mime/oids.ts";
import { sign, verify, type Signer } from "../../mime/sign.ts";
import { faultOf, outcomeOf } from "./faults.ts";
import { openSsl, type OpenSsl } from "./openssl.ts";
import { FROM, NOW, UNTIL, holder, makeParties, pem, rsaKey, type Parties } from "./parties.ts";
import { at, bitFlips, edit } from "./tree.ts";

const CONTENT = Buffer.from("Content-Type: text/plain\r\n\r\nI owe you 100.\r\n");
const OTHER = Buffer.from("Content-Type: text/plain\r\n\r\nI owe you 900.\r\n");

let parties: Parties;
let alice: Signer;
let rsa: Signer;
let trust: Trust;
let ssl: OpenSsl;
beforeAll(async () => {
  [parties, ssl] = await Promise.all([makeParties(), openSsl("sign")]);
  alice = parties.alice.signer;
  rsa = await holder(parties.root, "mailbox-signing", [parties.alice.mailbox], { key: rsaKey() });
  trust = { roots: [parties.root.certificate], at: NOW, purpose: OID.emailProtection };
  for (const [name, { key, certificate }] of [
    ["alice", alice],
    ["bob", parties.bob.signer],
    ["rsa", rsa],
  ] as const) {
    ssl.put(`${name}.key`, pem(key));
    ssl.put(`${name}.pem`, certificate.pem);
  }
  ssl.put("ca.pem", parties.root.certificate.pem);
  ssl.put("content", CONTENT);
  ssl.put("other", OTHER);
});

/** A SignedData by stock OpenSSL over CONTENT. */
const signedBy = (signers: readonly string[], ...options: readonly string[]): Buffer =>
  ssl.run(
    ["cms", "-sign", "-binary", "-outform", "DER", "-in", "content", ...options].concat(
      signers.flatMap((name) => ["-signer", `${name}.pem`, "-inkey", `${name}.key`]),
    ),
  );

describe("what we sign", () => {
  const signers = [["P-256", () => alice] as const, ["RSA", () => rsa] as const];

  test.each(signers)("verifies attached, with %s", (_name, signer) => {
    const { der, signature } = sign(CONTENT, signer(), { time: NOW, detached: false });
    const verified = verify(der, trust);
    expect(verified.content.equals(CONTENT)).toBe(true);
    expect(verified.signature.equals(signature)).toBe(true);
    expect(verified).toMatchObject({ contentType: OID.data, signer: signer().certificate, signingTime: NOW });
  });

  test.each(signers)("verifies detached, with %s, and does not hold the content", (_name, signer) => {
    const { der } = sign(CONTENT, signer(), { time: NOW, detached: true });
    expect(der.includes("I owe you")).toBe(false);
    expect(verify(der, trust, CONTENT).content.equals(CONTENT)).toBe(true);
  });

  test.each(signers)("verifies by stock OpenSSL with its certificate bound (-cades), attached and detached, with %s", (_name, signer) => {
    ssl.put("ours.der", sign(CONTENT, signer(), { time: NOW, detached: false }).der);
    expect(ssl.run(["cms", "-verify", "-inform", "DER", "-in", "ours.der", "-CAfile", "ca.pem", "-cades", "-binary"]).equals(CONTENT)).toBe(
      true,
    );
    ssl.put("ours.p7s", sign(CONTENT, signer(), { time: NOW, detached: true }).der);
    const verifying = ["cms", "-verify", "-inform", "DER", "-in", "ours.p7s", "-CAfile", "ca.pem", "-cades", "-binary", "-content"];
    expect(ssl.try([...verifying, "content"]).status).toBe(0);
    expect(ssl.try([...verifying, "other"]).status).not.toBe(0);
  });

  test("carries another content type where one is wanted", () => {
    const contentType = "1.2.840.113549.1.9.16.1.1";
    expect(verify(sign(CONTENT, alice, { time: NOW, detached: false, contentType }).der, trust).contentType).toBe(contentType);
  });

  test("empty content, and content of every octet, comes back", () => {
    for (const content of [Buffer.alloc(0), Buffer.from(Array.from({ length: 256 }, (_, octet) => octet)), Buffer.alloc(300_000, 1)]) {
      expect(verify(sign(content, alice, { time: NOW, detached: false }).der, trust).content.equals(content)).toBe(true);
    }
  });
});

describe("what stock OpenSSL signs", () => {
  test.each<[string, string, readonly string[]]>([
    ["P-256 and SHA-256", "alice", ["-nodetach"]],
    ["P-256, the signer named by key identifier", "alice", ["-nodetach", "-keyid"]],
    ["P-256 and SHA-384", "alice", ["-nodetach", "-md", "sha384"]],
    ["P-256 and SHA-512", "alice", ["-nodetach", "-md", "sha512"]],
    ["P-256 with its certificate bound", "alice", ["-nodetach", "-cades"]],
    ["P-256 in streamed BER of indefinite length", "alice", ["-nodetach", "-stream"]],
    ["RSA and SHA-256", "rsa", ["-nodetach"]],
    ["RSA, the signer named by key identifier", "rsa", ["-nodetach", "-keyid"]],
    ["RSA and SHA-384", "rsa", ["-nodetach", "-md", "sha384"]],
  ])("verifies here: %s", (_why, name, options) => {
    const verified = verify(signedBy([name], ...options), trust);
    expect(verified.content.equals(CONTENT)).toBe(true);
    expect(verified.signer).toBe(name === "rsa" ? rsa.certificate : alice.certificate);
    expect(verified.signingTime).toBeInstanceOf(Date);
  });

  test("verifies here detached", () => {
    expect(verify(signedBy(["alice"]), trust, CONTENT).signer).toBe(alice.certificate);
  });

  test.each<[string, readonly string[], readonly string[], string]>([
    ["without signed attributes: its signature could be taken for one over attributes", ["alice"], ["-noattr"], "attributes are missing"],
    ["by two signers: which of them wrote it?", ["alice", "bob"], [], "exactly one signer"],
    ["without the signer's certificate", ["alice"], ["-nocerts"], "certificate is missing"],
    ["over SHA-1", ["alice"], ["-md", "sha1"], "not accepted"],
    ["over SHA-224", ["alice"], ["-md", "sha224"], "not accepted"],
    ["over MD5", ["rsa"], ["-md", "md5"], "not accepted"],
    ["by RSA-PSS, which not all tools of the field verify", ["rsa"], ["-keyopt", "rsa_padding_mode:pss"], "not accepted"],
  ])("is refused %s", (_why, names, options, message) => {
    const [first = "", ...others] = names;
    const der = others.length === 0 ? pssAware(first, options) : signedBy(names, "-nodetach", ...options);
    expect(faultOf(() => verify(der, trust))).toMatchObject({ code: "signature-invalid", message: expect.stringContaining(message) });
  });

  /** OpenSSL wants -keyopt behind the signer it is for. */
  const pssAware = (name: string, options: readonly string[]): Buffer =>
    ssl.run([
      "cms",
      "-sign",
      "-binary",
      "-nodetach",
      "-outform",
      "DER",
      "-in",
      "content",
      "-signer",
      `${name}.pem`,
      "-inkey",
      `${name}.key`,
      ...options,
    ]);
});

describe("verify refuses", () => {
  const detached = (): Buffer => sign(CONTENT, alice, { time: NOW, detached: true }).der;
  const attached = (): Buffer => sign(CONTENT, alice, { time: NOW, detached: false }).der;

  test("other content, attached or detached", () => {
    expect(faultOf(() => verify(detached(), trust, OTHER)).code).toBe("signature-invalid");
    const forged = attached();
    OTHER.copy(forged, forged.indexOf(CONTENT));
    expect(faultOf(() => verify(forged, trust)).code).toBe("signature-invalid");
  });

  test("content in two places or in none (Johnny: the shown and the signed content differ)", () => {
    expect(faultOf(() => verify(attached(), trust, CONTENT)).code).toBe("signature-invalid");
    expect(faultOf(() => verify(attached(), trust, OTHER)).code).toBe("signature-invalid");
    expect(faultOf(() => verify(detached(), trust)).code).toBe("signature-invalid");
  });

  test.each<[string, Partial<Trust>]>([
    ["a signer whose certificate had expired", { at: new Date(UNTIL.getTime() + 1_000) }],
    ["a signer for another purpose", { purpose: OID.serverAuth }],
    ["nobody trusted", { roots: [] }],
  ])("%s", (_why, changes) => {
    expect(faultOf(() => verify(detached(), { ...trust, ...changes }, CONTENT)).code).toBe("signature-invalid");
  });

  test("a signer under a foreign root, though it brings that root along", async () => {
    const root = await createRoot("Test root", FROM, UNTIL);
    const mallory = await holder(root, "mailbox-signing", [parties.alice.mailbox]);
    ssl.put("mallory.key", pem(mallory.key));
    ssl.put("mallory.pem", mallory.certificate.pem);
    ssl.put("chain.pem", root.certificate.pem);
    expect(faultOf(() => verify(signedBy(["mallory"], "-nodetach", "-certfile", "chain.pem"), trust)).message).toContain("trusted root");
  });

  test("a key that is for encryption only, though a mailbox's (RFC 8550 §4.4.2)", async () => {
    const encryption = await holder(parties.root, "mailbox-encryption", [parties.alice.mailbox]);
    const { der } = sign(CONTENT, encryption, { time: NOW, detached: false });
    expect(faultOf(() => verify(der, trust)).message).toContain("not meant for signing");
  });

  test("more certificates than a chain has: each could be made to cost a verification", () => {
    const certificates = [1, 0, 3];
    const many = (count: number): Buffer =>
      edit(attached(), certificates, ({ encoding, children }) => {
        const inside = Buffer.concat(Array<Buffer>(count).fill(children?.[0]?.encoding ?? Buffer.alloc(0)));
        return [encode(encoding[0] ?? 0, inside)];
      });
    expect(verify(many(10), trust).content).toEqual(CONTENT);
    expect(faultOf(() => verify(many(11), trust)).code).toBe("malformed");
  });

  test("no signer at all", () => {
    ssl.run(["crl2pkcs7", "-nocrl", "-certfile", "alice.pem", "-outform", "DER", "-out", "certs.p7"]);
    const certificates = readFileSync(join(ssl.folder, "certs.p7"));
    expect(faultOf(() => verify(certificates, trust, CONTENT)).code).toBe("signature-invalid");
  });

  test("a signature that is bound to another certificate with the same key (RFC 5035)", async () => {
    const twin = await holder(parties.root, "mailbox-signing", [parties.bob.mailbox], { key: alice.key });
    const own = sign(CONTENT, alice, { time: NOW, detached: false }).der;
    const twins = sign(CONTENT, { key: alice.key, certificate: twin.certificate }, { time: NOW, detached: false }).der;
    const sid = [1, 0, 4, 0, 1]; // ContentInfo, SignedData, signerInfos, the first, its sid
    const certificates = [1, 0, 3];
    const moved = edit(
      edit(own, sid, () => [at(twins, sid).encoding]),
      certificates,
      () => [at(twins, certificates).encoding],
    );
    expect(faultOf(() => verify(moved, trust)).message).toContain("another certificate");
  });

  test.each<[string, (der: Buffer) => Buffer]>([
    ["an octet behind the end", (der) => Buffer.concat([der, Buffer.from([0])])],
    ["nothing", () => Buffer.alloc(0)],
    ["no SignedData", () => octetString(CONTENT)],
    [
      "another ContentInfo",
      (der) => edit(der, [0], ({ encoding }) => [Buffer.from(encoding.map((octet, i) => (i === encoding.length - 1 ? 3 : octet)))]),
    ],
    ["a certificate that cannot be read", (der) => edit(der, [1, 0, 3, 0, 0, 5], () => [octetString(CONTENT)])],
  ])("what cannot be read: %s", (_why, change) => {
    expect(faultOf(() => verify(change(attached()), trust)).code).toBe("malformed");
  });

  test("what was cut off", () => {
    const der = attached();
    for (let length = 0; length < der.length; length += length < 16 ? 1 : 5) {
      expect(outcomeOf(() => verify(der.subarray(0, length), trust))).toBe("malformed");
    }
  });

  test("a flipped bit anywhere, unless content, type, signer and signature are the ones that were signed", () => {
    const der = attached();
    const { content, contentType, signer, signature, signingTime } = verify(der, trust);
    const own = { content, contentType, signer: signer.fingerprint, signature, signingTime };
    const outcomes = new Set<string>();
    for (const { mutant } of bitFlips(der, 57)) {
      const outcome = outcomeOf(() => {
        const found = verify(mutant, trust);
        expect({ ...found, signer: found.signer.fingerprint }).toMatchObject(own);
      });
      outcomes.add(outcome);
    }
    expect([...outcomes].sort()).toEqual(["malformed", "ok", "signature-invalid"]); // ok: versions and the list of digests, which nobody signs
  });
});
