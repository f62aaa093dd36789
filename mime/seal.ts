/** Sealing (S4): AuthEnvelopedData for a key that the broker holds back, and for the holder of a certificate (RFC 5083, RFC 5084, docs/protocol.md section 2). */
import { constants, createCipheriv, createECDH, hash, publicEncrypt, randomBytes, type Cipher, type KeyObject } from "node:crypto";
import type { Certificate } from "./certificate.ts";
import {
  TAG,
  contextTag,
  derNull,
  encode,
  generalizedTime,
  integer,
  octetString,
  oid,
  parse,
  pieces,
  sequence,
  setOf,
  utf8String,
} from "./der.ts";
import { Fault } from "./fault.ts";
import type { ContentKey } from "./key.ts";
import { OID } from "./oids.ts";
import { madeLater, octetsIn, slices, whole, type Octets, type Pieces } from "./pieces.ts";

/** What a held envelope says to everyone: whose table holds the key, under which ticket, until when. */
export interface Shell {
  /** The session ID sealed to the broker; opaque here. */
  readonly ticket: Buffer;
  readonly brokerUrl: string;
  /** To the second. */
  readonly expiresAt: Date;
}

export const NONCE_OCTETS = 12;
export const TAG_OCTETS = 16;
const CBC_BLOCK_OCTETS = 16;
/** The constant that opens a wrapped key: RFC 3394 §2.2.3.1. */
export const WRAP_IV = Buffer.alloc(8, 0xa6);
const WRAP_ALGORITHM = sequence(oid(OID.aes256Wrap));

/** RSAES-OAEP with SHA-256 for both of its hashes (RFC 4055 §4.1), with and without the NULL that some write behind the digest. */
export const OAEP_ALGORITHMS = [derNull(), Buffer.alloc(0)].map((parameters) => {
  const sha256 = sequence(oid(OID.sha256), parameters);
  return sequence(
    oid(OID.rsaesOaep),
    sequence(encode(contextTag(0, "constructed"), sha256), encode(contextTag(1, "constructed"), sequence(oid(OID.mgf1), sha256))),
  );
});

/** Seals under Kc: exactly one KEKRecipientInfo whose key identifier is the ticket. */
export function sealWithKey(plaintext: Octets, key: ContentKey, shell: Shell): Buffer {
  return whole(heldPieces(plaintext, key, shell));
}

/** The same in pieces; Kc has done its part when this returns. */
export function heldPieces(plaintext: Octets, key: ContentKey, shell: Shell): Pieces {
  const kekId = sequence(
    octetString(shell.ticket),
    generalizedTime(shell.expiresAt),
    sequence(oid(OID.brokerUrl), utf8String(shell.brokerUrl)),
  );
  return envelope(plaintext, (contentKey) =>
    encode(contextTag(2, "constructed"), integer(4), kekId, WRAP_ALGORITHM, octetString(key.lend((kek) => wrap(kek, contentKey)))),
  );
}

/** Seals to the holder of the certificate: key agreement on P-256 (RFC 5753 §3.1), or RSAES-OAEP with SHA-256 (RFC 3560). */
export function sealToCertificate(plaintext: Octets, certificate: Certificate): Buffer {
  return whole(piecesToCertificate(plaintext, certificate));
}

/** The same in pieces. */
export function piecesToCertificate(plaintext: Octets, certificate: Certificate): Pieces {
  return envelope(plaintext, (contentKey) => recipientInfoFor(contentKey, certificate, "oaep"));
}

/**
 * Seals for any S/MIME client: EnvelopedData whose content key is Kc itself, transported to the recipient's certificate (patent claim 2);
 * ticket and broker stand beside it in unprotected attributes.
 */
export function sealEnclosed(
  plaintext: Octets,
  key: ContentKey,
  { certificate, transport }: { readonly certificate: Certificate; readonly transport: KeyTransport },
  shell: Omit<Shell, "expiresAt">,
): Pieces {
  const iv = randomBytes(CBC_BLOCK_OCTETS);
  const cipher = key.lend((content) => createCipheriv("aes-256-cbc", content, iv));
  const padded = octetsIn(plaintext) + CBC_BLOCK_OCTETS - (octetsIn(plaintext) % CBC_BLOCK_OCTETS); // RFC 5652 §6.3
  const ciphertext = madeLater(padded, () => through(cipher, plaintext));
  const recipientInfo = key.lend((content) => recipientInfoFor(content, certificate, transport));
  const attribute = (type: string, value: Buffer): Buffer => sequence(oid(type), setOf(value));
  const attributes = parse(setOf(attribute(OID.ticket, octetString(shell.ticket)), attribute(OID.brokerUrl, utf8String(shell.brokerUrl))));
  const content = contentPieces(sequence(oid(OID.aes256Cbc), octetString(iv)), ciphertext);
  const unprotected = encode(contextTag(1, "constructed"), attributes.content);
  return contentInfo(OID.envelopedData, integer(2), encode(TAG.set, recipientInfo), content, unprotected);
}

/** EncryptedContentInfo (RFC 5652 §6.1). */
function contentPieces(algorithm: Buffer, ciphertext: Pieces): Pieces {
  return pieces(TAG.sequence, oid(OID.data), algorithm, pieces(contextTag(0, "primitive"), ciphertext));
}

/** What a cipher makes of octets, as they are asked for. */
function* through(cipher: Cipher, plaintext: Octets): Generator<Buffer> {
  for (const slice of slices(plaintext)) yield cipher.update(slice);
  yield cipher.final();
}

/** ContentInfo around the fields of its content (RFC 5652 §3). */
function contentInfo(type: string, ...fields: readonly Octets[]): Pieces {
  const content = pieces(contextTag(0, "constructed"), pieces(TAG.sequence, ...fields));
  return pieces(TAG.sequence, oid(type), content);
}

