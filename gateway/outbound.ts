/** The outbound walk: a message from SMTP DATA to the spool (patent S1-S5). It reads downwards in the order of the steps. */
import { createHash, randomBytes } from "node:crypto";
import { ticketHash, type BrokerClient, type Grant, type Identity } from "../broker/client.ts";
import { haltAt } from "../config/halt.ts";
import type { Log } from "../config/log.ts";
import type { GatewayConfig } from "../config/schema.ts";
import type { Mailbox } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import { field, joinMessage, type HeaderField, type SplitMessage } from "../mime/headers.ts";
import type { SealedCopy } from "../mime/letter.ts";
import { outerFields } from "../mime/payload.ts";
import { toCrlf } from "../mime/entity.ts";
import { accept, type Accepted } from "./accept.ts";
import { sealCopy, signCopies, type Copy } from "./copies.ts";
import type { Identities } from "./identity.ts";
import type { Letter } from "./letters.ts";
import type { Policy } from "./policy.ts";
import type { Relay } from "./relay.ts";
import type { Spool } from "./spool.ts";
import type { Submission, SubmittedRecipient } from "./submission.ts";

/** What sealing needs. */
export interface SealingParts {
  readonly broker: BrokerClient;
  readonly policy: Pick<Policy, "formFor">;
  readonly log: Log;
  /** Host name of this gateway. */
  readonly name: string;
  readonly brokerUrl: string;
  readonly rules: Pick<GatewayConfig["policy"], "subject" | "expiry" | "dual" | "confirm">;
  identityOf(mailbox: Mailbox): Identity;
  now(): Date;
}

/** What the whole walk needs. */
export interface OutboundParts extends SealingParts {
  readonly spool: Spool;
  readonly relay: Relay;
}

/** The sealing parts of a gateway out of its configuration. */
export function outboundParts(desk: {
  config: GatewayConfig;
  broker: BrokerClient;
  policy: Policy;
  identities: Identities;
  log: Log;
  now(): Date;
}): SealingParts {
  const { config, broker, policy, identities, log, now } = desk;
  const identityOf = identities.of.bind(identities);
  return { broker, policy, log, name: config.name, brokerUrl: config.broker.url, rules: config.policy, identityOf, now };
}

/** A recipient's sealed copy with everything that is to be kept of it. */
interface SealedFor extends SealedCopy {
  readonly recipient: SubmittedRecipient;
  readonly ticket: Buffer;
  readonly commit: string;
}

export interface Sealed {
  readonly message: SplitMessage;
  readonly author: Mailbox;
  readonly messageId: string;
  readonly copies: readonly SealedFor[];
}

/**
 * Seals and spools a submission; when it resolves every copy is durable, and the client may be told so. A client that did not hear
 * our answer sends the same message again: it is accepted once.
 * @returns the id of the spool entry
 * @throws Fault; then nothing was spooled, and the rows that the broker may have made vanish unseen
 */
export async function consign(parts: OutboundParts, submitted: Submission, signal: AbortSignal): Promise<string> {
  haltAt("a2");
  const accepted = accept(submitted, parts.name, parts.now());
  const submission = accepted.isSealed ? asItIs(submitted) : submitted;
  const id = idOf(submission, accepted);
  const isNew = await parts.spool.once(id, async () => {
    const passed = submission.recipients.filter(({ decision }) => decision === "pass");
    const sealed = await sealSubmission(parts, submission, accepted, id, signal); // S1-S4
    haltAt("a5");
    await passOn(parts, submission, sealed, passed, id);
    if (sealed.copies.length > 0) {
      const spooled = await parts.spool.put(entryOf(parts, submission, id, sealed), sealed.copies.map(consignment)); // S5
      haltAt("a7");
      parts.relay.take(spooled);
    } else await parts.spool.remember(id);
    parts.log.info({ event: "letter.accepted", letter: id, sealed: sealed.copies.length, passed: passed.length });
  });
  if (!isNew) parts.log.info({ event: "letter.accepted-before", letter: id });
  return id;
}

/**
 * A registered letter that is submitted again, resent by a person or brought by a mail server in front, goes on unopened and unsealed:
 * to seal it twice would hide it from its recipient, to refuse it would lose it where two gateways stand in a row. What circles is
 * stopped by its trace fields (shape.ts).
 */
function asItIs(submission: Submission): Submission {
  return { ...submission, recipients: submission.recipients.map((recipient) => ({ ...recipient, decision: "pass" as const })) };
}

/** Names a submission by its octets and its envelope. Only a Message-ID tells a repetition from another message with the same words. */
function idOf({ message, sender, recipients }: Submission, { hasOwnId }: Accepted): string {
  if (!hasOwnId) return randomBytes(16).toString("hex");
  const envelope = [sender.address, ...recipients.map(({ mailbox }) => mailbox.key).sort()];
  return createHash("sha256").update(JSON.stringify(envelope)).update(toCrlf(message)).digest("hex").slice(0, 32);
}

