/** The one door to pkijs and asn1js for SignedData: its parts in neutral types, read under limits and written as DER (RFC 5652 §5). */
import * as asn1js from "asn1js";
import * as pkijs from "pkijs";
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
const LIMITS = { maxDepth: 40, maxNodes: 6_000, maxContentLength: 4 << 20, parseEmbedded: false };

const derOf = (item: { toBER(): ArrayBuffer }): Buffer => Buffer.from(item.toBER());

function read(der: Buffer): asn1js.AsnType {
  const { offset, result } = asn1js.fromBER(der, LIMITS);
  if (offset !== der.length) throw new Fault("malformed", `not well-formed ASN.1: ${result.error}`);
  return result;
}

/**
 * Reads a ContentInfo that holds SignedData.
 * @throws Fault `malformed`: not BER, another content type, beyond the limits, or a shape that RFC 5652 does not know.
 */
export function readSignedData(der: Buffer): SignedParts {
  try {
    const info = new pkijs.ContentInfo({ schema: read(der) });
    if (info.contentType !== OID.signedData) throw new Fault("malformed", "not a SignedData");
    const data = new pkijs.SignedData({ schema: info.content });
    const { eContentType, eContent } = data.encapContentInfo;
    return {
      contentType: eContentType,
      content: eContent && Buffer.from(eContent.getValue()),
      certificates: (data.certificates ?? []).filter((item) => item instanceof pkijs.Certificate).map((item) => derOf(item.toSchema())),
      signers: data.signerInfos.map(signerOf),
    };
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    throw new Fault("malformed", "not a readable SignedData", { cause });
  }
}

function signerOf(info: pkijs.SignerInfo): SignerParts {
  const byName = info.sid instanceof pkijs.IssuerAndSerialNumber ? info.sid : undefined;
  const keyId: unknown = info.sid;
  return {
    issuerAndSerial: byName && { issuer: derOf(byName.issuer.toSchema()), serial: derOf(byName.serialNumber) },
    subjectKeyId: keyId instanceof asn1js.BaseBlock ? keyIdOf(keyId) : undefined,
    digest: info.digestAlgorithm.algorithmId,
    signatureAlgorithm: info.signatureAlgorithm.algorithmId,
    attributes: (info.signedAttrs?.attributes ?? []).map(({ type, values }) => ({
      type,
      values: values.map((value: { toBER(): ArrayBuffer }) => derOf(value)),
    })),
    signedOctets: info.signedAttrs ? Buffer.from(info.signedAttrs.encodedValue) : Buffer.alloc(0),
    signature: Buffer.from(info.signature.getValue()),
  };
}

function keyIdOf(sid: asn1js.BaseBlock): Buffer {
  const inner = sid instanceof asn1js.Constructed ? sid.valueBlock.value[0] : sid;
  if (!(inner instanceof asn1js.OctetString) && !(inner instanceof asn1js.Primitive))
    throw new Fault("malformed", "an unknown SignerIdentifier");
  return Buffer.from(inner.valueBlock.valueHexView);
}

/** Writes a ContentInfo of SignedData with one signer, who is named by issuer and serial number. */
export function writeSignedData(parts: {
  contentType: string;
  content: Buffer | undefined;
  certificates: readonly Buffer[];
  signer: { certificate: Buffer; digest: string; signatureAlgorithm: string; attributes: readonly Attribute[]; signature: Buffer };
}): Buffer {
  const certificates = parts.certificates.map((der) => pkijs.Certificate.fromBER(new Uint8Array(der)));
  const own = pkijs.Certificate.fromBER(new Uint8Array(parts.signer.certificate));
  const digest = new pkijs.AlgorithmIdentifier({ algorithmId: parts.signer.digest });
  const data = new pkijs.SignedData({
    version: parts.contentType === OID.data ? 1 : 3, // RFC 5652 §5.1
    digestAlgorithms: [digest],
    encapContentInfo: new pkijs.EncapsulatedContentInfo({
      eContentType: parts.contentType,
      ...(parts.content && { eContent: new asn1js.OctetString({ valueHex: parts.content }) }),
    }),
    certificates,
    signerInfos: [
      new pkijs.SignerInfo({
        version: 1,
        sid: new pkijs.IssuerAndSerialNumber({ issuer: own.issuer, serialNumber: own.serialNumber }),
        digestAlgorithm: digest,
        signedAttrs: new pkijs.SignedAndUnsignedAttributes({
          type: 0,
          attributes: parts.signer.attributes.map(
            ({ type, values }) => new pkijs.Attribute({ type, values: values.map((value) => asn1js.fromBER(value).result) }),
          ),
        }),
        signatureAlgorithm: new pkijs.AlgorithmIdentifier({ algorithmId: parts.signer.signatureAlgorithm }),
        signature: new asn1js.OctetString({ valueHex: parts.signer.signature }),
      }),
    ],
  });
  return derOf(new pkijs.ContentInfo({ contentType: OID.signedData, content: data.toSchema(true) }).toSchema());
}