/** How a key travels to an RSA certificate. `pkcs1` only for recipients whose client reads nothing better (RFC 8551 §2.3). */
export type KeyTransport = "oaep" | "pkcs1";

function recipientInfoFor(contentKey: Buffer, certificate: Certificate, transport: KeyTransport): Buffer {
  const recipient = sequence(certificate.issuer, certificate.serial);
  return certificate.publicKey.asymmetricKeyType === "rsa"
    ? keyTransport(contentKey, certificate.publicKey, recipient, transport)
    : keyAgreement(contentKey, certificate.publicKey, recipient);
}

function envelope(plaintext: Octets, recipientInfo: (contentKey: Buffer) => Buffer): Pieces {
  const random = randomBytes(32 + NONCE_OCTETS); // each call costs more than its octets
  const [contentKey, nonce] = [random.subarray(0, 32), random.subarray(32)];
  try {
    const cipher = createCipheriv("aes-256-gcm", contentKey, nonce, { authTagLength: TAG_OCTETS });
    const ciphertext = madeLater(octetsIn(plaintext), () => through(cipher, plaintext));
    const tag = madeLater(2 + TAG_OCTETS, () => [octetString(cipher.getAuthTag())]);
    const algorithm = sequence(oid(OID.aes256Gcm), sequence(octetString(nonce), integer(TAG_OCTETS)));
    const recipients = encode(TAG.set, recipientInfo(contentKey));
    return contentInfo(OID.authEnvelopedData, integer(0), recipients, contentPieces(algorithm, ciphertext), tag);
  } finally {
    contentKey.fill(0);
  }
}

/** AES key wrap: RFC 3394 §2.2.1. */
function wrap(kek: Buffer, contentKey: Buffer): Buffer {
  const cipher = createCipheriv("id-aes256-wrap", kek, WRAP_IV);
  return Buffer.concat([cipher.update(contentKey), cipher.final()]);
}

function keyTransport(contentKey: Buffer, key: KeyObject, recipient: Buffer, transport: KeyTransport): Buffer {
  const oaep = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: "sha256" };
  const encrypted = publicEncrypt({ key, ...(transport === "oaep" ? oaep : { padding: constants.RSA_PKCS1_PADDING }) }, contentKey);
  const algorithm = transport === "oaep" ? OAEP_ALGORITHMS[0] : sequence(oid(OID.rsaEncryption), derNull());
  return sequence(integer(0), recipient, algorithm ?? derNull(), octetString(encrypted));
}

function keyAgreement(contentKey: Buffer, key: KeyObject, recipient: Buffer): Buffer {
  if (key.asymmetricKeyDetails?.namedCurve !== "prime256v1") {
    throw new Fault("no-certificate", "the recipient's key is on another curve than P-256");
  }
  const { point, secret } = agreeOnce(pointOf(key));
  const kek = agreedKey(secret, WRAP_ALGORITHM, undefined);
  const originatorKey = encode(
    contextTag(1, "constructed"),
    sequence(oid(OID.ecPublicKey)),
    encode(TAG.bitString, Buffer.from([0]), point),
  );
  const info = encode(
    contextTag(1, "constructed"),
    integer(3),
    encode(contextTag(0, "constructed"), originatorKey),
    sequence(oid(OID.ecdhSha256), WRAP_ALGORITHM),
    sequence(sequence(recipient, octetString(wrap(kek, contentKey)))),
  );
  kek.fill(0);
  return info;
}

/** A pair that nothing was agreed with yet: making another in its place costs a third of making an object for each. */
const unused = createECDH("prime256v1");
let unusedPoint = unused.generateKeys();

/** Agrees with a public key; the ephemeral private key is overwritten at once. @returns our point and the secret */
function agreeOnce(publicPoint: Buffer): { readonly point: Buffer; readonly secret: Buffer } {
  try {
    return { point: unusedPoint, secret: unused.computeSecret(publicPoint) };
  } finally {
    unusedPoint = unused.generateKeys();
  }
}

const points = new WeakMap<KeyObject, Buffer>();

/** The point of a public key on P-256, uncompressed (SEC 1 §2.3.3). */
function pointOf(key: KeyObject): Buffer {
  const known = points.get(key);
  if (known) return known;
  const { x = "", y = "" } = key.export({ format: "jwk" });
  const point = Buffer.concat([Buffer.from([4]), Buffer.from(x, "base64url"), Buffer.from(y, "base64url")]);
  points.set(key, point);
  return point;
}

/** suppPubInfo: the length of the key-encryption key in bits; and the number of the only block that is derived (RFC 5753 §7.2, SEC 1 §3.6.1). */
const KEY_BITS = encode(contextTag(2, "constructed"), octetString(Buffer.from([0, 0, 1, 0])));
const COUNTER = Buffer.from([0, 0, 0, 1]);

/** The key-encryption key out of an agreed secret: X9.63 KDF with SHA-256 over ECC-CMS-SharedInfo (RFC 5753 §7.2). The secret is wiped. */
export function agreedKey(secret: Buffer, wrapAlgorithm: Buffer, userKeyingMaterial: Buffer | undefined): Buffer {
  const entropy = userKeyingMaterial ? [encode(contextTag(0, "constructed"), octetString(userKeyingMaterial))] : [];
  const sharedInfo = sequence(wrapAlgorithm, ...entropy, KEY_BITS);
  const input = Buffer.concat([secret, COUNTER, sharedInfo]);
  const kek = hash("sha256", input, "buffer");
  secret.fill(0);
  input.fill(0);
  return kek;
}
