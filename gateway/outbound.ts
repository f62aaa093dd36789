/** The outbound walk: a message from SMTP DATA to the spool (patent S1-S5). It reads downwards in the order of the steps. */
import { randomBytes } from "node:crypto";
import { ticketHash, type BrokerClient, type Grant, type Identity } from "../broker/client.ts";
import type { Log } from "../config/log.ts";
import type { Milliseconds } from "../config/units.ts";
import { parseAddressList, type Mailbox } from "../mime/address.ts";
import { toCrlf } from "../mime/entity.ts";
import { Fault } from "../mime/fault.ts";
import { field, fieldsNamed, onlyValue, splitMessage, valueOf, joinMessage, type HeaderField, type SplitMessage } from "../mime/headers.ts";
import { sealLetter, sealedMessage, signLetter, type SignedLetter } from "../mime/message.ts";
import { buildPayload, outerFields } from "../mime/payload.ts";
import type { Letters } from "./letters.ts";
import type { Relay } from "./relay.ts";
import type { Spool } from "./spool.ts";
import { demandIdentity, type Submission, type SubmittedRecipient } from "./submission.ts";

export interface OutboundParts {
  readonly broker: BrokerClient;
  readonly spool: Spool;
  readonly relay: Relay;
  readonly letters: Letters;
  readonly log: Log;
  /** Host name of this gateway. */
  readonly name: string;
  readonly brokerUrl: string;
  readonly rules: { readonly subject: string; readonly expiry: Milliseconds; readonly dual: boolean };
  identityOf(mailbox: Mailbox): Identity;
  now(): Date;
}

/** The copy of one recipient before the broker was asked. */
interface Copy {
  readonly recipient: SubmittedRecipient;
  readonly letter: SignedLetter;
}

/**
 * Seals and spools a submission; when it resolves every copy is durable, and the client may be told so.
 * @returns the id of the spool entry
 * @throws Fault; then nothing was spooled, and the rows that the broker may have made vanish unseen
 */
export async function consign(parts: OutboundParts, submission: Submission, signal: AbortSignal): Promise<string> {
  const { message, author, messageId } = prepare(parts, submission);
  const id = randomBytes(12).toString("hex");
  const log = parts.log.with({ letter: id });
  const sealed = submission.recipients.filter(({ decision }) => decision === "seal");
  const passed = submission.recipients.filter(({ decision }) => decision === "pass");
  const trace = received(parts, submission, id);
  if (sealed.length > 0) {
    const identity = parts.identityOf(author);
    const outer = outerFields(message, parts.rules.subject);
    const copies = signedCopies(message, outer, sealed, identity, parts.now()); // data A: signed before it is sealed
    const expiresAt = new Date(parts.now().getTime() + parts.rules.expiry);
    const recipients = copies.map(({ recipient, letter }) => ({ address: recipient.mailbox, commit: letter.commit }));
    log.info({ event: "letter.declared", step: "S1", recipients: recipients.length });
    const grants = await parts.broker.declare({ sender: author, messageId, expiresAt, recipients }, identity, signal); // S1-S3
    try {
      log.info({ event: "letter.granted", step: "S3", recipients: grants.length });
      const consignments = copies.map((copy, at) => consignment(parts, copy, grants[at], [trace, ...outer], author)); // S4
      log.info({ event: "letter.sealed", step: "S4", octets: consignments.reduce((sum, one) => sum + one.message.length, 0) });
      await passOn(parts, submission, passed, message, trace, messageId);
      const spooled = await parts.spool.put(entryOf(parts, submission, id, messageId), consignments); // S5
      const signatures = new Map(copies.map(({ letter }) => [letter.commit, letter.signatureFile]));
      await parts.letters.add(recordOf(parts, author, messageId, copies, grants), signatures).catch(async (thrown: unknown) => {
        await parts.spool.remove(id); // the client is told that nothing was accepted
        throw thrown;
      });
      parts.relay.take(spooled);
    } finally {
      for (const { key } of grants) key.wipe();
    }
  } else await passOn(parts, submission, passed, message, trace, messageId);
  log.info({ event: "letter.accepted", sealed: sealed.length, passed: passed.length });
  return id;
}

/** Canonical line ends, one author who may write, a Message-ID and a Date. */
function prepare(parts: OutboundParts, submission: Submission): { message: SplitMessage; author: Mailbox; messageId: string } {
  if (submission.message.includes(0)) throw refused("The message holds a NUL octet, which mail cannot carry.");
  const { fields, body } = splitMessage(toCrlf(submission.message));
  const author = authorOf(fields, submission);
  const added: HeaderField[] = [];
  const known = onlyOr(fields, "message-id", "The message has more than one Message-ID.");
  const messageId = known ?? `<${randomBytes(16).toString("hex")}@${parts.name}>`;
  if (known === undefined) added.push(field("Message-ID", messageId));
  if (fieldsNamed(fields, "date").length === 0) added.push(field("Date", parts.now().toUTCString().replace("GMT", "+0000")));
  return { message: { fields: [...fields, ...added], body }, author, messageId };
}

