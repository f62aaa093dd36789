/** Opening (S8): the inverse of sealing, strict in every parameter; whatever fails, the outside learns one word, `cannot-open`. */
import { constants, createDecipheriv, createECDH, privateDecrypt, type ECDH, type KeyObject } from "node:crypto";
import type { Certificate } from "./certificate.ts";
import { Cursor, TAG, contextTag, integerOf, isOid, octetsOf, parse, parseGeneralizedTime, type Element, type Limits } from "./der.ts";
import type { Use } from "./entity.ts";
import { Fault } from "./fault.ts";
import type { ContentKey } from "./key.ts";
import { OID } from "./oids.ts";
import { slices } from "./pieces.ts";
import { NONCE_OCTETS, OAEP_ALGORITHMS, TAG_OCTETS, WRAP_IV, agreedKey, type Shell } from "./seal.ts";

/** A private key with the certificate that names it in an envelope. */
export interface Opener {
  readonly key: KeyObject;
  readonly certificate: Certificate;
}

const KEKRI = contextTag(2, "constructed");
const KARI = contextTag(1, "constructed");

/** Segments of a few KiB, as other writers cut them, must fit for a letter of this many octets. */
export const limitsFor = (octets: number): Limits => ({ depth: 24, elements: 4_000 + Math.ceil(octets / 512) });

/** One answer for every failure: padding, tag, unwrap and structure must not be told apart (RFC 5652 §14, RFC 3218). */
export function cannotOpen(cause: unknown): Fault {
  return new Fault("cannot-open", "content key or content refused", { cause });
}

/** None of the openers has the key. To the outside this is `cannot-open` as everything else; the recipient's own side may still wait for the key. */
class SealedElsewhere extends Fault {
  constructor() {
    super("malformed", "sealed to another certificate");
  }
}

/** Whether nothing but the key of another certificate was missing, as far as could be seen without it. */
export function isSealedElsewhere(thrown: unknown): boolean {
  for (let cause = thrown; cause instanceof Error; cause = cause.cause) if (cause instanceof SealedElsewhere) return true;
  return false;
}

interface Parts {
  readonly recipientInfo: Element;
  readonly nonce: Buffer;
  readonly tag: Buffer;
  readonly ciphertext: Buffer;
}

function read(der: Buffer): Parts {
  const info = new Cursor(parse(der, limitsFor(der.length)));
  if (!isOid(info.take(TAG.oid), OID.authEnvelopedData)) throw new Fault("malformed", "not an AuthEnvelopedData");
  const outer = new Cursor(info.take(contextTag(0, "constructed")), contextTag(0, "constructed"));
  info.end();
  const data = new Cursor(outer.take(TAG.sequence));
  outer.end();
  if (integerOf(data.take(TAG.integer)) !== 0) throw new Fault("malformed", "an unknown version");
  const recipients = new Cursor(data.take(TAG.set), TAG.set);
  const recipientInfo = recipients.any();
  recipients.end(); // one envelope, one recipient
  const content = new Cursor(data.take(TAG.sequence));
  const tag = octetsOf(data.take(TAG.octetString));
  data.end(); // no attributes, authenticated or not
  if (!isOid(content.take(TAG.oid), OID.data)) throw new Fault("malformed", "not id-data inside");
  const algorithm = new Cursor(content.take(TAG.sequence));
  if (!isOid(algorithm.take(TAG.oid), OID.aes256Gcm)) throw new Fault("malformed", "not AES-256-GCM");
  const parameters = new Cursor(algorithm.take(TAG.sequence));
  algorithm.end();
  const nonce = octetsOf(parameters.take(TAG.octetString));
  const tagOctets = integerOf(parameters.take(TAG.integer)); // absent means 12 (RFC 5084 §3.2): refused as too short
  parameters.end();
  const ciphertext = octetsOf(content.optional(contextTag(0, "primitive")) ?? content.take(contextTag(0, "constructed")));
  content.end();
  if (nonce.length !== NONCE_OCTETS || tagOctets !== TAG_OCTETS || tag.length !== TAG_OCTETS) {
    throw new Fault("malformed", "nonce or tag of another length");
  }
  return { recipientInfo, nonce, tag, ciphertext };
}

interface HeldParts {
  readonly shell: Shell;
  readonly wrapped: Buffer;
}

