/** SignedData: sign and verify (RFC 8551 §3.5, RFC 5652 §5); one signer, signed attributes always, SHA-256 or stronger. */
import { createHash, hash as hashOf, sign as signOctets, timingSafeEqual, verify as verifyOctets, type KeyObject } from "node:crypto";
import { parseCertificate, verifyChain, type Certificate, type Trust } from "./certificate.ts";
import { readSignedData, writeSignedData, type Attribute, type SignerParts } from "./cms.ts";
import { Cursor, TAG, encode, isOid, octetString, octetsOf, oid, parse, sequence, setOf } from "./der.ts";
import { Fault } from "./fault.ts";
import { DIGESTS, OID, type DigestName } from "./oids.ts";
import { slices, whole, type Octets } from "./pieces.ts";

export interface Signer {
  readonly key: KeyObject;
  readonly certificate: Certificate;
}

export interface Verified {
  readonly content: Buffer;
  readonly contentType: string;
  readonly signer: Certificate;
  /** The SignerInfo's signature value: what the commitment of a letter is made of (docs/protocol.md, section 4). */
  readonly signature: Buffer;
  /** As the signer claims; undefined where it does not. */
  readonly signingTime: Date | undefined;
  /** The octets that were signed, and the digest they were signed with: what a receipt refers to (RFC 2634 §2.6). */
  readonly signedOctets: Buffer;
  readonly digest: DigestName;
  /** The DER of a signed attribute's only value. */
  attribute(type: string): Buffer | undefined;
}

/** A signer's and those above it; each that is tried costs a verification, and anybody can send them. */
const MOST_CERTIFICATES = 10;

function digestOf(name: DigestName, octets: Octets): Buffer {
  if (Buffer.isBuffer(octets)) return hashOf(name, octets, "buffer");
  const hash = createHash(name);
  for (const slice of slices(octets)) hash.update(slice);
  return hash.digest();
}

/**
 * Signs the content with ECDSA or RSA and SHA-256.
 * @param options.detached leaves the content out, as multipart/signed needs it
 * @param options.contentType dotted OID; id-data unless named
 * @param options.attributes further signed attributes
 * @returns DER of the ContentInfo and the signature value in it
 */
export function sign(
  content: Octets,
  signer: Signer,
  options: { time: Date; detached: boolean; contentType?: string; attributes?: readonly Attribute[] },
): { der: Buffer; signature: Buffer } {
  const contentType = options.contentType ?? OID.data;
  const attributes: Attribute[] = [
    { type: OID.contentType, values: [oid(contentType)] },
    { type: OID.signingTime, values: [utcTime(options.time)] },
    { type: OID.messageDigest, values: [octetString(digestOf("sha256", content))] },
    { type: OID.signingCertificateV2, values: [signingCertificate(signer.certificate)] },
    ...(options.attributes ?? []),
  ];
  const encodings = attributes.map(({ type, values }) => sequence(oid(type), setOf(...values)));
  encodings.sort((a, b) => Buffer.compare(a, b)); // DER order of a SET OF, X.690 §11.6
  const signature = signOctets("sha256", encode(TAG.set, ...encodings), signer.key);
  const der = writeSignedData({
    contentType,
    content: options.detached ? undefined : whole(content),
    certificates: [signer.certificate.der],
    signer: {
      issuer: signer.certificate.issuer,
      serial: signer.certificate.serial,
      digest: OID.sha256,
      signatureAlgorithm: signer.key.asymmetricKeyType === "ec" ? OID.ecdsaWithSha256 : OID.rsaWithSha256,
      attributes: encodings,
      signature,
    },
  });
  return { der, signature };
}

/** UTCTime: what signingTime must be until 2049 (RFC 5652 §11.3). */
function utcTime(time: Date): Buffer {
  return encode(0x17, Buffer.from(`${time.toISOString().replace(/[-:T]/gu, "").slice(2, 14)}Z`));
}

const signingCertificates = new WeakMap<Certificate, Buffer>();

/** SigningCertificateV2 with the default digest SHA-256: binds the signature to this one certificate (RFC 5035 §3). */
function signingCertificate(certificate: Certificate): Buffer {
  const known = signingCertificates.get(certificate);
  if (known) return known;
  const attribute = sequence(sequence(sequence(octetString(digestOf("sha256", certificate.der)))));
  signingCertificates.set(certificate, attribute);
  return attribute;
}

/**
 * Verifies a SignedData and its signer's chain.
 * @param detached the content where it stands outside
 * @throws Fault `signature-invalid`, or `malformed` where it cannot be read
 */
export function verify(der: Buffer, trust: Trust, detached?: Buffer): Verified {
  const { certificates, ...verified } = verifySignature(der, detached);
  verifyChain(verified.signer, { ...trust, intermediates: [...(trust.intermediates ?? []), ...certificates] });
  return verified;
}

/**
 * Verifies a SignedData against the certificate that it brings along, and nothing about that certificate: whose it is, somebody else has to say.
 * @throws Fault `signature-invalid`, or `malformed` where it cannot be read
 */
