/** The outbound walk: a message from SMTP DATA to the spool (patent S1-S5). It reads downwards in the order of the steps. */
import { createHash, hash, randomBytes } from "node:crypto";
import { haltAt } from "../config/halt.ts";
import { letterOf, reasonOf } from "../config/log.ts";
import { field, joinMessage, type HeaderField } from "../mime/headers.ts";
import { toCrlf } from "../mime/entity.ts";
import { NOT_FOR_RECIPIENTS } from "../mime/payload.ts";
import { accept, type Accepted } from "./accept.ts";
import { noticeMail } from "./notice.ts";
import type { Relay } from "./relay.ts";
import { recordOf, sealFor, type Sealed, type SealedFor, type SealingParts } from "./sealing.ts";
import { mixedNotice, settle, type Settled } from "./settle.ts";
import { SUBMISSION_HOP } from "./shape.ts";
import type { Spool } from "./spool.ts";
import type { Submission, SubmittedRecipient } from "./submission.ts";
import { WORDS } from "./words.ts";

/** What the whole walk needs. */
export interface OutboundParts extends SealingParts {
  readonly spool: Spool;
  readonly relay: Relay;
}

/**
 * Seals and spools a submission; when it resolves every copy is durable, and the client may be told so. A client that did not hear
 * our answer sends the same message again: it is accepted once. A registered letter that is submitted again, resent by a person or
 * brought by a mail server in front, goes on unopened and unsealed: to seal it twice would hide it from its recipient, to refuse it
 * would lose it where two gateways stand in a row. What circles is stopped by its trace fields (shape.ts).
 * @returns the id of the spool entry
 * @throws Fault; then nothing was spooled, and the rows that the broker may have made vanish unseen
 */
export async function consign(parts: OutboundParts, submission: Submission, signal: AbortSignal): Promise<string> {
  haltAt("a2");
  const accepted = accept(submission, parts.name, parts.now());
  const id = idOf(submission, accepted);
  const log = parts.log.with({ letter: letterOf(accepted.messageId), accepted: id });
  const isNew = await parts.spool.once(id, async () => {
    const settled = settle(parts.policy, submission, accepted);
    const sealed = await sealFor(parts, accepted, settled.sealed, received(parts, submission, id), id, signal); // S1-S4
    haltAt("a5");
    let hasLeft = false;
    const pass = async (): Promise<void> => {
      await passOn(parts, submission, sealed, settled.passed, id);
      hasLeft = true;
    };
    // What is to be kept is on the disk before anything leaves unsealed, and gets its name afterwards: put off is only what has not left.
    const leave = noticesOf(parts, submission, accepted, settled, sealed, id).reduce(
      (next, notice) => () => send(parts, notice, submission.sender.address, accepted.messageId, next),
      pass,
    );
    if (sealed.copies.length > 0) {
      const spooled = await parts.spool.put(entryOf(parts, submission, id, sealed), sealed.copies.map(consignment), leave); // S5
      haltAt("a7");
      parts.relay.take(spooled);
    } else {
      await parts.spool.remember(id, leave).catch((thrown: unknown) => {
        if (!hasLeft) throw thrown;
        log.error({ event: "letter.not-remembered", reason: reasonOf(thrown) }); // a client that is put off has it sent once more
      });
    }
    const [passed, failed] = [settled.passed.length, settled.failed.length];
    log.info({ event: "letter.accepted", sealed: sealed.copies.length, passed, ...(failed > 0 && { failed }) });
  });
  if (!isNew) log.info({ event: "letter.accepted-before" });
  return id;
}

/** Names a submission by its octets and its envelope. Only a Message-ID tells a repetition from another message with the same words. */
function idOf({ message, sender, recipients }: Submission, { hasOwnId }: Accepted): string {
  if (!hasOwnId) return randomBytes(16).toString("hex");
  const envelope = [sender.address, ...recipients.map(({ mailbox }) => mailbox.key).sort()];
  return createHash("sha256").update(JSON.stringify(envelope)).update(toCrlf(message)).digest("hex").slice(0, 32);
}

function consignment({ recipient, ticket, mail }: SealedFor) {
  return {
    recipient: recipient.mailbox.address,
    ...(ticket && { ticket: ticket.toString("base64") }),
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
  const fields = message.fields.filter(({ name }) => !NOT_FOR_RECIPIENTS.includes(name));
  await parts.relay.passOn(
    { ...submission, sender: submission.sender.address },
    recipients,
    joinMessage([received(parts, submission, id), ...fields], message.body),
    messageId,
  );
}

/** What the sender is to be told: who gets nothing, and that a letter goes without the broker. */
function noticesOf(
  parts: OutboundParts,
  { sender, envelopeId }: Submission,
  accepted: Accepted,
  settled: Settled,
  { copies }: Sealed,
  letter: string,
): Notice[] {
  const notices: Notice[] = [];
  const now = parts.now();
  const [host, to] = [parts.name, sender.address];
  const [failed] = settled.failed;
  const [sealed] = settled.sealed;
  const { messageId } = accepted;
  if (failed) {
    const language = parts.policy.languageFor(failed.recipient.mailbox);
    const notice = mixedNotice(settled, accepted, { host, sender, language, letter, envelopeId, now });
    if (notice) notices.push(notice);
  }
  const without = copies.filter(({ ticket }) => !ticket).map(({ recipient }) => recipient.mailbox.address);
  if (sealed && without.length > 0) {
    const { language } = sealed.form;
    const id = hash("sha256", `without ${letter}`).slice(0, 32);
    const text = WORDS[language].withoutBroker({ messageId, recipients: without });
    notices.push({ id, mail: noticeMail({ host, to, language, text, id, now, about: messageId }) });
  }
  return notices;
}

/** A mail of the gateway's own. */
interface Notice {
  readonly id: string;
  readonly mail: Buffer;
}

/**
 * Sends a notice of the gateway's own to one of its senders, once for each id.
 * @param first runs in any case, when the notice is on the disk and before it counts; where it throws, nothing is sent
 */
export async function send(
  { spool, relay, now }: Pick<OutboundParts, "spool" | "now"> & { readonly relay: Pick<Relay, "take"> },
  { id, mail }: Notice,
  to: string,
  messageId: string,
  first?: () => Promise<void>,
): Promise<void> {
  const isNew = await spool.once(id, async () => {
    const entry = { id, sender: "", messageId, acceptedAt: now().toISOString() };
    relay.take(await spool.put(entry, [{ recipient: to, notify: [], message: mail }], first));
  });
  if (!isNew) await first?.();
}

/** The trace field; who the client was stays with us (RFC 5321 §4.4 wants a from clause, privacy does not). */
export function received(
  parts: Pick<SealingParts, "now" | "name">,
  submission: Pick<Submission, "protocol">,
  id: string,
  { by } = SUBMISSION_HOP,
): HeaderField {
  const date = parts.now().toUTCString().replace("GMT", "+0000");
  return field("Received", `by ${parts.name} (${by}) with ${submission.protocol}\r\n id ${id}; ${date}`);
}

function entryOf(parts: OutboundParts, submission: Submission, id: string, sealed: Sealed) {
  const register = recordOf(parts, sealed);
  return {
    id,
    sender: submission.sender.address,
    messageId: sealed.messageId,
    acceptedAt: register.acceptedAt,
    register,
    ...(submission.envelopeId !== undefined && { envelopeId: submission.envelopeId }),
    ...(submission.returns !== undefined && { returns: submission.returns }),
    ...(submission.forwarded && { forwarded: submission.forwarded }),
  };
}
