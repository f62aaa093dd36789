/** A letter on its way out (S4): signed, sealed for one recipient, and dressed as a mail, in the form and the order of signing that were chosen. */
import { hash } from "node:crypto";
import type { Mailbox } from "./address.ts";
import type { Certificate } from "./certificate.ts";
import { base64EntityPieces, base64Pieces, multipartPieces } from "./entity.ts";
import { field, messagePieces, splitMessage, type HeaderField } from "./headers.ts";
import type { ContentKey } from "./key.ts";
import { noticePart } from "./notice.ts";
import { joined, whole, type Octets, type Pieces } from "./pieces.ts";
import { receiptRequest } from "./receipt.ts";
import { heldPieces, piecesToCertificate, sealEnclosed, type KeyTransport, type Shell } from "./seal.ts";
import { sign, type Signer } from "./sign.ts";

/** `held`: Kc is kept back by the broker. `enclosed`: Kc travels inside, sealed to the recipient (claim 2). */
export type KeyHold = "held" | "enclosed";

/** `inner`: sign, then seal (data A). `outer`: seal, then sign (data B). `both`: triple wrap (RFC 2634 §1.1). */
export type SigningOrder = "inner" | "outer" | "both";

export const SEALED_TYPE = "application/pkcs7-mime";
export const HELD = "authEnveloped-data";
export const ENCLOSED = "enveloped-data";

export interface Signing {
  readonly order: SigningOrder;
  readonly signer: Signer;
  readonly time: Date;
  /** 32 random octets that name this content in the recipient's receipt. */
  readonly contentId: Buffer;
  readonly brokerUrl: string;
}

/** What goes into an envelope, and what only its opener will know of it. */
export interface SignedLetter {
  /** The innermost entity: multipart/signed, or with `outer` the bare payload. */
  readonly entity: Octets;
  /** The detached signature of the payload, DER; undefined with `outer`, where the signature is over the sealed copy. */
  readonly signatureFile: Buffer | undefined;
  /** SHA-256 of the value that only who opens the letter can know, hex (docs/protocol.md, section 4). */
  readonly commit: string;
}

/** SHA-256 of an opening value, hex. */
export function commitOf(openingValue: Buffer): string {
  return hash("sha256", openingValue);
}

/** Signs the payload, where the order wants that done before sealing. @param nonce the payload's Registered-Mail-Nonce */
export function signLetter(payload: Octets, nonce: Buffer, signing: Signing): SignedLetter {
  if (signing.order === "outer") return { entity: payload, signatureFile: undefined, commit: commitOf(nonce) };
  const { entity, file, signature } = signedEntity(payload, signing, true);
  return { entity, signatureFile: file, commit: commitOf(signature) };
}

/** multipart/signed of an entity (RFC 8551 §3.5.3). */
function signedEntity(octets: Octets, { signer, time, contentId, brokerUrl }: Signing, wantsReceipt: boolean) {
  const content = joined(octets);
  const attributes = wantsReceipt ? [receiptRequest(contentId, brokerUrl)] : [];
  const { der, signature } = sign(content, signer, { time, detached: true, attributes });
  return { entity: signedPieces(content, der), file: der, signature };
}

const SIGNATURE_FIELDS = [
  field("Content-Type", 'application/pkcs7-signature; name="smime.p7s"'),
  field("Content-Transfer-Encoding", "base64"),
  field("Content-Disposition", 'attachment; filename="smime.p7s"'),
];

/** The one way in which content and signature are put together. @param boundary a random one where left out */
export function signedPieces(content: Octets, signature: Buffer, boundary?: string): Pieces {
  const file = messagePieces(SIGNATURE_FIELDS, base64Pieces(signature));
  const parameters = 'protocol="application/pkcs7-signature"; micalg=sha-256';
  return multipartPieces("signed", [content, file], { parameters, ...(boundary !== undefined && { boundary }) });
}

/** What sealing one copy needs besides the letter. */
export type SealOrder = { readonly key: ContentKey; readonly shell: Shell } & (
  | { readonly hold: "held"; /** For the inner layer; undefined leaves it out. */ readonly dual: Certificate | undefined }
  | { readonly hold: "enclosed"; readonly certificate: Certificate; readonly transport: KeyTransport }
);

export interface SealedCopy<Mail = Pieces> {
  readonly mail: Mail;
  /** The signature that asks for the recipient's receipt, DER. */
  readonly signatureFile: Buffer;
}

/** Seals the letter for one recipient and dresses it as a mail. @param outer the fields that stand outside */
export function sealLetter(...order: Parameters<typeof sealInPieces>): SealedCopy<Buffer> {
  const { mail, ...copy } = sealInPieces(...order);
  return { ...copy, mail: whole(mail) };
}

/** The same in pieces; Kc has done its part when this returns, and the letter is sealed piece by piece as it is written out. */
export function sealInPieces(
  letter: SignedLetter,
  order: SealOrder,
  outer: readonly HeaderField[],
  sender: Mailbox,
  signing: Signing,
): SealedCopy {
  const top = [...outer, field("MIME-Version", "1.0")];
  const head = signing.order === "inner" ? top : [];
  const sealed = order.hold === "held" ? heldEntity(letter.entity, order, sender, head) : enclosedEntity(letter.entity, order, head);
  if (signing.order === "inner") return { mail: sealed, signatureFile: letter.signatureFile ?? Buffer.alloc(0) };
  const { entity, file } = signedEntity(whole(sealed), signing, signing.order === "outer"); // which goes through it twice
  const { fields, body } = splitMessage(whole(entity));
  return { mail: messagePieces([...top, ...fields], body), signatureFile: letter.signatureFile ?? file };
}

const HELD_FIELDS = [
  field("Content-Type", `${SEALED_TYPE}; smime-type=${HELD};\r\n name="registered.p7m"`),
  field("Content-Transfer-Encoding", "base64"),
  field("Content-Disposition", 'attachment; filename="registered.p7m"'),
];
const INNER_FIELDS = [
  field("Content-Type", `${SEALED_TYPE}; smime-type=${HELD}; name="smime.p7m"`),
  field("Content-Transfer-Encoding", "binary"),
];

/** A notice for people, the envelope for the gateway. @param head fields to stand on top */
function heldEntity(
  entity: Octets,
  { key, shell, dual }: Extract<SealOrder, { hold: "held" }>,
  sender: Mailbox,
  head: readonly HeaderField[],
): Pieces {
  const envelope = heldPieces(dual ? innerEnvelope(entity, dual) : entity, key, shell);
  const parts = [noticePart(sender, shell.brokerUrl, shell.expiresAt), messagePieces(HELD_FIELDS, base64Pieces(envelope))];
  return multipartPieces("mixed", parts, { fields: head });
}

function innerEnvelope(entity: Octets, certificate: Certificate): Pieces {
  return messagePieces(INNER_FIELDS, piecesToCertificate(entity, certificate));
}

/** As every S/MIME client reads it (RFC 8551 §3.3). @param head fields to stand on top */
function enclosedEntity(
  entity: Octets,
  { key, shell, ...recipient }: Extract<SealOrder, { hold: "enclosed" }>,
  head: readonly HeaderField[],
): Pieces {
  const envelope = sealEnclosed(entity, key, recipient, shell);
  return base64EntityPieces(`${SEALED_TYPE}; smime-type=${ENCLOSED}; name="smime.p7m"`, envelope, 'attachment; filename="smime.p7m"', head);
}
