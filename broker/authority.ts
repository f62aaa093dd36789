/** The broker's certificate authority: a root of its own, and the certificates of broker, gateways and mailboxes (S0; RFC 5280). */
import { createHash, createPublicKey, randomBytes, webcrypto, type KeyObject } from "node:crypto";
import { isIPv4, isIPv6 } from "node:net";
import * as asn1js from "asn1js";
import * as pkijs from "pkijs";
import type { Mailbox } from "../mime/address.ts";
import { parseCertificate, type Certificate } from "../mime/certificate.ts";
import { REVOCATION_REASONS, type RevocationReason } from "../mime/crl.ts";
import { contextTag, encode, oid, sequence, utf8String } from "../mime/der.ts";
import { OID } from "../mime/oids.ts";
import { newKey } from "../mime/request.ts";
import type { Signer } from "../mime/sign.ts";

/** What a certificate is for. `session` opens tickets; `channel` is a gateway's TLS client. */
export type Profile = "server" | "broker-signing" | "session" | "channel" | "mailbox-signing" | "mailbox-encryption";

/** Bits of KeyUsage (RFC 5280 §4.2.1.3), first octet. */
const DIGITAL_SIGNATURE = 0x80;
const NON_REPUDIATION = 0x40;
const KEY_AGREEMENT = 0x08;
const CERTIFICATE_SIGNING = 0x06;

const PROFILES: Readonly<Record<Profile, { usage: number; purpose: string | undefined }>> = {
  server: { usage: DIGITAL_SIGNATURE, purpose: OID.serverAuth },
  "broker-signing": { usage: DIGITAL_SIGNATURE | NON_REPUDIATION, purpose: OID.emailProtection },
  session: { usage: KEY_AGREEMENT, purpose: undefined },
  channel: { usage: DIGITAL_SIGNATURE, purpose: OID.clientAuth },
  "mailbox-signing": { usage: DIGITAL_SIGNATURE | NON_REPUDIATION, purpose: OID.emailProtection },
  "mailbox-encryption": { usage: KEY_AGREEMENT, purpose: OID.emailProtection },
};

