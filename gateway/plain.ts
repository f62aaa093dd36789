/** Plain S/MIME, signed and encrypted to its recipient's certificate, for the time in which the broker is away: no ticket, no receipt (RFC 8551 §3.3, §3.5). */
import { hash, randomBytes } from "node:crypto";
import { parseAddressList } from "../mime/address.ts";
import type { Certificate } from "../mime/certificate.ts";
import { base64EntityPieces } from "../mime/entity.ts";
import { field, fieldsNamed, valueOf, type HeaderField, type SplitMessage } from "../mime/headers.ts";
import { HELD, SEALED_TYPE, signedPieces } from "../mime/letter.ts";
import { outerFields, payloadPieces } from "../mime/payload.ts";
import { piecesToCertificate } from "../mime/seal.ts";
import { sign, type Signer } from "../mime/sign.ts";
import type { Pieces } from "../mime/pieces.ts";
import type { ToSeal } from "./settle.ts";
import { encodedWords } from "./subject.ts";

/** One recipient's copy. @param parts.trace stands above the other fields */
export function plainCopy(
  message: SplitMessage,
  { recipient, form }: ToSeal,
  certificate: Certificate,
  { signer, time, trace }: { signer: Signer; time: Date; trace: HeaderField },
): { readonly mail: Pieces; readonly signatureFile: Buffer; readonly commit: string } {
  const outer = outerFields(message, encodedWords(form.subject));
  const isNamed = ["to", "cc"].some((name) =>
    fieldsNamed(message.fields, name).some((item) => keysIn(item).includes(recipient.mailbox.key)),
  );
  const bcc = isNamed ? {} : { bcc: recipient.mailbox };
  const payload = payloadPieces(message, { outer, nonce: randomBytes(24), legacyDisplay: true, ...bcc });
  const { der, signature } = sign(payload, signer, { time, detached: true });
  const sealed = piecesToCertificate(signedPieces(payload, der), certificate);
  const head = [trace, ...outer, field("MIME-Version", "1.0")];
  const type = `${SEALED_TYPE}; smime-type=${HELD}; name="smime.p7m"`;
  const mail = base64EntityPieces(type, sealed, 'attachment; filename="smime.p7m"', head);
  return { mail, signatureFile: der, commit: hash("sha256", signature) };
}

function keysIn(item: HeaderField): string[] {
  try {
    return parseAddressList(valueOf(item)).map(({ key }) => key);
  } catch {
    return [];
  }
}
