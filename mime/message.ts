/** A sealed letter as a mail: built from a signed payload (S4), found again in a mailbox (S6), opened and bound (S8-S9). */
import type { Mailbox } from "./address.ts";
import type { Certificate, Trust } from "./certificate.ts";
import { base64Entity, decodedBody, encodeBase64, multipart, parseEntity, splitMultipart, type Entity } from "./entity.ts";
import { Fault } from "./fault.ts";
import { field, joinMessage, type HeaderField } from "./headers.ts";
import type { ContentKey } from "./key.ts";
import { noticePart } from "./notice.ts";
import { OID } from "./oids.ts";
import { openWithKey, openWithPrivateKey, readShell, type Opener } from "./open.ts";
import { parsePayload, type Payload } from "./payload.ts";
import { sealToCertificate, sealWithKey, type Shell } from "./seal.ts";
import { sign, verify, type Signer } from "./sign.ts";
import { createHash } from "node:crypto";

const SEALED_TYPE = "application/pkcs7-mime";
const SMIME_TYPE = "authEnveloped-data";

/** A payload with its signature beside it: the innermost layer. */
export interface SignedLetter {
  /** The multipart/signed entity. */
  readonly entity: Buffer;
  /** The detached signature, DER: kept by the sender for proof. */
  readonly signatureFile: Buffer;
  /** SHA-256 of the signature value, hex: only who opens the letter can know it (docs/protocol.md, section 4). */
  readonly commit: string;
}

const commitOf = (signature: Buffer): string => createHash("sha256").update(signature).digest("hex");

/** Signs the payload and joins both into multipart/signed (RFC 8551 §3.5.3). */
export function signLetter(payload: Buffer, signer: Signer, time: Date): SignedLetter {
  const { der, signature } = sign(payload, signer, { time, detached: true });
  const file = base64Entity('application/pkcs7-signature; name="smime.p7s"', der, 'attachment; filename="smime.p7s"');
  const entity = multipart("signed", [payload, file], { parameters: 'protocol="application/pkcs7-signature"; micalg=sha-256' });
  return { entity, signatureFile: der, commit: commitOf(signature) };
}

/** What sealing one copy needs besides the letter. */
export interface SealOrder {
  readonly key: ContentKey;
  readonly shell: Shell;
  /** The recipient's encryption certificate for the inner layer; undefined leaves that layer out. */
  readonly dual: Certificate | undefined;
}

/** The envelope of one copy, DER: the signed letter, sealed to the recipient, sealed under Kc. */
export function sealLetter(letter: SignedLetter, { key, shell, dual }: SealOrder): Buffer {
  return sealWithKey(dual ? innerEnvelope(letter.entity, dual) : letter.entity, key, shell);
}

function innerEnvelope(entity: Buffer, certificate: Certificate): Buffer {
  return joinMessage(
    [field("Content-Type", `${SEALED_TYPE}; smime-type=${SMIME_TYPE}; name="smime.p7m"`), field("Content-Transfer-Encoding", "binary")],
    sealToCertificate(entity, certificate),
  );
}

/** The mail that carries an envelope: a notice for people, the envelope for the gateway. @param outer fields above it */
export function sealedMessage(envelope: Buffer, outer: readonly HeaderField[], sender: Mailbox, shell: Shell): Buffer {
  const sealed = joinMessage(
    [
      field("Content-Type", `${SEALED_TYPE}; smime-type=${SMIME_TYPE};\r\n name="registered.p7m"`),
      field("Content-Transfer-Encoding", "base64"),
      field("Content-Disposition", 'attachment; filename="registered.p7m"'),
    ],
    encodeBase64(envelope),
  );
  return multipart("mixed", [noticePart(sender, shell.brokerUrl, shell.expiresAt), sealed], {
    fields: [...outer, field("MIME-Version", "1.0")],
  });
}

export interface SealedMessage {
  readonly envelope: Buffer;
  readonly shell: Shell;
}

