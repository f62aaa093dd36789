/** The recipient's own signed receipt: requested inside the letter's signature, made after opening, verified by anyone (S10; RFC 2634 §2). */
import { createHash } from "node:crypto";
import type { Certificate, Trust } from "./certificate.ts";
import type { Attribute } from "./cms.ts";
import { Cursor, TAG, contextTag, encode, integer, integerOf, isOid, octetString, octetsOf, oid, parse, sequence } from "./der.ts";
import { Fault } from "./fault.ts";
import { OID, type DigestName } from "./oids.ts";
import { sign, verify, type Signer, type Verified } from "./sign.ts";

const CONTENT_ID_OCTETS = 32;
/** ReceiptsFrom: allReceipts (RFC 2634 §2.7). */
const ALL_RECEIPTS = encode(contextTag(0, "primitive"), Buffer.from([0]));

/** The signed attribute that asks for a receipt, to be sent to the broker. @param contentId 32 random octets that name this content */
export function receiptRequest(contentId: Buffer, brokerUrl: string): Attribute {
  const broker = sequence(encode(contextTag(6, "primitive"), Buffer.from(brokerUrl, "latin1"))); // GeneralNames: a URI
  return { type: OID.receiptRequest, values: [sequence(octetString(contentId), ALL_RECEIPTS, sequence(broker))] };
}

/** The content's name in a receipt request. @throws Fault `malformed` */
export function requestedContentId(attribute: Buffer): Buffer {
  const contentId = octetsOf(new Cursor(parse(attribute)).take(TAG.octetString));
  if (contentId.length !== CONTENT_ID_OCTETS) throw new Fault("malformed", "a content identifier of another length");
  return contentId;
}

/** A signature that asked for a receipt, after it was verified. */
export type Original = Pick<Verified, "signature" | "signedOctets" | "digest" | "attribute">;

/** Makes the receipt for a verified original. @throws Fault `malformed`: the original asked for none */
export function makeReceipt(original: Original, signer: Signer, time: Date): Buffer {
  const request = original.attribute(OID.receiptRequest);
  if (!request) throw new Fault("malformed", "the letter asks for no receipt");
  const content = sequence(integer(1), oid(OID.data), octetString(requestedContentId(request)), octetString(original.signature));
  const digest = createHash(original.digest).update(original.signedOctets).digest();
  const attributes: Attribute[] = [{ type: OID.msgSigDigest, values: [octetString(digest)] }];
  return sign(content, signer, { time, detached: false, contentType: OID.receipt, attributes }).der;
}

export interface SignedReceipt {
  readonly signer: Certificate;
  readonly contentId: Buffer;
  /** The signature value of the original: what a letter's commitment is made of. */
  readonly originatorSignature: Buffer;
  readonly originalDigest: Buffer;
  readonly signingTime: Date | undefined;
}

/** Verifies a signed receipt and its signer's chain. @throws Fault `signature-invalid` or `malformed` */
export function verifyReceipt(der: Buffer, trust: Omit<Trust, "purpose">): SignedReceipt {
  const verified = verify(der, { ...trust, purpose: OID.emailProtection });
  if (verified.contentType !== OID.receipt) throw new Fault("malformed", "not a receipt");
  const parts = new Cursor(parse(verified.content));
  const version = integerOf(parts.take(TAG.integer));
  const contentType = parts.take(TAG.oid);
  const contentId = octetsOf(parts.take(TAG.octetString));
  const originatorSignature = octetsOf(parts.take(TAG.octetString));
  parts.end();
  const digest = verified.attribute(OID.msgSigDigest);
  if (version !== 1 || !isOid(contentType, OID.data) || !digest) throw new Fault("malformed", "a receipt of another kind");
  return {
    signer: verified.signer,
    contentId,
    originatorSignature,
    originalDigest: octetsOf(parse(digest)),
    signingTime: verified.signingTime,
  };
}

/** Whether the receipt speaks of exactly this signature. */
export function refersTo(receipt: SignedReceipt, original: { signature: Buffer; signedOctets: Buffer; digest: DigestName }): boolean {
  const digest = createHash(original.digest).update(original.signedOctets).digest();
  return receipt.originatorSignature.equals(original.signature) && receipt.originalDigest.equals(digest);
}
