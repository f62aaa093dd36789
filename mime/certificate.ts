/** Certificates: parsed once, cached; the mailboxes they name (RFC 5280 §4.2.1.6, RFC 9598) and the chain to a trusted root (RFC 5280 §6). */
import { X509Certificate, hash, type KeyObject } from "node:crypto";
import { keyOf } from "./address.ts";
import type { RevokedSerials } from "./crl.ts";
import { Cursor, TAG, contextTag, integerOf, isOid, octetsOf, parse, type Element } from "./der.ts";
import { Fault } from "./fault.ts";
import { OID } from "./oids.ts";

export interface Certificate {
  readonly der: Buffer;
  readonly pem: string;
  /** SHA-256 of the DER, in lower-case hex. */
  readonly fingerprint: string;
  readonly publicKey: KeyObject;
  /** DER of the issuer's name and of the serial number: how CMS names a certificate (RFC 5652 §10.2.4). */
  readonly issuer: Buffer;
  readonly serial: Buffer;
  readonly subjectKeyId: Buffer | undefined;
  readonly commonName: string;
  /** The mailboxes it speaks for, as looked up (lower case). */
  readonly mailboxes: readonly string[];
  /** Addresses in the form of a URI; a broker's signing certificate names its own. */
  readonly uris: readonly string[];
  /** Dotted OIDs of the extended key usage; undefined where the extension is absent. */
  readonly purposes: readonly string[] | undefined;
  /** Signed with SHA-256 or stronger. */
  readonly strongSignature: boolean;
  /** The key usage lets it sign contents (RFC 5280 §4.2.1.3): a key for encryption only proves nothing about who wrote. */
  readonly maySign: boolean;
  /** Has a critical extension that is not understood here, and must therefore not be relied on (RFC 5280 §4.2). */
  readonly unknownCritical: boolean;
  /** How many authorities may stand below it in a chain. */
  readonly pathLength: number;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly x509: X509Certificate;
}

const LONGEST_OCTETS = 64 << 10;
const MOST_CACHED = 4_096;
const SHORT_LETTERS = 4_096;
const cache = new Map<string, Certificate>();

/**
 * Parses a certificate from DER or PEM.
 * @throws Fault `malformed`: unreadable; RSA shorter than 2048 or longer than 8192 bits, or with an exponent above 32 bits, by which one
 * verification would take as long as thousands; another curve than P-256, P-384, P-521.
 */
export function parseCertificate(encoded: Buffer | string): Certificate {
  try {
    if (encoded.length > LONGEST_OCTETS) throw new Fault("malformed", "the certificate is too large");
    const isShort = typeof encoded === "string" && encoded.length <= SHORT_LETTERS; // of text the engine has a hash of its own
    const name = isShort ? encoded : hash("sha256", encoded);
    const known = cache.get(name);
    if (known) return known;
    const x509 = new X509Certificate(encoded);
    const whole = cache.get(x509.fingerprint256) ?? read(x509); // one object for each certificate, however it was encoded
    if (cache.size >= MOST_CACHED) cache.clear();
    cache.set(name, whole).set(x509.fingerprint256, whole);
    return whole;
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    throw new Fault("malformed", "not a readable certificate", { cause });
  }
}

const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/gu;

/** The certificates of a PEM file in their order, each once. @throws Fault `malformed`: there is none, or one that `parseCertificate` refuses */
export function parseBundle(pem: Buffer | string): [Certificate, ...Certificate[]] {
  const [first, ...others] = new Set((pem.toString().match(PEM) ?? []).map((one) => parseCertificate(one)));
  if (!first) throw new Fault("malformed", "no certificate in it");
  return [first, ...others];
}

