/** Chains of certificates that stock OpenSSL issued: RFC 5280 section 6 as far as a signer of mail can break it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { parseCertificate, verifyChain, type Certificate } from "../../mime/certificate.ts";
import { OID } from "../../mime/oids.ts";
import { faultOf } from "./faults.ts";
import { openSsl, type OpenSsl } from "./openssl.ts";
import { makeParties } from "./parties.ts";

let ssl: OpenSsl;
beforeAll(async () => {
  ssl = await openSsl("chain");
});

/** A certificate issued by stock OpenSSL, valid for the next nine days. */
function issued(name: string, issuer: string | undefined, extensions: readonly string[], digest = "-sha256"): Certificate {
  ssl.run([
    "req",
    "-new",
    "-nodes",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-keyout",
    `${name}.key`,
    "-out",
    `${name}.csr`,
    "-subj",
    `/CN=${name}`,
  ]);
  const by = issuer === undefined ? ["-signkey", `${name}.key`] : ["-CA", `${issuer}.pem`, "-CAkey", `${issuer}.key`, "-CAcreateserial"];
  const file = ssl.put(`${name}.ext`, extensions.join("\n"));
  ssl.run(["x509", "-req", "-in", `${name}.csr`, ...by, "-days", "9", digest, "-extfile", file, "-out", `${name}.pem`]);
  return parseCertificate(readFileSync(join(ssl.folder, `${name}.pem`)));
}

describe("verifyChain over intermediates of stock OpenSSL", () => {
  const CA = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"];
  const LEAF = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature", "extendedKeyUsage=emailProtection"];
  const at = new Date(Date.now() + 3_600_000); // they are valid from now on
  let root: Certificate;
  let middle: Certificate;
  let stranger: Certificate;
  beforeAll(async () => {
    stranger = (await makeParties()).root.certificate;
    root = issued("root", undefined, CA);
    middle = issued("middle", "root", CA);
  });
  const refusal = (leaf: Certificate, intermediates: readonly Certificate[]): string =>
    faultOf(() => verifyChain(leaf, { roots: [root], intermediates, at, purpose: OID.emailProtection })).code;

  test("accepts a chain over one and over two of them, in any order, with strangers among them", () => {
    const trust = { roots: [root], at, purpose: OID.emailProtection };
    const leaf = issued("leaf-1", "middle", LEAF);
    verifyChain(leaf, { ...trust, intermediates: [leaf, stranger, middle] });
    const second = issued("second", "middle", CA);
    verifyChain(issued("leaf-2", "second", LEAF), { ...trust, intermediates: [second, middle] });
  });

  test("refuses a chain whose intermediate is missing", () => {
    expect(refusal(issued("leaf-3", "middle", LEAF), [])).toBe("signature-invalid");
  });

  test.each<[string, readonly string[]]>([
    ["is no authority", ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,keyCertSign"]],
    ["may not sign certificates", ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,digitalSignature"]],
    ["does not say what it is", ["keyUsage=critical,keyCertSign"]],
  ])("refuses an issuer that %s", (why, extensions) => {
    const name = `not-ca-${why.replaceAll(" ", "-")}`;
    const issuer = issued(name, "root", extensions);
    expect(refusal(issued(`leaf-${name}`, name, LEAF), [issuer])).toBe("signature-invalid");
  });

  test("refuses a chain longer than four, and one that goes round in a circle", () => {
    const chain = [middle];
    for (const [name, issuer] of [
      ["m2", "middle"],
      ["m3", "m2"],
      ["m4", "m3"],
      ["m5", "m4"],
    ] as const)
      chain.push(issued(name, issuer, CA));
    expect(refusal(issued("leaf-long", "m5", LEAF), chain)).toBe("signature-invalid");
    const alone = issued("alone", undefined, LEAF);
    expect(refusal(alone, [alone])).toBe("signature-invalid");
  });

  test("refuses an authority below one that may have none below it (pathLenConstraint, RFC 5280 §6.1.4)", () => {
    const last = issued("last", "root", ["basicConstraints=critical,CA:TRUE,pathlen:0", "keyUsage=critical,keyCertSign"]);
    const below = issued("below", "last", CA);
    expect(refusal(issued("leaf-4", "below", LEAF), [below, last])).toBe("signature-invalid");
  });

  test("refuses a critical extension that nobody here understands (RFC 5280 §4.2)", () => {
    expect(refusal(issued("leaf-5", "root", [...LEAF, "1.2.3.4=critical,DER:0500"]), [])).toBe("signature-invalid");
  });

  test("refuses an authority that is limited to other mailboxes (critical nameConstraints, RFC 5280 §4.2.1.10)", () => {
    const limited = issued("limited", "root", [...CA, "nameConstraints=critical,permitted;email:b.example"]);
    expect(refusal(issued("leaf-6", "limited", [...LEAF, "subjectAltName=email:alice@a.example"]), [limited])).toBe("signature-invalid");
  });

  test("refuses a certificate that was signed over SHA-1", () => {
    expect(refusal(issued("leaf-7", "root", LEAF, "-sha1"), [])).toBe("signature-invalid");
  });
});
