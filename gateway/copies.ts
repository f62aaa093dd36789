/** The copies of a letter: signed once for everyone who may know of one another, sealed for each recipient on its own (S4; docs/protocol.md, section 2.5). */
import { randomBytes } from "node:crypto";
import type { Grant, Identity } from "../broker/client.ts";
import { parseAddressList, type Mailbox } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import { fieldsNamed, valueOf, type HeaderField, type SplitMessage } from "../mime/headers.ts";
import { sealInPieces, signLetter, type SealedCopy, type SignedLetter, type Signing } from "../mime/letter.ts";
import { outerFields, payloadPieces } from "../mime/payload.ts";
import type { Form } from "./policy.ts";
import type { ToSeal } from "./settle.ts";
import { encodedWords } from "./subject.ts";
import type { SubmittedRecipient } from "./submission.ts";

/** One recipient's copy before the broker was asked. */
export interface Copy {
  readonly recipient: SubmittedRecipient;
  readonly form: Form;
  /** The fields that stand outside. */
  readonly outer: readonly HeaderField[];
  readonly letter: SignedLetter;
  readonly signing: Signing;
}

export interface CopyParts {
  readonly message: SplitMessage;
  readonly identity: Identity;
  readonly brokerUrl: string;
  readonly time: Date;
}

/** Everyone in To and Cc whose form is the same shares one signed letter; each blind recipient gets one that names nobody else. */
export function signCopies(parts: CopyParts, recipients: readonly ToSeal[]): Copy[] {
  const named = new Set(["to", "cc"].flatMap((name) => fieldsNamed(parts.message.fields, name).flatMap((item) => keysIn(item))));
  const common = new Map<string, Signed>();
  return recipients.map(({ recipient, form }) => {
    if (!named.has(recipient.mailbox.key)) return { recipient, form, ...signOne(parts, form, recipient.mailbox) };
    const kind = `${form.hold} ${form.signing} ${form.subject}`;
    const shared = common.get(kind) ?? signOne(parts, form);
    common.set(kind, shared);
    return { recipient, form, ...shared };
  });
}

type Signed = Pick<Copy, "letter" | "signing" | "outer">;

function signOne(parts: CopyParts, { hold, signing: order, subject }: Form, bcc?: Mailbox): Signed {
  const { message, identity, brokerUrl, time } = parts;
  const outer = outerFields(message, encodedWords(subject));
  const random = randomBytes(56); // each call costs more than its octets
  const [nonce, contentId] = [random.subarray(0, 24), random.subarray(24)];
  const signing: Signing = { order, signer: identity.signer, time, contentId, brokerUrl };
  const payload = payloadPieces(message, { outer, nonce, legacyDisplay: hold === "enclosed", ...(bcc && { bcc }) });
  return { letter: signLetter(payload, nonce, signing), signing, outer };
}

function keysIn(item: HeaderField): string[] {
  try {
    return parseAddressList(valueOf(item)).map(({ key }) => key);
  } catch {
    return []; // whoever is named there in an unreadable way gets a copy that names them
  }
}

/** Seals a copy with what the broker granted for it. @param dual whether a held letter is sealed to its recipient as well */
export function sealCopy(
  { letter, signing, form, outer: fields }: Copy,
  grant: Grant,
  trace: HeaderField,
  author: Mailbox,
  dual: boolean,
): SealedCopy {
  const shell = { ticket: grant.ticket, brokerUrl: signing.brokerUrl, expiresAt: grant.expiresAt };
  const outer = [trace, ...fields];
  const certificate = grant.encryptionCertificate ?? form.certificate;
  if (form.hold === "held")
    return sealInPieces(letter, { hold: "held", key: grant.key, shell, dual: dual ? certificate : undefined }, outer, author, signing);
  if (!certificate) throw new Fault("no-certificate", "no certificate for the enclosed form");
  return sealInPieces(letter, { hold: "enclosed", key: grant.key, shell, certificate, transport: form.transport }, outer, author, signing);
}
