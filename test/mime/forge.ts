/** Envelopes that Kakitome never writes, each of them genuine in its cryptography: only a rule of ours can refuse it. */
import { createCipheriv, createDecipheriv, randomBytes, type CipherGCMTypes } from "node:crypto";
import { TAG, contextTag, encode, integer, octetString, octetsOf, oid, parse, sequence } from "../../mime/der.ts";
import type { ContentKey } from "../../mime/key.ts";
import { OID } from "../../mime/oids.ts";
import { WRAP_IV } from "../../mime/seal.ts";
import { AT, at, edit } from "./tree.ts";

export const AES_OIDS = {
  "aes-128-gcm": "2.16.840.1.101.3.4.1.6",
  "aes-192-gcm": "2.16.840.1.101.3.4.1.26",
  "aes-256-gcm": OID.aes256Gcm,
} as const satisfies Partial<Record<CipherGCMTypes, string>>;

/** What is different in a forged envelope; the rest is as it should be. */
export interface Forgery {
  readonly cipher?: keyof typeof AES_OIDS;
  readonly nonceOctets?: number;
  readonly tagOctets?: number;
  /** What stands as ICVlen; null leaves it out, which means 12 (RFC 5084 §3.2). */
  readonly writtenTagOctets?: number | null;
  /** Authenticated attributes, DER of the SET OF. */
  readonly attributes?: Buffer;
  readonly contentType?: string;
}

/** Seals the plaintext under Kc like sealWithKey, with the KEKRecipientInfo of that envelope but for the wrapped key. */
export function forge(like: Buffer, key: ContentKey, plaintext: Buffer, forgery: Forgery = {}): Buffer {
  const { cipher = "aes-256-gcm", nonceOctets = 12, tagOctets = 16, contentType = OID.data, attributes } = forgery;
  const contentKey = randomBytes(Number(cipher.slice(4, 7)) / 8);
  const nonce = randomBytes(nonceOctets);
  const gcm = createCipheriv(cipher, contentKey, nonce, { authTagLength: 16 });
  if (attributes) gcm.setAAD(attributes);
  const ciphertext = Buffer.concat([gcm.update(plaintext), gcm.final()]);
  const tag = gcm.getAuthTag().subarray(0, tagOctets); // a shorter tag is the front of the full one, NIST SP 800-38D
  const written = forgery.writtenTagOctets === undefined ? tagOctets : forgery.writtenTagOctets;
  const parameters = sequence(octetString(nonce), ...(written === null ? [] : [integer(written)]));
  const withKey = edit(like, [...AT.recipient, 3], () => [octetString(wrapped(key, contentKey))]);
  return sequence(
    oid(OID.authEnvelopedData),
    encode(
      contextTag(0, "constructed"),
      sequence(
        integer(0),
        at(withKey, AT.recipients).encoding,
        sequence(oid(contentType), sequence(oid(AES_OIDS[cipher]), parameters), encode(contextTag(0, "primitive"), ciphertext)),
        ...(attributes ? [encode(contextTag(1, "constructed"), parse(attributes).content)] : []),
        octetString(tag),
      ),
    ),
  );
}

function wrapped(key: ContentKey, contentKey: Buffer): Buffer {
  return key.lend((kek) => {
    const cipher = createCipheriv("id-aes256-wrap", kek, WRAP_IV);
    return Buffer.concat([cipher.update(contentKey), cipher.final()]);
  });
}

/** The content key of a held envelope, which whoever has Kc can take out. */
export function contentKeyOf(envelope: Buffer, key: ContentKey): Buffer {
  return key.lend((kek) => {
    const decipher = createDecipheriv("id-aes256-wrap", kek, WRAP_IV);
    return Buffer.concat([decipher.update(octetsOf(at(envelope, [...AT.recipient, 3]))), decipher.final()]);
  });
}

/** The envelope in BER as Thunderbird streams it: indefinite lengths, the ciphertext in segments. */
export function streamed(envelope: Buffer, segment: number): Buffer {
  const open = (tag: number, ...parts: readonly Buffer[]): Buffer =>
    Buffer.concat([Buffer.from([tag, 0x80]), ...parts, Buffer.from([0, 0])]);
  const { content } = at(envelope, AT.ciphertext);
  const segments = Array.from({ length: Math.ceil(content.length / segment) }, (_, index) =>
    octetString(content.subarray(index * segment, (index + 1) * segment)),
  );
  const part = (path: readonly number[]): Buffer => at(envelope, path).encoding;
  const encrypted = open(TAG.sequence, part(AT.contentType), part(AT.algorithm), open(0xa0, ...segments));
  return open(TAG.sequence, part(AT.type), open(0xa0, open(TAG.sequence, part(AT.version), part(AT.recipients), encrypted, part(AT.mac))));
}