export interface CertificateOrder {
  readonly profile: Profile;
  readonly publicKey: KeyObject;
  readonly commonName: string;
  readonly mailboxes?: readonly Mailbox[];
  /** Host names or IP addresses of a TLS server. */
  readonly hosts?: readonly string[];
  /** The broker's own address, which only its signing certificate names. */
  readonly url?: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/** Makes a new root: a self-signed certificate with a fresh key. */
export async function createRoot(name: string, notBefore: Date, notAfter: Date): Promise<Signer> {
  const key = newKey();
  const publicKey = createPublicKey(key);
  const certificate = skeleton(name, publicKey, notBefore, notAfter);
  certificate.issuer = certificate.subject;
  certificate.extensions = authorityExtensions(publicKey);
  return { key, certificate: await signed(certificate, key) };
}

function authorityExtensions(publicKey: KeyObject): pkijs.Extension[] {
  return [
    extension(OID.basicConstraints, true, new pkijs.BasicConstraints({ cA: true }).toSchema()),
    extension(OID.keyUsage, true, usageBits(CERTIFICATE_SIGNING)),
    extension(OID.subjectKeyIdentifier, false, new asn1js.OctetString({ valueHex: keyIdOf(publicKey) })),
  ];
}

const subjectOf = ({ der }: Certificate): pkijs.RelativeDistinguishedNames => pkijs.Certificate.fromBER(new Uint8Array(der)).subject;

/**
 * Certifies another root's key under its own name: who trusts the issuer can trust that root (RFC 4210 §4.4: NewWithOld and OldWithNew).
 * @param times within those of the root
 */
export async function certifyRoot(
  issuer: Signer,
  root: Certificate,
  { notBefore, notAfter }: Pick<CertificateOrder, "notBefore" | "notAfter">,
): Promise<Certificate> {
  const link = skeleton(root.commonName, root.publicKey, notBefore, notAfter);
  link.subject = subjectOf(root);
  link.issuer = subjectOf(issuer.certificate);
  link.extensions = [...authorityExtensions(root.publicKey), authorityKeyIdentifier(issuer)];
  return signed(link, issuer.key);
}

/** Issues a certificate under the root. */
export async function issue(root: Signer, order: CertificateOrder): Promise<Certificate> {
  const { usage, purpose } = PROFILES[order.profile];
  const certificate = skeleton(order.commonName, order.publicKey, order.notBefore, order.notAfter);
  certificate.issuer = subjectOf(root.certificate);
  certificate.extensions = [
    extension(OID.basicConstraints, true, new pkijs.BasicConstraints({ cA: false }).toSchema()),
    extension(OID.keyUsage, true, usageBits(usage)),
    extension(OID.subjectKeyIdentifier, false, new asn1js.OctetString({ valueHex: keyIdOf(order.publicKey) })),
    authorityKeyIdentifier(root),
  ];
  if (purpose) certificate.extensions.push(extension(OID.extKeyUsage, false, new pkijs.ExtKeyUsage({ keyPurposes: [purpose] }).toSchema()));
  const names = namesOf(order);
  if (names.length > 0)
    certificate.extensions.push(
      new pkijs.Extension({ extnID: OID.subjectAltName, critical: false, extnValue: new Uint8Array(sequence(...names)).buffer }),
    );
  return signed(certificate, root.key);
}

export interface RevocationOrder {
  readonly number: number;
  readonly thisUpdate: Date;
  readonly nextUpdate: Date;
  readonly entries: readonly { readonly serial: string; readonly at: Date; readonly reason: RevocationReason }[];
}

/** The list of what the root revoked, DER, signed by it (RFC 5280 §5). */
export async function revocationList(root: Signer, { number, thisUpdate, nextUpdate, entries }: RevocationOrder): Promise<Buffer> {
  const list = new pkijs.CertificateRevocationList({
    version: 1,
    issuer: subjectOf(root.certificate),
    thisUpdate: timeOf(thisUpdate),
    nextUpdate: timeOf(nextUpdate),
    crlExtensions: new pkijs.Extensions({
      extensions: [authorityKeyIdentifier(root), extension(OID.crlNumber, false, asn1js.Integer.fromBigInt(number))],
    }),
  });
  // An empty list must be absent (§5.1.2.6), and so should the reason `unspecified` (§5.3.1).
  if (entries.length > 0) list.revokedCertificates = entries.map(revokedEntry);
  await list.sign(await signingKey(root.key), "SHA-256");
  return Buffer.from(list.toSchema(true).toBER());
}

function revokedEntry({ serial, at, reason }: RevocationOrder["entries"][number]): pkijs.RevokedCertificate {
  const why = new asn1js.Enumerated({ value: REVOCATION_REASONS[reason] });
  const octets = Buffer.from(serial, "hex");
  return new pkijs.RevokedCertificate({
    userCertificate: new asn1js.Integer({ valueHex: (octets[0] ?? 0) & 0x80 ? Buffer.concat([Buffer.alloc(1), octets]) : octets }),
    revocationDate: timeOf(at),
    ...(reason !== "unspecified" && {
      crlEntryExtensions: new pkijs.Extensions({ extensions: [extension(OID.crlReason, false, why)] }),
    }),
  });
}

/** UTCTime until 2049, then GeneralizedTime (RFC 5280 §4.1.2.5, §5.1.2.4). */
function timeOf(value: Date): pkijs.Time {
  return new pkijs.Time({ type: value.getUTCFullYear() < 2050 ? 0 : 1, value });
}

function authorityKeyIdentifier(root: Signer): pkijs.Extension {
  const keyIdentifier = new asn1js.OctetString({ valueHex: keyIdOf(root.certificate.publicKey) });
  return extension(OID.authorityKeyIdentifier, false, new pkijs.AuthorityKeyIdentifier({ keyIdentifier }).toSchema());
}

function skeleton(commonName: string, publicKey: KeyObject, notBefore: Date, notAfter: Date): pkijs.Certificate {
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40; // positive and of full length, RFC 5280 §4.1.2.2
  const certificate = new pkijs.Certificate({
    version: 2,
    serialNumber: new asn1js.Integer({ valueHex: serial }),
    notBefore: timeOf(notBefore),
    notAfter: timeOf(notAfter),
    subjectPublicKeyInfo: new pkijs.PublicKeyInfo({
      schema: asn1js.fromBER(new Uint8Array(publicKey.export({ type: "spki", format: "der" }))).result,
    }),
  });
  const name = new asn1js.Utf8String({ value: commonName.slice(0, 64) }); // ub-common-name, RFC 5280 Appendix A
  certificate.subject.typesAndValues.push(new pkijs.AttributeTypeAndValue({ type: OID.commonName, value: name }));
  return certificate;
}

/** SHA-1 of the public key bits: only a label (RFC 5280 §4.2.1.2, method 1). */
function keyIdOf(key: KeyObject): Buffer {
  return createHash("sha1")
    .update(key.export({ type: "spki", format: "der" }).subarray(-65))
    .digest();
}

function extension(extnID: string, critical: boolean, value: { toBER(): ArrayBuffer }): pkijs.Extension {
  return new pkijs.Extension({ extnID, critical, extnValue: value.toBER() });
}

function usageBits(bits: number): asn1js.BitString {
  const unusedBits = 31 - Math.clz32(bits & -bits);
  return new asn1js.BitString({ valueHex: new Uint8Array([bits]).buffer, unusedBits });
}

/** GeneralName (RFC 5280 §4.2.1.6); pkijs cannot write the otherName of an address outside ASCII (RFC 9598 §3). */
function namesOf({ mailboxes = [], hosts = [], url }: CertificateOrder): Buffer[] {
  const primitive = (tag: number, octets: Buffer): Buffer => encode(contextTag(tag, "primitive"), octets);
  const mailboxName = ({ address }: Mailbox): Buffer =>
    /^[\x20-\x7E]*$/u.test(address)
      ? primitive(1, Buffer.from(address, "latin1"))
      : encode(contextTag(0, "constructed"), oid(OID.smtpUtf8Mailbox), encode(contextTag(0, "constructed"), utf8String(address)));
  const hostName = (name: string): Buffer => {
    const octets = addressOctets(name.replace(/^\[|\]$/gu, ""));
    return octets ? primitive(7, octets) : primitive(2, Buffer.from(name, "latin1"));
  };
  return [...mailboxes.map(mailboxName), ...hosts.map(hostName), ...(url === undefined ? [] : [primitive(6, Buffer.from(url, "latin1"))])];
}

/** The octets of an IP address in text; undefined for a name. */
function addressOctets(text: string): Buffer | undefined {
  if (isIPv4(text)) return Buffer.from(text.split(".").map(Number));
  if (!isIPv6(text)) return undefined;
  const groups = (part: string): number[] => part.split(":").flatMap((group) => (group === "" ? [] : [Number.parseInt(group, 16)]));
  const [head = [], tail = []] = new URL(`https://[${text}]`).hostname.slice(1, -1).split("::").map(groups);
  const whole = [...head, ...Array.from({ length: 8 - head.length - tail.length }, () => 0), ...tail];
  return Buffer.from(whole.flatMap((group) => [group >> 8, group & 0xff]));
}

function signingKey(key: KeyObject): Promise<webcrypto.CryptoKey> {
  const pkcs8 = new Uint8Array(key.export({ type: "pkcs8", format: "der" }));
  return webcrypto.subtle.importKey("pkcs8", pkcs8, { name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]);
}

async function signed(certificate: pkijs.Certificate, key: KeyObject): Promise<Certificate> {
  await certificate.sign(await signingKey(key), "SHA-256");
  return parseCertificate(Buffer.from(certificate.toSchema(true).toBER()));
}