/** S1-S4: signs, declares and seals for the recipients that the policy wants sealed; Kc is wiped before it returns. */
export async function sealSubmission(
  parts: SealingParts,
  submission: Submission,
  accepted: Accepted,
  id: string,
  signal: AbortSignal,
): Promise<Sealed> {
  const { message, author, messageId } = accepted;
  const recipients = submission.recipients.filter(({ decision }) => decision === "seal");
  if (recipients.length === 0) return { message, author, messageId, copies: [] };
  const log = parts.log.with({ letter: id });
  const identity = parts.identityOf(author);
  const outer = outerFields(message, parts.rules.subject);
  const formFor = parts.policy.formFor.bind(parts.policy);
  const copies = signCopies({ message, outer, identity, brokerUrl: parts.brokerUrl, time: parts.now(), formFor }, recipients);
  log.info({ event: "letter.declared", step: "S1", recipients: copies.length });
  haltAt("a3");
  const grants = await parts.broker.declare(declaration(parts, accepted, copies), identity, signal); // S1-S3
  haltAt("a4");
  try {
    log.info({ event: "letter.granted", step: "S3", recipients: grants.length });
    const above = [received(parts, submission, id), ...outer];
    const sealed = copies.map((copy, at) => sealedFor(copy, grants[at], above, author, parts.rules.dual)); // S4
    log.info({ event: "letter.sealed", step: "S4", octets: sealed.reduce((sum, { mail }) => sum + mail.length, 0) });
    return { message, author, messageId, copies: sealed };
  } finally {
    for (const { key } of grants) key.wipe();
  }
}

function sealedFor(copy: Copy, grant: Grant | undefined, above: readonly HeaderField[], author: Mailbox, dual: boolean): SealedFor {
  if (!grant) throw new Fault("internal", "a recipient without a grant");
  const sealed = sealCopy(copy, grant, above, author, dual);
  return { ...sealed, recipient: copy.recipient, ticket: grant.ticket, commit: copy.letter.commit };
}

function declaration(parts: SealingParts, { author, messageId }: Accepted, copies: readonly Copy[]) {
  const recipients = copies.map(({ recipient, letter, signing, form }) => ({
    address: recipient.mailbox,
    commit: letter.commit,
    contentId: signing.contentId.toString("hex"),
    hold: form.hold,
    signing: form.signing,
  }));
  const expiresAt = new Date(parts.now().getTime() + parts.rules.expiry);
  return { letter: randomBytes(16).toString("base64url"), sender: author, messageId, expiresAt, confirm: parts.rules.confirm, recipients };
}

function consignment({ recipient, ticket, mail }: SealedFor) {
  return {
    recipient: recipient.mailbox.address,
    ticket: ticket.toString("base64"),
    notify: recipient.notify,
    ...(recipient.originalRecipient !== undefined && { originalRecipient: recipient.originalRecipient }),
    message: mail,
  };
}

/** Recipients whom the policy passes on get the message unsealed, at once: a clear text is never spooled. */
async function passOn(
  parts: OutboundParts,
  submission: Submission,
  { message, messageId }: Sealed,
  recipients: readonly SubmittedRecipient[],
  id: string,
): Promise<void> {
  if (recipients.length === 0) return;
  const fields = message.fields.filter(({ name }) => name !== "bcc" && name !== "return-path");
  await parts.relay.passOn(submission, recipients, joinMessage([received(parts, submission, id), ...fields], message.body), messageId);
}

/** The trace field; who the client was stays with us (RFC 5321 §4.4 wants a from clause, privacy does not). */
function received(parts: SealingParts, submission: Submission, id: string): HeaderField {
  const date = parts.now().toUTCString().replace("GMT", "+0000");
  return field("Received", `by ${parts.name} (Kakitome) with ${submission.protocol}\r\n id ${id}; ${date}`);
}

function entryOf(parts: OutboundParts, submission: Submission, id: string, sealed: Sealed) {
  const letter = recordOf(parts, sealed);
  return {
    id,
    sender: submission.sender.address,
    messageId: sealed.messageId,
    acceptedAt: letter.acceptedAt,
    register: { letter, signatures: base64Of(signaturesOf(sealed)) },
    ...(submission.envelopeId !== undefined && { envelopeId: submission.envelopeId }),
    ...(submission.returns !== undefined && { returns: submission.returns }),
  };
}

/** What is kept of a letter that was accepted. */
export function recordOf(parts: Pick<SealingParts, "now">, { author, messageId, copies }: Sealed): Letter {
  const at = parts.now().toISOString();
  const recipients = copies.map(({ recipient, ticket, commit }) => ({
    address: recipient.mailbox.key,
    session: ticketHash(ticket),
    commit,
    state: "accepted" as const,
    at,
  }));
  return { messageId, sender: author.key, acceptedAt: at, recipients };
}

/** By session: the signature that each recipient's receipt will speak of. */
export function signaturesOf({ copies }: Sealed): ReadonlyMap<string, Buffer> {
  return new Map(copies.map(({ ticket, signatureFile }) => [ticketHash(ticket), signatureFile]));
}

function base64Of(signatures: ReadonlyMap<string, Buffer>): Readonly<Record<string, string>> {
  return Object.fromEntries([...signatures].map(([session, der]) => [session, der.toString("base64")]));
}