const refused = (advice: string, cause?: unknown): Fault => new Fault("malformed", advice, { advice, cause });

function onlyOr(fields: readonly HeaderField[], name: string, advice: string): string | undefined {
  try {
    return onlyValue(fields, name) || undefined;
  } catch (cause) {
    throw refused(advice, cause);
  }
}

/** The one author; Sender and Resent-From, where they are there, must be identities of the submitter too (RFC 6409 §8.1). */
function authorOf(fields: readonly HeaderField[], { submitter }: Submission): Mailbox {
  const from = onlyOr(fields, "from", "The message has more than one From field; a registered letter has one author.");
  const authors = addressesIn("From", from ?? "");
  const [author] = authors;
  if (!author || authors.length > 1) throw refused("The message needs exactly one author in its From field.");
  demandIdentity(submitter, author, "From");
  for (const name of ["sender", "resent-from", "resent-sender"]) {
    for (const item of fieldsNamed(fields, name)) {
      for (const mailbox of addressesIn(name, valueOf(item))) demandIdentity(submitter, mailbox, name);
    }
  }
  return author;
}

function addressesIn(name: string, value: string): Mailbox[] {
  try {
    return parseAddressList(value);
  } catch (cause) {
    throw refused(`The ${name} field cannot be read.`, cause);
  }
}

/** One signed letter for everyone in To and Cc; each blind recipient gets a letter of its own that names nobody else (docs/protocol.md, section 2.5). */
function signedCopies(
  message: SplitMessage,
  outer: readonly HeaderField[],
  recipients: readonly SubmittedRecipient[],
  { signer }: Identity,
  time: Date,
): Copy[] {
  const named = new Set(["to", "cc"].flatMap((name) => fieldsNamed(message.fields, name).flatMap((item) => keysIn(item))));
  const letterFor = (bcc?: Mailbox): SignedLetter =>
    signLetter(buildPayload(message, { outer, nonce: randomBytes(24), ...(bcc && { bcc }) }), signer, time);
  let common: SignedLetter | undefined;
  return recipients.map((recipient) => ({
    recipient,
    letter: named.has(recipient.mailbox.key) ? (common ??= letterFor()) : letterFor(recipient.mailbox),
  }));
}

function keysIn(item: HeaderField): string[] {
  try {
    return parseAddressList(valueOf(item)).map(({ key }) => key);
  } catch {
    return []; // whoever is named there in an unreadable way gets a copy that names them
  }
}

function consignment(
  parts: OutboundParts,
  { recipient, letter }: Copy,
  grant: Grant | undefined,
  outer: readonly HeaderField[],
  author: Mailbox,
) {
  if (!grant) throw new Fault("internal", "a recipient without a grant");
  const shell = { ticket: grant.ticket, brokerUrl: parts.brokerUrl, expiresAt: grant.expiresAt };
  const envelope = sealLetter(letter, { key: grant.key, shell, dual: parts.rules.dual ? grant.encryptionCertificate : undefined });
  return {
    recipient: recipient.mailbox.address,
    ticket: grant.ticket.toString("base64"),
    notify: recipient.notify,
    ...(recipient.originalRecipient !== undefined && { originalRecipient: recipient.originalRecipient }),
    message: sealedMessage(envelope, outer, author, shell),
  };
}

/** Recipients whom the policy passes on get the message unsealed, at once: a clear text is never spooled. */
async function passOn(
  parts: OutboundParts,
  submission: Submission,
  recipients: readonly SubmittedRecipient[],
  message: SplitMessage,
  trace: HeaderField,
  messageId: string,
): Promise<void> {
  if (recipients.length === 0) return;
  const fields = message.fields.filter(({ name }) => name !== "bcc" && name !== "return-path");
  await parts.relay.passOn(submission, recipients, joinMessage([trace, ...fields], message.body), messageId);
}

/** The trace field; who the client was stays with us (RFC 5321 §4.4 wants a from clause, privacy does not). */
function received(parts: OutboundParts, submission: Submission, id: string): HeaderField {
  return field(
    "Received",
    `by ${parts.name} (Kakitome) with ${submission.protocol}\r\n id ${id}; ${parts.now().toUTCString().replace("GMT", "+0000")}`,
  );
}

function entryOf(parts: OutboundParts, submission: Submission, id: string, messageId: string) {
  return {
    id,
    sender: submission.sender.address,
    messageId,
    acceptedAt: parts.now().toISOString(),
    ...(submission.envelopeId !== undefined && { envelopeId: submission.envelopeId }),
    ...(submission.returns !== undefined && { returns: submission.returns }),
  };
}

function recordOf(parts: OutboundParts, author: Mailbox, messageId: string, copies: readonly Copy[], grants: readonly Grant[]) {
  const at = parts.now().toISOString();
  const recipients = grants.map(({ recipient, ticket }, index) => ({
    address: recipient.address,
    session: ticketHash(ticket),
    commit: copies[index]?.letter.commit ?? "",
    state: "accepted" as const,
    at,
  }));
  return { messageId, sender: author.key, acceptedAt: at, recipients };
}