export function verifySignature(der: Buffer, detached?: Buffer): Verified & { readonly certificates: readonly Certificate[] } {
  const parts = readSignedData(der);
  if ((parts.content === undefined) === (detached === undefined))
    throw new Fault("signature-invalid", "the content stands in the wrong place");
  const content = parts.content ?? detached ?? Buffer.alloc(0);
  const [info, ...others] = parts.signers;
  if (!info || others.length > 0) throw new Fault("signature-invalid", "exactly one signer is accepted");
  if (parts.certificates.length > MOST_CERTIFICATES) throw new Fault("malformed", "more certificates than a chain has");
  const certificates = parts.certificates.map((encoded) => parseCertificate(encoded));
  const signer = certificates.find((candidate) => names(info, candidate));
  if (!signer) throw new Fault("signature-invalid", "the signer's certificate is missing");
  if (!signer.maySign) throw new Fault("signature-invalid", "the certificate is not meant for signing");
  const attributes = attributesOf(info);
  const digest = DIGESTS[info.digest];
  if (!digest || !algorithmFits(info, signer.publicKey, digest)) throw new Fault("signature-invalid", "an algorithm that is not accepted");
  const sameType = isOid(parse(attributes.demand(OID.contentType)), parts.contentType);
  const claimed = octetsOf(parse(attributes.demand(OID.messageDigest)));
  const actual = digestOf(digest, content);
  const sameDigest = claimed.length === actual.length && timingSafeEqual(claimed, actual);
  if (!sameType || !sameDigest) throw new Fault("signature-invalid", "the content is not the one that was signed");
  const bound = attributes.optional(OID.signingCertificateV2);
  if (bound && !bindsTo(bound, signer)) throw new Fault("signature-invalid", "the signature is bound to another certificate");
  if (!verifyOctets(digest, info.signedOctets, signer.publicKey, info.signature)) {
    throw new Fault("signature-invalid", "the signature does not verify");
  }
  return {
    content,
    contentType: parts.contentType,
    signer,
    signature: info.signature,
    signingTime: timeOf(attributes.optional(OID.signingTime)),
    signedOctets: info.signedOctets,
    digest,
    attribute: attributes.optional,
    certificates,
  };
}

function names(info: SignerParts, certificate: Certificate): boolean {
  if (info.issuerAndSerial) {
    return info.issuerAndSerial.issuer.equals(certificate.issuer) && info.issuerAndSerial.serial.equals(certificate.serial);
  }
  return info.subjectKeyId !== undefined && certificate.subjectKeyId?.equals(info.subjectKeyId) === true;
}

function attributesOf(info: SignerParts): { demand(type: string): Buffer; optional(type: string): Buffer | undefined } {
  if (info.signedOctets.length === 0) throw new Fault("signature-invalid", "signed attributes are missing");
  const optional = (type: string): Buffer | undefined => {
    const found = info.attributes.filter((attribute) => attribute.type === type);
    const [value, ...more] = found.flatMap(({ values }) => values);
    if (found.length > 1 || more.length > 0) throw new Fault("signature-invalid", "a signed attribute stands twice");
    return value;
  };
  return {
    optional,
    demand(type) {
      const value = optional(type);
      if (!value) throw new Fault("signature-invalid", "a signed attribute is missing");
      return value;
    },
  };
}

function algorithmFits(info: SignerParts, key: KeyObject, digest: DigestName): boolean {
  const family: readonly string[] =
    key.asymmetricKeyType === "ec"
      ? [{ sha256: OID.ecdsaWithSha256, sha384: OID.ecdsaWithSha384, sha512: OID.ecdsaWithSha512 }[digest]]
      : [OID.rsaEncryption, { sha256: OID.rsaWithSha256, sha384: OID.rsaWithSha384, sha512: OID.rsaWithSha512 }[digest]];
  return family.includes(info.signatureAlgorithm);
}

function bindsTo(value: Buffer, certificate: Certificate): boolean {
  const first = new Cursor(new Cursor(new Cursor(parse(value)).take(TAG.sequence)).take(TAG.sequence));
  const algorithm = first.optional(TAG.sequence);
  const type = algorithm ? new Cursor(algorithm).take(TAG.oid) : undefined;
  const digest = type ? Object.entries(DIGESTS).find(([dotted]) => isOid(type, dotted))?.[1] : "sha256";
  return digest !== undefined && digestOf(digest, certificate.der).equals(octetsOf(first.take(TAG.octetString)));
}

function timeOf(value: Buffer | undefined): Date | undefined {
  if (!value) return undefined;
  const digits = parse(value).content.toString("latin1");
  const full = digits.length === 13 ? `${Number(digits.slice(0, 2)) < 50 ? "20" : "19"}${digits}` : digits;
  const time = new Date(full.replace(/^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/u, "$1-$2-$3T$4:$5:$6Z"));
  return Number.isNaN(time.getTime()) ? undefined : time;
}
