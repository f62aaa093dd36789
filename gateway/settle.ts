/** The rulings over a mail's recipients at DATA, and the notice about those who get nothing while the others get the letter. */
import type { Mailbox } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import { hash } from "node:crypto";
import type { Accepted } from "./accept.ts";
import { noticeMail } from "./notice.ts";
import type { Form, Policy } from "./policy.ts";
import { NO_CERTIFICATE_STATUS } from "./reply.ts";
import type { Submission, SubmittedRecipient } from "./submission.ts";
import { WORDS, type Language } from "./words.ts";

export interface ToSeal {
  readonly recipient: SubmittedRecipient;
  readonly form: Form;
}

export interface Settled {
  readonly sealed: readonly ToSeal[];
  readonly passed: readonly SubmittedRecipient[];
  readonly failed: readonly { readonly recipient: SubmittedRecipient; readonly advice: string }[];
}

/** @throws Fault `no-certificate` where nobody is left; `unavailable` */
export function settle(policy: Pick<Policy, "settle">, submission: Submission, { wish, isSealed }: Accepted): Settled {
  const sealed: ToSeal[] = [];
  const passed: SubmittedRecipient[] = [];
  const failed: { recipient: SubmittedRecipient; advice: string }[] = [];
  if (isSealed) return { sealed, passed: submission.recipients, failed };
  for (const recipient of submission.recipients) {
    const ruling = policy.settle(recipient, wish);
    if (ruling.outcome === "seal") sealed.push({ recipient, form: ruling.form });
    else if (ruling.outcome === "pass") passed.push(recipient);
    else failed.push({ recipient, advice: ruling.advice });
  }
  const [first, ...others] = failed;
  if (first && sealed.length + passed.length === 0) {
    const more = others.length === 0 ? "" : ` The same holds for ${others.length} more.`;
    throw new Fault("no-certificate", "no recipient can be sealed to", { advice: `${first.advice}${more}` });
  }
  return { sealed, passed, failed };
}

/** What the notice about the others needs. */
export interface MixedNotice {
  readonly host: string;
  readonly sender: Mailbox;
  readonly language: Language;
  readonly letter: string;
  readonly envelopeId: string | undefined;
  readonly now: Date;
}

/** One notice for all of them. @returns undefined where there is nobody, or nobody of whom the sender wants to hear (RFC 3461 §4.1) */
export function mixedNotice(
  { failed }: Settled,
  { message, messageId }: Accepted,
  about: MixedNotice,
): { readonly id: string; readonly mail: Buffer } | undefined {
  const { host, sender, language, letter, envelopeId, now } = about;
  const told = failed.filter(({ recipient: { notify } }) => notify.length === 0 || notify.includes("FAILURE"));
  if (told.length === 0) return undefined;
  const left = told.map(({ recipient, advice }) => ({ recipient: recipient.mailbox.address, reason: advice }));
  const id = hash("sha256", `mixed ${letter}`).slice(0, 32);
  const recipients = told.map(({ recipient, advice }) => ({
    recipient: recipient.mailbox.address,
    originalRecipient: recipient.originalRecipient,
    status: NO_CERTIFICATE_STATUS,
    answer: advice,
  }));
  const header = message.fields.filter(({ name }) => ["from", "to", "cc", "date", "message-id"].includes(name)); // what stands outside anyway
  const failures = { acceptedAt: now, envelopeId, recipients, header };
  const text = WORDS[language].mixed({ messageId, left });
  return { id, mail: noticeMail({ host, to: sender.address, language, text, id, now, about: messageId, failures }) };
}
