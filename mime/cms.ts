/** SignedData: its parts in neutral types, read from BER under limits and written as DER (RFC 5652 §5). */
import {
  Cursor,
  TAG,
  contextTag,
  derNull,
  dottedOf,
  encode,
  integer,
  integerOf,
  isOid,
  octetString,
  octetsOf,
  oid,
  parse,
  sequence,
  setOf,
  type Element,
  type Limits,
} from "./der.ts";
import { Fault } from "./fault.ts";
import { OID } from "./oids.ts";

export interface Attribute {
  readonly type: string;
  /** The DER of each value. */
  readonly values: readonly Buffer[];
}

/** One SignerInfo (RFC 5652 §5.3). */
export interface SignerParts {
  /** Issuer's name and serial number as DER; undefined where the signer is named by key identifier. */
  readonly issuerAndSerial: { readonly issuer: Buffer; readonly serial: Buffer } | undefined;
  readonly subjectKeyId: Buffer | undefined;
  readonly digest: string;
  readonly signatureAlgorithm: string;
  readonly attributes: readonly Attribute[];
  /** The signed attributes encoded as SET OF: the octets that are signed (RFC 5652 §5.4). Empty where there are none. */
  readonly signedOctets: Buffer;
  readonly signature: Buffer;
}

export interface SignedParts {
  readonly contentType: string;
  /** Absent in a detached signature. */
  readonly content: Buffer | undefined;
  readonly certificates: readonly Buffer[];
  readonly signers: readonly SignerParts[];
}

/** Room for a signature with its certificates and for the JSON that the parties of the protocol sign; never for a letter. */
const LIMITS: Limits = { depth: 40, elements: 6_000 };
const MOST_OCTETS = 4 << 20;

const EXPLICIT = contextTag(0, "constructed");

/**
 * Reads a ContentInfo that holds SignedData.
 * @throws Fault `malformed`: not BER, another content type, beyond the limits, or a shape that RFC 5652 does not know.
 */
export function readSignedData(der: Buffer): SignedParts {
  if (der.length > MOST_OCTETS) throw new Fault("malformed", "a SignedData of that size is not read");
  const info = new Cursor(parse(der, LIMITS));
  if (!isOid(info.take(TAG.oid), OID.signedData)) throw new Fault("malformed", "not a SignedData");
  const data = new Cursor(only(info.take(EXPLICIT)));
  info.end();
  integerOf(data.take(TAG.integer));
  data.take(TAG.set); // what the digests were is said by each signer
  const encapsulated = new Cursor(data.take(TAG.sequence));
  const certificates = data.optional(contextTag(0, "constructed"))?.children ?? [];
  data.optional(contextTag(1, "constructed")); // revocation lists are never taken from a message
  const signers = data.take(TAG.set).children ?? [];
  data.end();
  const contentType = dottedOf(encapsulated.take(TAG.oid));
  const content = encapsulated.optional(EXPLICIT);
  encapsulated.end();
  return {
    contentType,
    content: content && octetsIn(only(content)),
    certificates: certificates.filter(({ tag }) => tag === TAG.sequence).map(({ encoding }) => encoding), // RFC 5652 §10.2.2
    signers: signers.map(readSigner),
  };
}

/** The one element inside an explicit tag. */
function only(element: Element): Element {
  const inside = new Cursor(element, element.tag);
  const one = inside.any();
  inside.end();
  return one;
}

/** The octets of an OCTET STRING, in one piece or in segments. */
function octetsIn(element: Element): Buffer {
  if (element.tag !== TAG.octetString && element.tag !== (TAG.octetString | 0x20)) throw new Fault("malformed", "no OCTET STRING");
  return octetsOf(element);
}

function readSigner(element: Element): SignerParts {
  const info = new Cursor(element);
  integerOf(info.take(TAG.integer));
  const sid = info.any();
  const digest = algorithmIn(info.take(TAG.sequence));
  const signed = info.optional(contextTag(0, "constructed"));
  const signatureAlgorithm = algorithmIn(info.take(TAG.sequence));
  const signature = octetsIn(info.any());
  info.optional(contextTag(1, "constructed")); // nothing is taken from attributes that no signature covers
  info.end();
  const attributes = signed?.children ?? [];
  return {
    ...identifierIn(sid),
    digest,
    signatureAlgorithm,
    attributes: attributes.map(readAttribute),
    signedOctets: signed ? encode(TAG.set, ...attributes.map(({ encoding }) => encoding)) : Buffer.alloc(0), // RFC 5652 §5.4
    signature,
  };
}

/** SignerIdentifier: issuer and serial number, or a key identifier (RFC 5652 §5.3). */
function identifierIn(sid: Element): Pick<SignerParts, "issuerAndSerial" | "subjectKeyId"> {
  if (sid.tag === TAG.sequence) {
    const name = new Cursor(sid);
    const issuerAndSerial = { issuer: name.take(TAG.sequence).encoding, serial: name.take(TAG.integer).encoding };
    name.end();
    return { issuerAndSerial, subjectKeyId: undefined };
  }
  if (sid.tag === contextTag(0, "primitive")) return { issuerAndSerial: undefined, subjectKeyId: sid.content };
  if (sid.tag === contextTag(0, "constructed")) return { issuerAndSerial: undefined, subjectKeyId: octetsOf(sid) };
  throw new Fault("malformed", "an unknown SignerIdentifier");
}

function algorithmIn(element: Element): string {
  return dottedOf(new Cursor(element).take(TAG.oid));
}

function readAttribute(element: Element): Attribute {
  const attribute = new Cursor(element);
  const type = dottedOf(attribute.take(TAG.oid));
  const values = attribute.take(TAG.set).children ?? [];
  attribute.end();
  return { type, values: values.map(({ encoding }) => encoding) };
}

/** Writes a ContentInfo of SignedData with one signer. @param parts.signer.attributes the encoded SET OF of the signed attributes, its elements in DER order */
export function writeSignedData(parts: {
  contentType: string;
  content: Buffer | undefined;
  certificates: readonly Buffer[];
  signer: {
    /** DER of issuer and serial number of its certificate. */
    issuer: Buffer;
    serial: Buffer;
    digest: string;
    signatureAlgorithm: string;
    attributes: readonly Buffer[];
    signature: Buffer;
  };
}): Buffer {
  const { contentType, content, certificates, signer } = parts;
  const digest = sequence(oid(signer.digest));
  const isRsa = signer.signatureAlgorithm === OID.rsaWithSha256;
  const info = sequence(
    integer(1), // the signer is named by issuer and serial number
    sequence(signer.issuer, signer.serial),
    digest,
    encode(contextTag(0, "constructed"), ...signer.attributes),
    sequence(oid(signer.signatureAlgorithm), ...(isRsa ? [derNull()] : [])), // RFC 4055 §5, RFC 5758 §3.2
    octetString(signer.signature),
  );
  const data = sequence(
    integer(contentType === OID.data ? 1 : 3), // RFC 5652 §5.1
    setOf(digest),
    sequence(oid(contentType), ...(content ? [encode(EXPLICIT, octetString(content))] : [])),
    encode(contextTag(0, "constructed"), ...[...certificates].sort((a, b) => Buffer.compare(a, b))),
    setOf(info),
  );
  return sequence(oid(OID.signedData), encode(EXPLICIT, data));
}
