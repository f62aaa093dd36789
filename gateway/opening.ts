/** S6-S9 for one sealed letter, wherever it came from: present its ticket, open and bind it, make what is filed and what proves the opening. */
import type { BrokerClient, Identity, OpeningProof, Release } from "../broker/client.ts";
import { haltAt } from "../config/halt.ts";
import type { Log } from "../config/log.ts";
import type { OwnMailbox } from "../config/schema.ts";
import { openLetter, type OpenedLetter } from "../mime/bind.ts";
import { Fault } from "../mime/fault.ts";
import { field, folded, type HeaderField } from "../mime/headers.ts";
import type { SealedMessage } from "../mime/message.ts";
import { isSealedElsewhere } from "../mime/open.ts";
import { restore } from "../mime/payload.ts";
import { makeReceipt } from "../mime/receipt.ts";
import type { Elsewhere } from "./elsewhere.ts";

export interface OpeningParts {
  readonly broker: BrokerClient;
  readonly brokerUrl: string;
  /** Host name of this gateway. */
  readonly name: string;
  readonly own: OwnMailbox;
  readonly elsewhere: Elsewhere;
  /** @throws Fault `unavailable`: our certificates are not there yet */
  identity(): Identity;
  now(): Date;
}

export interface Opening {
  /** The opened letter, as it is filed. */
  readonly letter: Buffer;
  readonly sender: string;
  readonly messageId: string;
  /** What the confirmation is made with, once the letter is in its reader's hands. */
  readonly nextTicket: Buffer;
  readonly proof: OpeningProof;
  /** What the filed copy is found by. */
  readonly marker: string;
  /** Whether nobody can have filed it before. */
  readonly isFirst: boolean;
  /** Until when nobody else files it, by `performance.now()`. */
  readonly claimedUntil: number;
}

/** Names the session of an opened letter: for people and logs, since whoever saw the sealed letter can write it too. */
const SESSION_FIELD = "Kakitome-Session";
/** Holds what only the broker and who opens the letter know: finds the opened copy again after a crash, from any gateway of the mailbox. */
export const MARKER_FIELD = "Kakitome-Filing";

/**
 * @param session SHA-256 of the ticket, hex
 * @param isFiled whether the letter goes into a mailbox, and gets what it is found by there
 * @throws Fault `session-gone`, `cannot-open`, `forbidden`, `unavailable`
 */
export async function open(
  parts: OpeningParts,
  sealed: SealedMessage,
  { session, isFiled }: { session: string; isFiled: boolean },
  log: Log,
  signal: AbortSignal,
): Promise<Opening> {
  const { ticket, brokerUrl } = sealed.shell;
  if (brokerUrl !== parts.brokerUrl) throw new Fault("forbidden", `the key is kept by ${brokerUrl}, which is not our broker`);
  const identity = parts.identity();
  if (parts.elsewhere.has(session, identity.openers)) throw sealedElsewhere();
  log.info({ event: "letter.presented", step: "S6", mailbox: parts.own.address.address });
  const asked = performance.now();
  const release = await parts.broker.present(ticket, identity, signal); // S6-S7
  haltAt("b4");
  try {
    const opened = await openReleased(parts, sealed, release, session, signal); // S8
    log.info({ event: "letter.opened", step: "S8", octets: opened.payload.body.length });
    const { payload, entity, original, openingValue } = opened;
    return {
      letter: restore(
        payload,
        entity,
        parts.own.deliver,
        resultFields(parts, opened, { session, marker: isFiled ? release.filing : undefined }),
      ), // S9
      sender: payload.from.address,
      messageId: release.messageId,
      nextTicket: release.nextTicket,
      marker: release.filing,
      isFirst: release.isFirst,
      claimedUntil: asked + release.claimedFor,
      proof: {
        receipt: makeReceipt(original, identity.signer, parts.now()),
        openingValue: release.signing === "outer" ? openingValue : undefined,
      },
    };
  } finally {
    release.key?.wipe();
  }
}

/**
 * Opens with the keys as they are now. The broker gives senders a renewed certificate a moment before this gateway has its key in place,
 * and longer where the renewal was interrupted, or another gateway of the mailbox renewed: such a letter waits.
 * @throws Fault `cannot-open`; `unavailable`: it is sealed to another certificate, and the newest one of this mailbox is not here
 */
async function openReleased(
  parts: OpeningParts,
  sealed: SealedMessage,
  release: Release,
  session: string,
  signal: AbortSignal,
): Promise<OpenedLetter> {
  const { openers } = parts.identity();
  try {
    return openLetter(sealed, { key: release.key, openers }, bindingOf(parts, release));
  } catch (thrown) {
    if (!isSealedElsewhere(thrown)) throw thrown;
    const newest = await parts.broker.lookUp(parts.own.address, signal);
    if (!newest || openers.some(({ certificate }) => certificate.fingerprint === newest.fingerprint)) throw thrown;
    parts.elsewhere.add(session, openers, release.claimedFor);
    throw sealedElsewhere(thrown);
  }
}

const sealedElsewhere = (cause?: unknown): Fault =>
  new Fault("unavailable", "the newest certificate of this mailbox is not here, and the letter may be sealed to it", { cause });

function bindingOf(parts: OpeningParts, release: Release) {
  const { hold, signing, contentId, sender, messageId, commit, expiresAt, declaredAt: metAt } = release;
  const recipients = [parts.own.address, ...parts.own.aliases].map(({ key }) => key);
  const trust = { ...parts.broker.trust, at: parts.now(), metAt };
  return { hold, signing, contentId, sender, messageId, commit, expiresAt, recipients, trust };
}

/** What only this gateway may have said: fields of outside mail that claim to be such are lies. */
export function claimsOf(name: string): HeaderField[] {
  return [field("Authentication-Results", `${name};`), field(SESSION_FIELD, "-"), field(MARKER_FIELD, "-")];
}

/**
 * What this gateway found out, on top of the opened letter (RFC 8601 §2.2, RFC 7281 §3).
 * @param names.session where there was one @param names.marker where the letter goes into a mailbox
 */
export function resultFields(
  { name }: Pick<OpeningParts, "name">,
  { signer, payload }: OpenedLetter,
  { session, marker }: { readonly session?: string; readonly marker?: string | undefined },
): HeaderField[] {
  const identifier = signer.mailboxes.find((mailbox) => mailbox === payload.from.key) ?? payload.from.key;
  const words = [`${name};`, "smime=pass", `body.smime-identifier=${identifier}`, `body.smime-serial=${signer.x509.serialNumber}`];
  return [
    field("Authentication-Results", folded(words, "Authentication-Results: ".length)),
    ...(session === undefined ? [] : [field(SESSION_FIELD, session)]),
    ...(marker === undefined ? [] : [field(MARKER_FIELD, marker)]),
  ];
}
