/** Certification requests: how a gateway asks for a certificate without its private key ever leaving it (RFC 2986). */
import { createPublicKey, generateKeyPairSync, sign, verify, type KeyObject } from "node:crypto";
import { Cursor, TAG, contextTag, encode, integer, isOid, oid, parse, sequence, setOf, utf8String } from "./der.ts";
import { Fault } from "./fault.ts";
import { OID } from "./oids.ts";

/** A fresh P-256 key pair: the one algorithm that every tool of the field verifies. */
export function newKey(): KeyObject {
  return generateKeyPairSync("ec", { namedCurve: "prime256v1" }).privateKey;
}

/** A request for this key, signed by it. @param commonName is a label only; the authority decides what the certificate says */
export function certificationRequest(key: KeyObject, commonName: string): Buffer {
  const name = sequence(setOf(sequence(oid(OID.commonName), utf8String(commonName))));
  const spki = createPublicKey(key).export({ type: "spki", format: "der" });
  const info = sequence(integer(0), name, spki, encode(contextTag(0, "constructed")));
  const signature = sign("sha256", info, key);
  return sequence(info, sequence(oid(OID.ecdsaWithSha256)), encode(TAG.bitString, Buffer.from([0]), signature));
}

/**
 * The public key of a request, after its proof of possession was verified.
 * @throws Fault `malformed`: unreadable, not P-256, or not signed by its own key with SHA-256
 */
export function requestedKey(der: Buffer): KeyObject {
  try {
    const request = new Cursor(parse(der));
    const info = request.take(TAG.sequence);
    const algorithm = request.take(TAG.sequence);
    const signature = request.take(TAG.bitString).content.subarray(1);
    request.end();
    const parts = new Cursor(info);
    parts.take(TAG.integer);
    parts.take(TAG.sequence);
    const key = createPublicKey({ key: parts.take(TAG.sequence).encoding, format: "der", type: "spki" });
    const accepted =
      key.asymmetricKeyDetails?.namedCurve === "prime256v1" && isOid(new Cursor(algorithm).take(TAG.oid), OID.ecdsaWithSha256);
    if (!accepted || !verify("sha256", info.encoding, key, signature))
      throw new Fault("malformed", "the request is not signed by its P-256 key");
    return key;
  } catch (cause) {
    throw new Fault("malformed", "not a certification request for a P-256 key", { cause });
  }
}