function readHeld(recipientInfo: Element): HeldParts {
  const info = new Cursor(recipientInfo, KEKRI);
  if (integerOf(info.take(TAG.integer)) !== 4) throw new Fault("malformed", "an unknown version");
  const kekId = new Cursor(info.take(TAG.sequence));
  const ticket = octetsOf(kekId.take(TAG.octetString));
  const expiresAt = parseGeneralizedTime(kekId.take(TAG.generalizedTime).content);
  const other = new Cursor(kekId.take(TAG.sequence));
  kekId.end();
  if (!isOid(other.take(TAG.oid), OID.brokerUrl)) throw new Fault("malformed", "no broker is named");
  const brokerUrl = other.take(TAG.utf8String).content.toString("utf8");
  other.end();
  demandWrap(info.take(TAG.sequence));
  const wrapped = octetsOf(info.take(TAG.octetString));
  info.end();
  return { shell: { ticket, expiresAt, brokerUrl }, wrapped };
}

/** AES-256 key wrap; its parameters must be absent (RFC 3565 §2.3.2), a NULL is read over. */
function demandWrap(algorithm: Element): void {
  const parts = new Cursor(algorithm);
  if (!isOid(parts.take(TAG.oid), OID.aes256Wrap)) throw new Fault("malformed", "not AES-256 key wrap");
  parts.optional(TAG.null);
  parts.end();
}

/**
 * What a held envelope says before any key is used.
 * @throws Fault `malformed`: not an envelope of the held form (docs/protocol.md, section 2.1)
 */
export function readShell(der: Buffer): Shell {
  return readHeld(read(der).recipientInfo).shell;
}

/** Opens a held envelope with Kc. @param use of the envelope's octets. @throws Fault `cannot-open`, whatever the reason. */
export function openWithKey(der: Buffer, key: ContentKey, use: Use = "keep"): Buffer {
  try {
    const parts = read(der);
    const { wrapped } = readHeld(parts.recipientInfo);
    return decrypt(
      parts,
      key.lend((kek) => unwrap(kek, wrapped)),
      use,
    );
  } catch (cause) {
    throw cannotOpen(cause);
  }
}

/** Opens an envelope that was sealed to one of the certificates. @param use of its octets. @throws Fault `cannot-open`, whatever the reason. */
export function openWithPrivateKey(der: Buffer, openers: readonly Opener[], use: Use = "keep"): Buffer {
  try {
    const parts = read(der);
    return decrypt(parts, contentKeyFor(parts.recipientInfo, openers), use);
  } catch (cause) {
    throw cannotOpen(cause);
  }
}

/** Whether an AuthEnvelopedData is sealed to one of the certificates, by what it says; no key is used. */
export function isSealedTo(der: Buffer, openers: readonly Opener[]): boolean {
  try {
    const { recipientInfo } = read(der);
    const identifier =
      recipientInfo.tag === KARI ? recipientInfo.children?.at(-1)?.children?.[0]?.children?.[0] : recipientInfo.children?.[1];
    return identifier !== undefined && named(identifier, openers) !== undefined;
  } catch {
    return false;
  }
}

/** The content key that a RecipientInfo holds for one of the openers. @throws anything; the caller makes one word of it */
export function contentKeyFor(recipientInfo: Element, openers: readonly Opener[]): Buffer {
  return recipientInfo.tag === KARI ? byAgreement(recipientInfo, openers) : byTransport(recipientInfo, openers);
}

function decrypt({ nonce, tag, ciphertext }: Parts, contentKey: Buffer, use: Use): Buffer {
  const plaintext = use === "spend" ? ciphertext : Buffer.allocUnsafe(ciphertext.length);
  try {
    const decipher = createDecipheriv("aes-256-gcm", contentKey, nonce, { authTagLength: TAG_OCTETS });
    decipher.setAuthTag(tag);
    let to = 0;
    for (const slice of slices(ciphertext)) to += decipher.update(slice).copy(plaintext, to);
    decipher.final();
    return plaintext;
  } catch (thrown) {
    plaintext.fill(0); // nothing of it leaves this function before its tag has held
    throw thrown;
  } finally {
    contentKey.fill(0);
  }
}

function unwrap(kek: Buffer, wrapped: Buffer): Buffer {
  if (wrapped.length !== 40) throw new Fault("malformed", "a wrapped key of another length");
  const decipher = createDecipheriv("id-aes256-wrap", kek, WRAP_IV);
  return Buffer.concat([decipher.update(wrapped), decipher.final()]);
}

