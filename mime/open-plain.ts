/** Plain S/MIME that a gateway of the same broker wrote while the broker was away: sealed to our certificate, signed inside, without a ticket (RFC 8551 §3.5). */
import { openSigned, type OpenedLetter } from "./bind.ts";
import type { Trust } from "./certificate.ts";
import { decodedBody, parseEntity } from "./entity.ts";
import { Fault } from "./fault.ts";
import { HELD } from "./letter.ts";
import { isSealed } from "./message.ts";
import { OID } from "./oids.ts";
import { isSealedTo, openWithPrivateKey, type Opener } from "./open.ts";
import { verify } from "./sign.ts";

/** The envelope of a mail that is sealed to one of the certificates and nothing else; undefined where it is no such mail. */
export function readPlain(mail: Buffer, openers: readonly Opener[]): Buffer | undefined {
  try {
    const entity = parseEntity(mail);
    const envelope = isSealed(entity, HELD) ? decodedBody(entity) : undefined;
    return envelope && isSealedTo(envelope, openers) ? envelope : undefined;
  } catch {
    return undefined; // mail that cannot be read as MIME is not ours
  }
}

/**
 * Opens it. Its author must be who signed, with a certificate of the broker's authority, and this mailbox must be among those it is addressed to.
 * @param to.recipients our address and its aliases, as looked up
 * @throws Fault `cannot-open`, whatever failed; the cause is for this side's log only
 */
export function openPlain(
  envelope: Buffer,
  openers: readonly Opener[],
  to: { readonly recipients: readonly string[]; readonly trust: Omit<Trust, "purpose" | "intermediates"> },
): OpenedLetter {
  try {
    const trust = { ...to.trust, purpose: OID.emailProtection };
    const opened = openSigned(openWithPrivateKey(envelope, openers), (signature, payload) => verify(signature, trust, payload));
    const { payload, signer } = opened;
    if (!signer.mailboxes.includes(payload.from.key)) throw new Fault("signature-invalid", "the signer is not the author");
    if (!payload.recipients.some(({ key }) => to.recipients.includes(key)))
      throw new Fault("signature-invalid", "the letter is not addressed to this mailbox");
    return opened;
  } catch (cause) {
    throw new Fault("cannot-open", "the letter does not open or is not its author's", { cause });
  }
}