const isSealed = ({ contentType }: Entity): boolean =>
  (contentType.type === SEALED_TYPE || contentType.type === "application/x-pkcs7-mime") &&
  contentType.parameters.get("smime-type")?.toLowerCase() === SMIME_TYPE.toLowerCase();

/**
 * Finds the envelope in a mail of exactly the shape that `sealedMessage` writes.
 * @returns undefined where the mail does not claim to be a registered letter
 * @throws Fault `malformed` where it claims to be one and is not
 */
export function readSealed(mail: Buffer): SealedMessage | undefined {
  const parts = shapeOf(mail);
  if (!parts) return undefined;
  const envelope = decodedBody(parts);
  return { envelope, shell: readShell(envelope) };
}

function shapeOf(mail: Buffer): Entity | undefined {
  try {
    const top = parseEntity(mail);
    if (top.contentType.type !== "multipart/mixed") return undefined;
    const [notice, sealed, ...foreign] = splitMultipart(top).map((part) => parseEntity(part));
    const exact = notice?.contentType.type === "text/plain" && sealed && isSealed(sealed) && foreign.length === 0;
    return exact ? sealed : undefined;
  } catch {
    return undefined; // mail that cannot be read as MIME is not ours
  }
}

/** What must be true of a letter besides its envelope: the broker's row, and who we are (docs/protocol.md, section 3). */
export interface Binding {
  readonly sender: Mailbox;
  /** Our address and its aliases, as looked up. */
  readonly recipients: readonly string[];
  readonly messageId: string;
  readonly commit: string;
  readonly trust: Omit<Trust, "purpose" | "intermediates">;
}

export interface OpenedLetter {
  readonly payload: Payload;
  /** The multipart/signed entity, unchanged. */
  readonly entity: Buffer;
  readonly signer: Certificate;
}

/**
 * Opens the envelope and holds everything in it against the binding. Nothing of the text is returned unless all of it holds.
 * @throws Fault `cannot-open`, whatever failed; the cause is for this side's log only
 */
export function openLetter(envelope: Buffer, secrets: { key: ContentKey; openers: readonly Opener[] }, binding: Binding): OpenedLetter {
  try {
    const outer = openWithKey(envelope, secrets.key);
    const inner = parseEntity(outer);
    const entity = isSealed(inner) ? openWithPrivateKey(decodedBody(inner), secrets.openers) : outer;
    return { ...verifyLetter(entity, binding), entity };
  } catch (cause) {
    throw new Fault("cannot-open", "the letter does not open or is not what was registered", { cause });
  }
}

function verifyLetter(entity: Buffer, binding: Binding): { payload: Payload; signer: Certificate } {
  const signed = parseEntity(entity);
  if (signed.contentType.type !== "multipart/signed") throw new Fault("signature-invalid", "the letter is not signed");
  const [payloadBytes, file, ...foreign] = splitMultipart(signed);
  if (!payloadBytes || !file || foreign.length > 0) throw new Fault("malformed", "not a payload with its signature");
  const verified = verify(decodedBody(parseEntity(file)), { ...binding.trust, purpose: OID.emailProtection }, payloadBytes);
  if (commitOf(verified.signature) !== binding.commit) throw new Fault("signature-invalid", "not the content that was declared");
  const payload = parsePayload(payloadBytes);
  const bound: readonly (readonly [boolean, string])[] = [
    [payload.from.key === binding.sender.key, "From is not the declared sender"],
    [verified.signer.mailboxes.includes(payload.from.key), "the signer is not the author"],
    [payload.recipients.some(({ key }) => binding.recipients.includes(key)), "the letter is not addressed to this mailbox"],
    [payload.messageId === binding.messageId, "another Message-ID was declared"],
  ];
  const broken = bound.find(([holds]) => !holds);
  if (broken) throw new Fault("signature-invalid", broken[1]);
  return { payload, signer: verified.signer };
}
