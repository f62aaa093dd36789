/** Certification requests: the key of a mailbox is proven, and nothing else in a request counts. */
import { createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { certificationRequest, newKey, requestedKey } from "../../mime/request.ts";
import { faultOf, outcomeOf } from "./faults.ts";
import { openSsl, type OpenSsl } from "./openssl.ts";
import { bitFlips } from "./tree.ts";

let ssl: OpenSsl;
beforeAll(async () => {
  ssl = await openSsl("request");
});

const requestBy = (key: readonly string[], ...options: readonly string[]): Buffer => {
  ssl.run(["req", "-new", "-nodes", "-newkey", ...key, "-keyout", "k", "-subj", "/CN=x", "-outform", "DER", "-out", "r", ...options]);
  return readFileSync(join(ssl.folder, "r"));
};
const P256 = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

describe("certification requests", () => {
  test("ours give our key back, and stock OpenSSL verifies them", () => {
    const key = newKey();
    const der = certificationRequest(key, "Alice, größer");
    expect(requestedKey(der).equals(createPublicKey(key))).toBe(true);
    ssl.put("ours.der", der);
    expect(ssl.try(["req", "-verify", "-noout", "-inform", "DER", "-in", "ours.der"]).status).toBe(0);
  });

  test("those of stock OpenSSL are read", () => {
    expect(requestedKey(requestBy(P256)).asymmetricKeyDetails?.namedCurve).toBe("prime256v1");
  });

  test.each<[string, readonly string[], readonly string[]]>([
    ["RSA", ["rsa:2048"], []],
    ["P-384", ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"], []],
    ["secp256k1", ["ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"], []],
    ["Ed25519", ["ed25519"], []],
    ["P-256 signed over SHA-1", P256, ["-sha1"]],
    ["P-256 signed over SHA-512", P256, ["-sha512"]],
  ])("a request for %s is refused", (_why, key, options) => {
    expect(faultOf(() => requestedKey(requestBy(key, ...options))).code).toBe("malformed");
  });

  test("a request for another's key is refused: the proof of possession fails", () => {
    const [own, others] = [certificationRequest(newKey(), "x"), newKey()];
    const spki = createPublicKey(others).export({ type: "spki", format: "der" });
    const forged = Buffer.from(own);
    spki.copy(forged, own.indexOf(spki.subarray(0, 26)));
    expect(faultOf(() => requestedKey(forged)).code).toBe("malformed");
  });

  test("every truncation and every flipped bit is refused, by one word", () => {
    const der = certificationRequest(newKey(), "x");
    const outcomes = new Set<string>();
    for (let length = 0; length < der.length; length++) outcomes.add(outcomeOf(() => requestedKey(der.subarray(0, length))));
    for (const { mutant, offset } of bitFlips(der)) {
      const unusedBits = offset === der.length - at(der) - 1; // the octet in front of the signature, which says nothing
      if (!unusedBits) outcomes.add(outcomeOf(() => requestedKey(mutant)));
    }
    expect([...outcomes]).toEqual(["malformed"]);
  });
});

/** Octets of the ECDSA signature at the end. */
function at(der: Buffer): number {
  const start = der.lastIndexOf(Buffer.from([0x00, 0x30]));
  return der.length - start - 1;
}