function named(identifier: Element, openers: readonly Opener[]): Opener {
  const opener = openers.find(({ certificate }) =>
    identifier.tag === TAG.sequence
      ? identifier.content.equals(Buffer.concat([certificate.issuer, certificate.serial]))
      : certificate.subjectKeyId !== undefined && keyIdIn(identifier).equals(certificate.subjectKeyId),
  );
  if (!opener) throw new SealedElsewhere();
  return opener;
}

/** The key identifier in a RecipientIdentifier's or KeyAgreeRecipientIdentifier's [0] (RFC 5652 §6.2.1, §6.2.2). */
function keyIdIn(identifier: Element): Buffer {
  const first = identifier.children?.[0];
  return first ? octetsOf(first) : identifier.content;
}

function byTransport(recipientInfo: Element, openers: readonly Opener[]): Buffer {
  const info = new Cursor(recipientInfo);
  const version = integerOf(info.take(TAG.integer));
  const identifier = info.any();
  if (version !== (identifier.tag === TAG.sequence ? 0 : 2)) throw new Fault("malformed", "an unknown version"); // RFC 5652 §6.2.1
  const { key } = named(identifier, openers);
  const algorithm = info.take(TAG.sequence);
  const encrypted = octetsOf(info.take(TAG.octetString));
  info.end();
  if (!OAEP_ALGORITHMS.some((accepted) => accepted.equals(algorithm.encoding))) throw new Fault("malformed", "not OAEP with SHA-256");
  return privateDecrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: "sha256" }, encrypted);
}

function byAgreement(recipientInfo: Element, openers: readonly Opener[]): Buffer {
  const info = new Cursor(recipientInfo, KARI);
  if (integerOf(info.take(TAG.integer)) !== 3) throw new Fault("malformed", "an unknown version");
  const originator = new Cursor(info.take(contextTag(0, "constructed")), contextTag(0, "constructed"));
  const originatorKey = new Cursor(originator.take(contextTag(1, "constructed")), contextTag(1, "constructed"));
  originator.end();
  demandCurve(originatorKey.take(TAG.sequence));
  const [unusedBits, ...point] = originatorKey.take(TAG.bitString).content;
  originatorKey.end();
  if (unusedBits !== 0 || point[0] !== 4) throw new Fault("malformed", "not an uncompressed point"); // RFC 5480 §2.2
  const ukm = info.optional(contextTag(1, "constructed"))?.children?.[0];
  const scheme = new Cursor(info.take(TAG.sequence));
  if (!isOid(scheme.take(TAG.oid), OID.ecdhSha256)) throw new Fault("malformed", "another key agreement");
  const wrapAlgorithm = scheme.take(TAG.sequence);
  scheme.end();
  demandWrap(wrapAlgorithm);
  const keys = new Cursor(info.take(TAG.sequence));
  info.end();
  const recipient = new Cursor(keys.take(TAG.sequence));
  keys.end();
  const { key } = named(recipient.any(), openers);
  const wrapped = octetsOf(recipient.take(TAG.octetString));
  recipient.end();
  if (key.asymmetricKeyDetails?.namedCurve !== "prime256v1") throw new Fault("malformed", "another curve");
  const secret = agreementOf(key).computeSecret(Buffer.from(point)); // refuses a point off the curve
  const kek = agreedKey(secret, wrapAlgorithm.encoding, ukm && octetsOf(ukm));
  return unwrap(kek, wrapped);
}

/** The originator's key is on the recipient's curve; naming the curve is optional, naming another is wrong (RFC 5753 §3.1.1). */
function demandCurve(algorithm: Element): void {
  const parts = new Cursor(algorithm);
  if (!isOid(parts.take(TAG.oid), OID.ecPublicKey)) throw new Fault("malformed", "not an EC key");
  const curve = parts.optional(TAG.oid);
  if (curve && !isOid(curve, OID.prime256v1)) throw new Fault("malformed", "another curve");
  parts.optional(TAG.null);
  parts.end();
}

const agreements = new WeakMap<KeyObject, ECDH>();

/** A private key on P-256, ready to agree: without it a KeyObject of every originator's point takes longer than the agreement itself. */
function agreementOf(key: KeyObject): ECDH {
  const known = agreements.get(key);
  if (known) return known;
  const agreement = createECDH("prime256v1");
  const der = key.export({ type: "sec1", format: "der" });
  const [, scalar] = parse(der).children ?? []; // RFC 5915 §3
  if (!scalar) throw new Fault("internal", "a private key without its scalar");
  agreement.setPrivateKey(scalar.content);
  der.fill(0);
  agreements.set(key, agreement);
  return agreement;
}
