/** Certificates: what they say, which keys are accepted, and when they chain to a root that is trusted. */
import { createPublicKey } from "node:crypto";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { createRoot, issue } from "../../broker/authority.ts";
import { parseMailbox } from "../../mime/address.ts";
import { parseCertificate, verifyChain } from "../../mime/certificate.ts";
import { OID } from "../../mime/oids.ts";
import { newKey } from "../../mime/request.ts";
import type { Signer } from "../../mime/sign.ts";
import { faultOf } from "./faults.ts";
import { openSsl, type OpenSsl } from "./openssl.ts";
import { BROKER, FROM, NOW, UNTIL, holder, makeParties, pem, rsaKey, type Parties } from "./parties.ts";

let parties: Parties;
let ssl: OpenSsl;
beforeAll(async () => {
  [parties, ssl] = await Promise.all([makeParties(), openSsl("certificate")]);
});

/** A self-signed certificate by stock OpenSSL. */
function selfSigned(key: readonly string[], extensions: readonly string[] = []): Buffer {
  const more = extensions.flatMap((extension) => ["-addext", extension]);
  return ssl.run([
    "req",
    "-x509",
    "-nodes",
    "-newkey",
    ...key,
    "-keyout",
    "self.key",
    "-subj",
    "/CN=self",
    "-days",
    "9",
    "-outform",
    "DER",
    ...more,
  ]);
}

