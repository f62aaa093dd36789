/** Opening and binding (S8-S9): a letter is opened only if everything in it agrees with what was declared for it (docs/protocol.md, section 3). */
import type { Mailbox } from "./address.ts";
import type { Certificate, Trust } from "./certificate.ts";
import { decodedBody, parseEntity, splitMultipart } from "./entity.ts";
import { Fault } from "./fault.ts";
import type { ContentKey } from "./key.ts";
import { HELD, commitOf, signedPieces, type KeyHold, type SigningOrder } from "./letter.ts";
import { isSealed, type SealedMessage } from "./message.ts";
import { OID } from "./oids.ts";
import { openEnclosed } from "./open-enclosed.ts";
import { openWithKey, openWithPrivateKey, type Opener } from "./open.ts";
import { parsePayload, type Payload } from "./payload.ts";
import { isSame } from "./pieces.ts";
import { requestedContentId, type Original } from "./receipt.ts";
import { verify, type Verified } from "./sign.ts";

/** What must be true of a letter besides its envelope: the broker's row, and who we are. */
export interface Binding {
  readonly hold: KeyHold;
  readonly signing: SigningOrder;
  readonly sender: Mailbox;
  /** Our address and its aliases, as looked up. */
  readonly recipients: readonly string[];
  readonly messageId: string;
  readonly commit: string;
  /** Names the content in the receipt, hex. */
  readonly contentId: string;
  /** What a held envelope must name as its expiry. */
  readonly expiresAt: Date;
  readonly trust: Omit<Trust, "purpose" | "intermediates">;
}

export interface OpenedLetter {
  readonly payload: Payload;
  /** The multipart/signed entity, unchanged; undefined where the signature stood outside the envelope. */
  readonly entity: Buffer | undefined;
  readonly signer: Certificate;
  /** The signature that asks for a receipt. */
  readonly original: Original;
  /** What only who opened the letter knows; its SHA-256 is the commitment. */
  readonly openingValue: Buffer;
}

/**
 * Opens the letter and holds everything in it against the binding. Nothing of the text is returned unless all of it holds.
 * @param secrets.key Kc; undefined for the enclosed form, where it travels inside
 * @throws Fault `cannot-open`, whatever failed; the cause is for this side's log only
 */
export function openLetter(
  sealed: SealedMessage,
  secrets: { key: ContentKey | undefined; openers: readonly Opener[] },
  binding: Binding,
): OpenedLetter {
  try {
    if (sealed.hold !== binding.hold) throw new Fault("malformed", "the letter was declared in the other form");
    if (sealed.shell.expiresAt && sealed.shell.expiresAt.getTime() !== binding.expiresAt.getTime())
      throw new Fault("malformed", "the envelope names another expiry than was declared");
    if ((sealed.outside !== undefined) !== (binding.signing !== "inner"))
      throw new Fault("signature-invalid", "the letter was declared in another order of signing");
    const outside = sealed.outside && verifyBy(sealed.outside.signature, sealed.outside.content, binding); // before any key is used
    const innermost = open(sealed, secrets);
    const opened =
      binding.signing === "outer"
        ? bare(innermost, outside)
        : openSigned(innermost, (signature, payload) => verifyBy(signature, payload, binding));
    demand(opened, binding);
    return opened;
  } catch (cause) {
    throw new Fault("cannot-open", "the letter does not open or is not what was registered", { cause });
  }
}

function open(sealed: SealedMessage, { key, openers }: { key: ContentKey | undefined; openers: readonly Opener[] }): Buffer {
  if (sealed.hold === "enclosed") return openEnclosed(sealed.envelope, openers);
  if (!key) throw new Fault("internal", "the broker gave no key");
  const outer = openWithKey(sealed.envelope, key, sealed.use);
  const inner = parseEntity(outer);
  return isSealed(inner, HELD) ? openWithPrivateKey(decodedBody(inner), openers, sealed.use) : outer;
}

/** Verifies a signature and that it is the declared sender's. */
function verifyBy(signature: Buffer, content: Buffer, { sender, trust }: Binding): Verified {
  const verified = verify(signature, { ...trust, purpose: OID.emailProtection }, content);
  if (!verified.signer.mailboxes.includes(sender.key)) throw new Fault("signature-invalid", "the signer is not the declared sender");
  return verified;
}

/**
 * The payload of a signed letter that stood in an envelope, once its signature has verified.
 * @throws Fault `signature-invalid`, `malformed`
 */
export function openSigned(innermost: Buffer, verified: (signature: Buffer, payload: Buffer) => Verified): OpenedLetter {
  const entity = parseEntity(innermost);
  if (entity.contentType.type !== "multipart/signed") throw new Fault("signature-invalid", "the letter is not signed");
  const [payload, file, ...foreign] = splitMultipart(entity);
  if (!payload || !file || foreign.length > 0) throw new Fault("malformed", "not a payload with its signature");
  const signature = decodedBody(parseEntity(file));
  const original = verified(signature, payload);
  // No signature covers what stands around these two, and CBC lets anybody alter it; so it must be what our writer makes of them.
  if (!isSame(signedPieces(payload, signature, entity.contentType.parameters.get("boundary")), innermost))
    throw new Fault("malformed", "something stands around the signed payload");
  return { payload: parsePayload(payload), entity: innermost, signer: original.signer, original, openingValue: original.signature };
}

/** With the signature outside, the payload stands bare in the envelope that was signed; its nonce is what only an opener knows. */
function bare(innermost: Buffer, outside: Verified | undefined): OpenedLetter {
  if (!outside) throw new Fault("signature-invalid", "the letter is not signed");
  const payload = parsePayload(innermost);
  return { payload, entity: undefined, signer: outside.signer, original: outside, openingValue: payload.nonce };
}

function demand({ payload, signer, original, openingValue }: OpenedLetter, binding: Binding): void {
  const request = original.attribute(OID.receiptRequest);
  const bound: readonly (readonly [boolean, string])[] = [
    [commitOf(openingValue) === binding.commit, "not the content that was declared"],
    [payload.from.key === binding.sender.key, "From is not the declared sender"],
    [signer.mailboxes.includes(payload.from.key), "the signer is not the author"],
    [payload.recipients.some(({ key }) => binding.recipients.includes(key)), "the letter is not addressed to this mailbox"],
    [payload.messageId === binding.messageId, "another Message-ID was declared"],
    [
      request !== undefined && requestedContentId(request).toString("hex") === binding.contentId,
      "the receipt that is asked for was not declared",
    ],
  ];
  const broken = bound.find(([holds]) => !holds);
  if (broken) throw new Fault("signature-invalid", broken[1]);
}