function read(x509: X509Certificate): Certificate {
  const whole = new Cursor(parse(x509.raw));
  const tbs = new Cursor(whole.take(TAG.sequence));
  const signatureAlgorithm = new Cursor(whole.take(TAG.sequence)).take(TAG.oid);
  tbs.optional(contextTag(0, "constructed"));
  const serial = tbs.take(TAG.integer).encoding;
  tbs.take(TAG.sequence);
  const issuer = tbs.take(TAG.sequence).encoding;
  for (const _part of ["validity", "subject", "subjectPublicKeyInfo"]) tbs.take(TAG.sequence);
  tbs.optional(contextTag(1, "primitive"));
  tbs.optional(contextTag(2, "primitive"));
  const extensions = extensionsOf(tbs.optional(contextTag(3, "constructed")));
  const publicKey = x509.publicKey;
  demandStrength(publicKey);
  const keyId = extensions.get(OID.subjectKeyIdentifier);
  const usage = extensions.get(OID.extKeyUsage);
  return {
    der: x509.raw,
    pem: x509.toString(),
    fingerprint: x509.fingerprint256.replaceAll(":", "").toLowerCase(),
    publicKey,
    issuer,
    serial,
    subjectKeyId: keyId && octetsOf(keyId),
    commonName: /^CN=(.*)$/mu.exec(x509.subject)?.[1] ?? "",
    mailboxes: mailboxesOf(extensions.get(OID.subjectAltName)),
    uris: urisOf(extensions.get(OID.subjectAltName)),
    purposes: usage?.children?.map((purpose) => purposeOf(purpose)),
    strongSignature: STRONG_SIGNATURES.some((dotted) => isOid(signatureAlgorithm, dotted)),
    maySign: maySignWith(extensions.get(OID.keyUsage)),
    unknownCritical: extensions.unknownCritical,
    pathLength: pathLengthOf(extensions.get(OID.basicConstraints)),
    notBefore: new Date(x509.validFrom),
    notAfter: new Date(x509.validTo),
    x509,
  };
}

function purposeOf(element: Element): string {
  const known = [OID.serverAuth, OID.clientAuth, OID.emailProtection].find((dotted) => isOid(element, dotted));
  return known ?? "";
}

interface Extensions {
  /** The value of an extension that is understood here. */
  get(dotted: string): Element | undefined;
  readonly unknownCritical: boolean;
}

/** Understood and looked at here or by node:crypto. Name constraints are not among them: an authority that has them is not relied on. */
const UNDERSTOOD = [
  OID.subjectAltName,
  OID.subjectKeyIdentifier,
  OID.authorityKeyIdentifier,
  OID.extKeyUsage,
  OID.keyUsage,
  OID.basicConstraints,
];

function extensionsOf(wrapper: Element | undefined): Extensions {
  const found = new Map<string, Element>();
  let unknownCritical = false;
  for (const extension of wrapper?.children?.[0]?.children ?? []) {
    const [type, ...rest] = extension.children ?? [];
    const value = rest.at(-1);
    const dotted = type && UNDERSTOOD.find((candidate) => isOid(type, candidate));
    if (!dotted || !value) {
      unknownCritical ||= rest[0]?.tag === TAG.boolean && rest[0].content[0] !== 0;
      continue;
    }
    if (found.has(dotted)) throw new Fault("malformed", "an extension stands twice in a certificate"); // RFC 5280 §4.2
    found.set(dotted, parse(octetsOf(value)));
  }
  return { get: (dotted) => found.get(dotted), unknownCritical };
}

/** digitalSignature or nonRepudiation, the first two bits (RFC 8550 §4.4.2); without the extension any use is meant. */
function maySignWith(usage: Element | undefined): boolean {
  return usage === undefined || (usage.tag === TAG.bitString && ((usage.content[1] ?? 0) & 0xc0) !== 0);
}

/** pathLenConstraint (RFC 5280 §4.2.1.9); without one there is no limit. */
function pathLengthOf(constraints: Element | undefined): number {
  const limit = constraints?.children?.find(({ tag }) => tag === TAG.integer);
  return limit ? integerOf(limit) : Number.POSITIVE_INFINITY;
}

const STRONG_SIGNATURES = [
  OID.ecdsaWithSha256,
  OID.ecdsaWithSha384,
  OID.ecdsaWithSha512,
  OID.rsaWithSha256,
  OID.rsaWithSha384,
  OID.rsaWithSha512,
];

function mailboxesOf(names: Element | undefined): string[] {
  return (names?.children ?? []).flatMap((name) => {
    if (name.tag === contextTag(1, "primitive")) return [keyOf(name.content.toString("latin1"))];
    const [type, value] = name.tag === contextTag(0, "constructed") ? (name.children ?? []) : [];
    const text = value?.children?.[0];
    return type && text && isOid(type, OID.smtpUtf8Mailbox) ? [keyOf(text.content.toString("utf8"))] : [];
  });
}

function urisOf(names: Element | undefined): string[] {
  return (names?.children ?? []).flatMap(({ tag, content }) => (tag === contextTag(6, "primitive") ? [content.toString("latin1")] : []));
}

const LARGEST_EXPONENT = 0xffff_ffffn;

