/** The inbound walk: a sealed letter in a mailbox to the opened letter and its confirmation (patent S6-S10). It reads downwards in the order of the steps. */
import { createHash } from "node:crypto";
import { ticketHash, type BrokerClient, type Identity, type OpeningProof, type Release } from "../broker/client.ts";
import { reasonOf, type Log } from "../config/log.ts";
import type { OwnMailbox } from "../config/schema.ts";
import { Fault } from "../mime/fault.ts";
import { field, folded, type HeaderField } from "../mime/headers.ts";
import { openLetter, type OpenedLetter } from "../mime/bind.ts";
import { readSealed, type SealedMessage } from "../mime/message.ts";
import { makeReceipt } from "../mime/receipt.ts";
import { restore } from "../mime/payload.ts";
import type { Journal, Stage } from "./journal.ts";
import type { Mailbox, Seen } from "./mailbox.ts";

export interface InboundParts {
  readonly broker: BrokerClient;
  readonly brokerUrl: string;
  readonly journal: Journal;
  readonly log: Log;
  /** Host name of this gateway. */
  readonly name: string;
  readonly own: OwnMailbox;
  /** @throws Fault `unavailable`: our certificates are not there yet */
  identity(): Identity;
  now(): Date;
}

/** Marks the opened copy of a session; found again after a crash. */
const SESSION_FIELD = "Kakitome-Session";

/**
 * Opens one letter and files it. Returns when there is nothing more to do with it: filed and confirmed, refused and flagged, or not ours.
 * @throws Fault with retry `later`: nothing is lost, the same call is to be made again
 */
export async function receive(parts: InboundParts, mailbox: Mailbox, seen: Seen, signal: AbortSignal): Promise<void> {
  const mail = await mailbox.fetch(seen.uid);
  if (!mail) return;
  let sealed: SealedMessage | undefined;
  try {
    sealed = readSealed(mail);
  } catch (thrown) {
    await leave(parts, mailbox, seen, createHash("sha256").update(mail).digest("hex"), thrown); // it has no ticket to be named by
    return;
  }
  if (!sealed) return; // mail that is not ours is never touched
  const session = ticketHash(sealed.shell.ticket);
  const log = parts.log.with({ session: session.slice(0, 12) });
  const before = await parts.journal.find(session);
  if (before?.stage === "failed") return;
  try {
    await walk({ parts, mailbox, seen, sealed, session, log }, before, signal);
  } catch (thrown) {
    const fault = Fault.from(thrown);
    if (fault.retry === "later" || fault.code === "unauthenticated") throw fault;
    await leave(parts, mailbox, seen, session, thrown);
  }
}

/** Leaves a letter where it is, flagged; why is for the log and for `kakitome status`, and no mail goes out. */
async function leave(parts: InboundParts, mailbox: Mailbox, { uid }: Seen, session: string, thrown: unknown): Promise<void> {
  const { code: fault } = Fault.from(thrown);
  const reason = reasonOf(thrown);
  parts.log.warn({ event: "letter.not-opened", session: session.slice(0, 12), uid, mailbox: parts.own.address.address, fault, reason });
  await mailbox.flagNotOpened(uid);
  await keep(parts, session, "", { stage: "failed", fault, reason });
}

interface Walk {
  readonly parts: InboundParts;
  readonly mailbox: Mailbox;
  readonly seen: Seen;
  readonly sealed: SealedMessage;
  readonly session: string;
  readonly log: Log;
}

async function walk({ parts, mailbox, seen, sealed, session, log }: Walk, before: Stage | undefined, signal: AbortSignal): Promise<void> {
  const { broker, journal } = parts;
  let messageId = "";
  let stage = before;
  if (stage?.stage !== "filed" && stage?.stage !== "confirmed") {
    if (sealed.shell.brokerUrl !== parts.brokerUrl)
      throw new Fault("forbidden", `the key is kept by ${sealed.shell.brokerUrl}, which is not our broker`);
    const identity = parts.identity();
    let proof: OpeningProof;
    const mark = { name: SESSION_FIELD, value: session };
    if (!stage) await keep(parts, session, messageId, { stage: "begun" });
    log.info({ event: "letter.presented", step: "S6", mailbox: parts.own.address.address });
    const release = await broker.present(sealed.shell.ticket, identity, signal); // S6-S7
    messageId = release.messageId;
    try {
      const opened = openLetter(sealed, { key: release.key, openers: identity.openers }, bindingOf(parts, release)); // S8
      log.info({ event: "letter.opened", step: "S8", octets: opened.payload.body.length });
      const filed = stage !== undefined && (await mailbox.hasOpened(mark)); // a crash may have come between filing and the journal
      if (!filed)
        await mailbox.append(restore(opened.payload, opened.entity, parts.own.deliver, resultFields(parts, opened, session)), seen);
      log.info({ event: "letter.filed", step: "S9", sender: opened.payload.from.address });
      const { openingValue } = opened;
      proof = {
        receipt: makeReceipt(opened.original, identity.signer, parts.now()),
        openingValue: release.signing === "outer" ? openingValue : undefined,
      };
    } finally {
      release.key?.wipe();
    }
    stage = { stage: "filed", nextTicket: release.nextTicket.toString("base64"), ...encoded(proof) };
    await keep(parts, session, messageId, stage);
  }
  if (stage.stage === "filed") {
    const { evidence } = await broker.confirm(Buffer.from(stage.nextTicket, "base64"), decoded(stage), parts.identity(), signal); // S10
    log.info({ event: "letter.confirmed", step: "S10", evidence });
    messageId ||= (await journal.find(session))?.messageId ?? "";
    await keep(parts, session, messageId, { stage: "confirmed", evidence });
  }
  await mailbox.retire(seen.uid);
}

/** The proof as the journal keeps it: base64. The opening value is no secret once the letter is open, and the letter is filed already. */
function encoded({ receipt, openingValue }: OpeningProof): { receipt: string; openingValue?: string } {
  return { receipt: receipt.toString("base64"), ...(openingValue && { openingValue: openingValue.toString("base64") }) };
}

function decoded({ receipt, openingValue }: { readonly receipt: string; readonly openingValue?: string }): OpeningProof {
  return {
    receipt: Buffer.from(receipt, "base64"),
    openingValue: openingValue === undefined ? undefined : Buffer.from(openingValue, "base64"),
  };
}

function bindingOf(parts: InboundParts, release: Release) {
  return {
    hold: release.hold,
    signing: release.signing,
    contentId: release.contentId,
    sender: release.sender,
    recipients: [parts.own.address, ...parts.own.aliases].map(({ key }) => key),
    messageId: release.messageId,
    commit: release.commit,
    trust: { roots: parts.broker.trust.roots, at: parts.now() },
  };
}

/** What this gateway found out, on top of the opened letter (RFC 8601 §2.2, RFC 7281 §3). */
function resultFields(parts: InboundParts, { signer, payload }: OpenedLetter, session: string): HeaderField[] {
  const identifier = signer.mailboxes.find((name) => name === payload.from.key) ?? payload.from.key;
  const words = [`${parts.name};`, "smime=pass", `body.smime-identifier=${identifier}`, `body.smime-serial=${signer.x509.serialNumber}`];
  return [field("Authentication-Results", folded(words, "Authentication-Results: ".length)), field(SESSION_FIELD, session)];
}

async function keep(parts: InboundParts, session: string, messageId: string, stage: Stage): Promise<void> {
  await parts.journal.put(session, { ...stage, mailbox: parts.own.address.address, messageId, at: parts.now().toISOString() });
}
