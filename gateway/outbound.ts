/** The outbound walk: a message from SMTP DATA to the spool (patent S1-S5). It reads downwards in the order of the steps. */
import { randomBytes } from "node:crypto";
import { ticketHash, type BrokerClient, type Grant, type Identity } from "../broker/client.ts";
import type { Log } from "../config/log.ts";
import type { GatewayConfig } from "../config/schema.ts";
import type { Mailbox } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import { field, joinMessage, type HeaderField, type SplitMessage } from "../mime/headers.ts";
import type { SealedCopy } from "../mime/letter.ts";
import { outerFields } from "../mime/payload.ts";
import { accept, type Accepted } from "./accept.ts";
import { sealCopy, signCopies, type Copy } from "./copies.ts";
import type { Letter, Letters } from "./letters.ts";
import type { Policy } from "./policy.ts";
import type { Relay } from "./relay.ts";
import type { Spool } from "./spool.ts";
import type { Submission, SubmittedRecipient } from "./submission.ts";

export interface OutboundParts {
  readonly broker: BrokerClient;
  readonly policy: Pick<Policy, "formFor">;
  readonly spool: Spool;
  readonly relay: Relay;
  readonly letters: Letters;
  readonly log: Log;
  /** Host name of this gateway. */
  readonly name: string;
  readonly brokerUrl: string;
  readonly rules: Pick<GatewayConfig["policy"], "subject" | "expiry" | "dual" | "confirm">;
  identityOf(mailbox: Mailbox): Identity;
  now(): Date;
}

/**
 * Seals and spools a submission; when it resolves every copy is durable, and the client may be told so.
 * @returns the id of the spool entry
 * @throws Fault; then nothing was spooled, and the rows that the broker may have made vanish unseen
 */
export async function consign(parts: OutboundParts, submission: Submission, signal: AbortSignal): Promise<string> {
  const accepted = accept(submission, parts.name, parts.now());
  const id = randomBytes(12).toString("hex");
  const log = parts.log.with({ letter: id });
  const sealed = submission.recipients.filter(({ decision }) => decision === "seal");
  const passed = submission.recipients.filter(({ decision }) => decision === "pass");
  const trace = received(parts, submission, id);
  if (sealed.length > 0) {
    const { message, author, messageId } = accepted;
    const identity = parts.identityOf(author);
    const outer = outerFields(message, parts.rules.subject);
    const formFor = parts.policy.formFor.bind(parts.policy);
    const copies = signCopies({ message, outer, identity, brokerUrl: parts.brokerUrl, time: parts.now(), formFor }, sealed);
    log.info({ event: "letter.declared", step: "S1", recipients: copies.length });
    const grants = await parts.broker.declare(declaration(parts, accepted, copies), identity, signal); // S1-S3
    try {
      log.info({ event: "letter.granted", step: "S3", recipients: grants.length });
      const sealedCopies = copies.map((copy, at) => sealCopy(copy, grantAt(grants, at), [trace, ...outer], author, parts.rules.dual)); // S4
      log.info({ event: "letter.sealed", step: "S4", octets: sealedCopies.reduce((sum, { mail }) => sum + mail.length, 0) });
      await passOn(parts, submission, passed, message, trace);
      const consignments = copies.map((copy, at) => consignment(copy, grantAt(grants, at), sealedCopies[at]));
      const spooled = await parts.spool.put(entryOf(parts, submission, id, messageId), consignments); // S5
      await parts.letters.add(recordOf(parts, accepted, copies, grants), signaturesOf(grants, sealedCopies));
      parts.relay.take(spooled);
    } finally {
      for (const { key } of grants) key.wipe();
    }
  } else await passOn(parts, submission, passed, accepted.message, trace);
  log.info({ event: "letter.accepted", sealed: sealed.length, passed: passed.length });
  return id;
}

function declaration(parts: OutboundParts, { author, messageId }: Accepted, copies: readonly Copy[]) {
  const recipients = copies.map(({ recipient, letter, signing, form }) => ({
    address: recipient.mailbox,
    commit: letter.commit,
    contentId: signing.contentId.toString("hex"),
    hold: form.hold,
    signing: form.signing,
  }));
  const expiresAt = new Date(parts.now().getTime() + parts.rules.expiry);
  return { sender: author, messageId, expiresAt, confirm: parts.rules.confirm, recipients };
}

function grantAt(grants: readonly Grant[], at: number): Grant {
  const grant = grants[at];
  if (!grant) throw new Fault("internal", "a recipient without a grant");
  return grant;
}

function consignment({ recipient }: Copy, { ticket }: Grant, sealed: SealedCopy | undefined) {
  if (!sealed) throw new Fault("internal", "a recipient without a copy");
  return {
    recipient: recipient.mailbox.address,
    ticket: ticket.toString("base64"),
    notify: recipient.notify,
    ...(recipient.originalRecipient !== undefined && { originalRecipient: recipient.originalRecipient }),
    message: sealed.mail,
  };
}

/** Recipients whom the policy passes on get the message unsealed, at once: a clear text is never spooled. */
async function passOn(
  parts: OutboundParts,
  submission: Submission,
  recipients: readonly SubmittedRecipient[],
  message: SplitMessage,
  trace: HeaderField,
): Promise<void> {
  if (recipients.length === 0) return;
  const fields = message.fields.filter(({ name }) => name !== "bcc" && name !== "return-path");
  await parts.relay.passOn(submission, recipients, joinMessage([trace, ...fields], message.body));
}

/** The trace field; who the client was stays with us (RFC 5321 §4.4 wants a from clause, privacy does not). */
function received(parts: OutboundParts, submission: Submission, id: string): HeaderField {
  const date = parts.now().toUTCString().replace("GMT", "+0000");
  return field("Received", `by ${parts.name} (Kakitome) with ${submission.protocol}\r\n id ${id}; ${date}`);
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

function recordOf(parts: OutboundParts, { author, messageId }: Accepted, copies: readonly Copy[], grants: readonly Grant[]): Letter {
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

/** By session: the signature that each recipient's receipt will speak of. */
function signaturesOf(grants: readonly Grant[], copies: readonly SealedCopy[]): ReadonlyMap<string, Buffer> {
  return new Map(grants.map(({ ticket }, at) => [ticketHash(ticket), copies[at]?.signatureFile ?? Buffer.alloc(0)]));
}