describe("parseCertificate", () => {
  test("reads what a mailbox certificate says", async () => {
    const { certificate } = await holder(parties.root, "mailbox-signing", [parseMailbox("Alice@A.example"), parseMailbox("al@a.example")]);
    expect(certificate).toMatchObject({
      commonName: "Alice@a.example",
      mailboxes: ["alice@a.example", "al@a.example"],
      uris: [],
      purposes: [OID.emailProtection],
      notBefore: FROM,
      notAfter: UNTIL,
    });
    expect(certificate.fingerprint).toMatch(/^[0-9a-f]{64}$/u);
    expect(certificate.issuer.equals(certificate.serial)).toBe(false);
    expect(certificate.subjectKeyId).toHaveLength(20);
    expect(certificate.publicKey.asymmetricKeyType).toBe("ec");
  });

  test("reads a mailbox outside ASCII that our own authority wrote (RFC 9598)", async () => {
    const { certificate } = await holder(parties.root, "mailbox-signing", [parseMailbox("bÖb@b.例え.example")]);
    expect(certificate.mailboxes).toEqual(["böb@b.xn--r8jz45g.example"]);
  });

  test("reads SmtpUTF8Mailbox as stock OpenSSL writes it, and no mailbox from a foreign otherName", () => {
    const smtpUtf8 = selfSigned(["rsa:2048"], [`subjectAltName=otherName:${OID.smtpUtf8Mailbox};UTF8:Bob@b.example`]);
    expect(parseCertificate(smtpUtf8).mailboxes).toEqual(["bob@b.example"]);
    const upn = selfSigned(["rsa:2048"], ["subjectAltName=otherName:1.3.6.1.4.1.311.20.2.3;UTF8:alice@a.example"]);
    expect(parseCertificate(upn).mailboxes).toEqual([]);
  });

  test("an address in the subject is no mailbox of the certificate", () => {
    const der = ssl.run([
      "req",
      "-x509",
      "-nodes",
      "-newkey",
      "rsa:2048",
      "-keyout",
      "k",
      "-subj",
      "/CN=alice@a.example/emailAddress=alice@a.example",
      "-outform",
      "DER",
    ]);
    expect(parseCertificate(der).mailboxes).toEqual([]);
  });

  test("the broker's certificate names its address; a mailbox cannot by a host name", () => {
    expect(parties.broker.certificate.uris).toEqual([BROKER]);
    expect(parseCertificate(selfSigned(["rsa:2048"], ["subjectAltName=DNS:broker.example,URI:https://other.example"])).uris).toEqual([
      "https://other.example",
    ]);
  });

  test("reads DER and PEM alike, and the same certificate only once", () => {
    const { certificate } = parties.alice.signer;
    expect(parseCertificate(certificate.pem)).toBe(certificate);
    expect(parseCertificate(Buffer.from(certificate.der))).toBe(certificate);
  });

  test.each<[string, readonly string[]]>([
    ["RSA of 2048 bits", ["rsa:2048"]],
    ["P-384", ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"]],
    ["P-521", ["ec", "-pkeyopt", "ec_paramgen_curve:P-521"]],
  ])("accepts a key of %s", (_why, key) => {
    expect(parseCertificate(selfSigned(key)).commonName).toBe("self");
  });

  test.each<[string, readonly string[]]>([
    ["RSA of 1024 bits", ["rsa:1024"]],
    ["RSA of 2047 bits", ["rsa:2047"]],
    ["RSA of 512 bits", ["rsa:512"]],
    ["RSA with an exponent of 33 bits", ["rsa:2048", "-pkeyopt", "rsa_keygen_pubexp:4294967297"]],
    ["secp256k1", ["ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"]],
    ["brainpoolP256r1", ["ec", "-pkeyopt", "ec_paramgen_curve:brainpoolP256r1"]],
    ["P-224", ["ec", "-pkeyopt", "ec_paramgen_curve:P-224"]],
    ["Ed25519", ["ed25519"]],
    ["DSA", ["dsa:dsa.pem"]],
  ])("refuses a key of %s", (why, key) => {
    if (why === "DSA") ssl.run(["dsaparam", "-out", "dsa.pem", "1024"]);
    expect(faultOf(() => parseCertificate(selfSigned(key))).code).toBe("malformed");
  });

  test.each<[string, (der: Buffer) => Buffer | string]>([
    ["nothing", () => Buffer.alloc(0)],
    ["no certificate", () => "hello"],
    ["a PEM of something else", () => pem(newKey())],
    ["half of one", (der) => der.subarray(0, der.length >> 1)],
    ["one of a megabyte", (der) => Buffer.concat([der.subarray(0, 2), Buffer.alloc(1 << 20)])],
  ])("refuses %s", (_why, change) => {
    expect(faultOf(() => parseCertificate(change(parties.alice.signer.certificate.der))).code).toBe("malformed");
  });

  test("refuses an extension that stands twice (RFC 5280 §4.2): readers would choose differently", () => {
    const twice = "subjectAltName=email:alice@a.example";
    ssl.put("twice.cnf", `[req]\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\n[ext]\n${twice}\n2.5.29.17=DER:30080a06626f62\n`);
    const said = ssl.try([
      "req",
      "-x509",
      "-nodes",
      "-newkey",
      "rsa:2048",
      "-keyout",
      "k",
      "-subj",
      "/CN=x",
      "-config",
      "twice.cnf",
      "-outform",
      "DER",
    ]);
    expect(said.status).toBe(0);
    expect(faultOf(() => parseCertificate(said.stdout)).code).toBe("malformed");
  });
});

describe("verifyChain", () => {
  const trustOf = (root: Signer, changes: { at?: Date; purpose?: string } = {}) => ({
    roots: [root.certificate],
    at: NOW,
    purpose: OID.emailProtection,
    ...changes,
  });

  test("accepts a certificate that was issued by a root, from its first second to its last", () => {
    const { certificate } = parties.alice.signer;
    for (const at of [NOW, certificate.notBefore, certificate.notAfter]) verifyChain(certificate, trustOf(parties.root, { at }));
  });

  test.each<[string, { at?: Date; purpose?: string }]>([
    ["expired", { at: new Date(UNTIL.getTime() + 1_000) }],
    ["meant for mail and not for a TLS client", { purpose: OID.clientAuth }],
  ])("refuses one that is %s", (_why, changes) => {
    expect(faultOf(() => verifyChain(parties.alice.signer.certificate, trustOf(parties.root, changes))).code).toBe("signature-invalid");
  });

  test("says of one that is not yet valid that the clock is wrong, for then it can hold later", () => {
    const early = trustOf(parties.root, { at: new Date(FROM.getTime() - 1_000) });
    expect(faultOf(() => verifyChain(parties.alice.signer.certificate, early)).code).toBe("unavailable");
    expect(faultOf(() => verifyChain(parties.alice.signer.certificate, { ...early, roots: [] })).code).toBe("signature-invalid");
  });

  test("refuses a channel certificate for mail, and the root itself, which names no purpose", async () => {
    const channel = await holder(parties.root, "channel", []);
    expect(faultOf(() => verifyChain(channel.certificate, trustOf(parties.root))).code).toBe("signature-invalid");
    expect(faultOf(() => verifyChain(parties.root.certificate, trustOf(parties.root))).code).toBe("signature-invalid");
  });

  test("refuses a foreign root, even one of the same name", async () => {
    const foreign = await createRoot("Test root", FROM, UNTIL);
    expect(faultOf(() => verifyChain(parties.alice.signer.certificate, trustOf(foreign))).code).toBe("signature-invalid");
    expect(faultOf(() => verifyChain(parties.alice.signer.certificate, { ...trustOf(foreign), roots: [] })).code).toBe("signature-invalid");
  });

  test("refuses one that has expired, or is not yet valid, under a root that lives", async () => {
    const [old, young] = await Promise.all([
      holder(parties.root, "mailbox-signing", [], { notAfter: new Date("2026-02-28T23:59:59Z") }),
      holder(parties.root, "mailbox-signing", [], { notBefore: new Date("2026-03-02T00:00:00Z") }),
    ]);
    expect(faultOf(() => verifyChain(old.certificate, trustOf(parties.root))).message).toContain("is not valid at 2026-03-01");
    expect(faultOf(() => verifyChain(young.certificate, trustOf(parties.root)))).toMatchObject({
      code: "unavailable",
      message: expect.stringContaining("the clock says 2026-03-01"),
    });
  });

  test("refuses a certificate that lives when its root has expired", async () => {
    const root = await createRoot("Short root", FROM, new Date("2026-01-01T00:00:00Z"));
    const { certificate } = await holder(root, "mailbox-signing", []);
    expect(faultOf(() => verifyChain(certificate, trustOf(root))).message).toContain("root");
  });

  test("refuses a chain over a mailbox certificate: who may write may not vouch for others", async () => {
    const forged = await issue(parties.alice.signer, {
      profile: "mailbox-signing",
      publicKey: createPublicKey(newKey()),
      commonName: "mallory",
      mailboxes: [parties.bob.mailbox],
      notBefore: FROM,
      notAfter: UNTIL,
    });
    const trust = { ...trustOf(parties.root), intermediates: [parties.alice.signer.certificate, forged] };
    expect(faultOf(() => verifyChain(forged, trust)).code).toBe("signature-invalid");
    expect(faultOf(() => verifyChain(forged, { ...trust, roots: [parties.alice.signer.certificate] })).code).toBe("signature-invalid");
  });

  test("RSA keys chain as well", async () => {
    const { certificate } = await holder(parties.root, "mailbox-signing", [], { key: rsaKey() });
    verifyChain(certificate, trustOf(parties.root));
  });
});