function demandStrength(key: KeyObject): void {
  const { modulusLength = 0, namedCurve, publicExponent = 0n } = key.asymmetricKeyDetails ?? {};
  const good =
    key.asymmetricKeyType === "rsa"
      ? modulusLength >= 2048 && modulusLength <= 8192 && publicExponent > 2n && publicExponent <= LARGEST_EXPONENT
      : key.asymmetricKeyType === "ec" && namedCurve !== undefined && ["prime256v1", "secp384r1", "secp521r1"].includes(namedCurve);
  if (!good) throw new Fault("malformed", "the certificate's key is of a kind or size that is not accepted");
}

export interface Trust {
  readonly roots: readonly Certificate[];
  /** Certificates that came along and may stand between. */
  readonly intermediates?: readonly Certificate[];
  readonly at: Date;
  /** Dotted OID that the extended key usage must name. */
  readonly purpose: string;
  /** What the roots revoked. */
  readonly revoked?: RevokedSerials;
  /**
   * When somebody trusted met the signature: a revocation after that does not undo it. Where left out every revocation counts, for
   * whoever has a stolen key writes any time of signing.
   */
  readonly metAt?: Date;
}

const LONGEST_CHAIN = 4;

/**
 * Verifies that the certificate chains to one of the roots at that time and may be used for the purpose.
 * @throws Fault `signature-invalid` with what is wrong; `unavailable` where all holds but the time is before a certificate's: then it is
 * the clock that is wrong, for nobody gets a certificate of a trusted root before it was issued.
 */
export function verifyChain(certificate: Certificate, trust: Trust): void {
  if (!certificate.purposes?.includes(trust.purpose)) throw new Fault("signature-invalid", "the certificate is not meant for this use");
  let current = certificate;
  let early: Certificate | undefined;
  for (let length = 0; length < LONGEST_CHAIN; length++) {
    if (trust.at < current.notBefore) early = current;
    if (trust.at > current.notAfter) {
      throw new Fault("signature-invalid", `the certificate of ${current.commonName} is not valid at ${trust.at.toISOString()}`);
    }
    const child = current;
    demandSound(child, length);
    demandUnrevoked(child, trust);
    const root = trust.roots.find((candidate) => issued(candidate, child));
    if (root) {
      if (root !== child && (root.unknownCritical || length > root.pathLength))
        throw new Fault("signature-invalid", "the root may not stand above this chain");
      if (trust.at > root.notAfter) throw new Fault("signature-invalid", "the root certificate is not valid at that time");
      if (trust.at < root.notBefore) early = root;
      if (early)
        throw new Fault("unavailable", `the clock says ${trust.at.toISOString()}, before the certificate of ${early.commonName} begins`);
      return;
    }
    const next = trust.intermediates?.find((candidate) => candidate.fingerprint !== child.fingerprint && issued(candidate, child));
    if (!next) break;
    current = next;
  }
  throw new Fault("signature-invalid", `the certificate of ${certificate.commonName} does not chain to a trusted root`);
}

function demandUnrevoked(certificate: Certificate, { revoked, metAt }: Trust): void {
  const since = revoked?.get(serialOf(certificate));
  if (since && (!metAt || since <= metAt))
    throw new Fault("signature-invalid", `the certificate of ${certificate.commonName} was revoked at ${since.toISOString()}`);
}

/** The serial number as revocations name it: lower-case hex without leading zero octets. */
export function serialOf({ x509 }: Certificate): string {
  return x509.serialNumber.toLowerCase();
}

/** @param below how many certificates stand below it; the first of them is no authority */
function demandSound(certificate: Certificate, below: number): void {
  if (certificate.unknownCritical) throw new Fault("signature-invalid", "a certificate has a critical extension that is not understood");
  if (!certificate.strongSignature) throw new Fault("signature-invalid", "a certificate is signed with an algorithm that is not accepted");
  if (below - 1 > certificate.pathLength) throw new Fault("signature-invalid", "an authority stands below one that may have none there");
}

/** Which certificates an authority was found to have issued, so that one signature is verified once. */
const offspring = new WeakMap<Certificate, WeakMap<Certificate, boolean>>();

/** Whether the issuer is an authority that signed the child. */
export function issued(issuer: Certificate, child: Certificate): boolean {
  const known = offspring.get(issuer) ?? new WeakMap<Certificate, boolean>();
  offspring.set(issuer, known);
  const isChild = known.get(child) ?? (issuer.x509.ca && child.x509.checkIssued(issuer.x509) && child.x509.verify(issuer.publicKey));
  known.set(child, isChild);
  return isChild;
}
