/** Root, Alice, Bob, Carol and the broker with their certificates, and a letter from Alice to Bob on every stage of its way. */
import { createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { createRoot, issue, type Profile } from "../../broker/authority.ts";
import { parseMailbox, type Mailbox } from "../../mime/address.ts";
import { toCrlf } from "../../mime/entity.ts";
import { openLetter, type Binding } from "../../mime/bind.ts";
import type { AccessEvidence, HandoverEvidence } from "../../mime/evidence.ts";
import { splitMessage } from "../../mime/headers.ts";
import { ContentKey } from "../../mime/key.ts";
import { sealLetter, signLetter, type KeyHold, type SignedLetter, type Signing, type SigningOrder } from "../../mime/letter.ts";
import { readSealed, type SealedMessage } from "../../mime/message.ts";
import type { Opener } from "../../mime/open.ts";
import { buildPayload, outerFields } from "../../mime/payload.ts";
import { newKey } from "../../mime/request.ts";
import type { Shell } from "../../mime/seal.ts";
import type { Signer } from "../../mime/sign.ts";

/** When everything here happens; the certificates hold from 2020 until 2045. */
export const NOW = new Date("2026-03-01T12:00:00Z");
export const FROM = new Date("2020-01-01T00:00:00Z");
export const UNTIL = new Date("2045-01-01T00:00:00Z");
export const BROKER = "https://broker.example";
export const NONCE = Buffer.alloc(24, 0x5a);
/** Names the content of the letter below in a receipt. */
export const CONTENT_ID = Buffer.alloc(32, 0xc1);

export interface Party {
  readonly mailbox: Mailbox;
  readonly signer: Signer;
  readonly opener: Opener;
}

export interface Parties {
  readonly root: Signer;
  readonly alice: Party;
  readonly bob: Party;
  readonly carol: Party;
  /** The broker's signing certificate. */
  readonly broker: Signer;
}

export async function makeParties(): Promise<Parties> {
  const root = await createRoot("Test root", FROM, UNTIL);
  const [alice, bob, carol] = await Promise.all([
    party(root, "alice@a.example"),
    party(root, "bob@b.example"),
    party(root, "carol@c.example"),
  ]);
  return { root, alice, bob, carol, broker: await brokerOf(root, BROKER) };
}

/** The signing certificate of a broker at this address. */
export async function brokerOf(root: Signer, url: string): Promise<Signer> {
  const key = newKey();
  const order = { publicKey: createPublicKey(key), commonName: "broker", url, notBefore: FROM, notAfter: UNTIL };
  return { key, certificate: await issue(root, { ...order, profile: "broker-signing" }) };
}

export async function party(root: Signer, address: string): Promise<Party> {
  const mailbox = parseMailbox(address);
  const signer = await holder(root, "mailbox-signing", [mailbox]);
  return { mailbox, signer, opener: await holder(root, "mailbox-encryption", [mailbox]) };
}

/** A certificate for these mailboxes with its key: on P-256, or RSA where one is wanted. */
export async function holder(
  root: Signer,
  profile: Profile,
  mailboxes: readonly Mailbox[],
  options: { key?: KeyObject; notBefore?: Date; notAfter?: Date } = {},
): Promise<Signer> {
  const { key = newKey(), notBefore = FROM, notAfter = UNTIL } = options;
  const commonName = mailboxes[0]?.address ?? "nobody";
  return {
    key,
    certificate: await issue(root, { profile, publicKey: createPublicKey(key), commonName, mailboxes, notBefore, notAfter }),
  };
}

export const rsaKey = (bits = 2048): KeyObject => generateKeyPairSync("rsa", { modulusLength: bits }).privateKey;

export const pem = (key: KeyObject): string => key.export({ type: "pkcs8", format: "pem" }).toString();

/** Text with LF line ends as the octets of a mail. */
export const mail = (text: string): Buffer => toCrlf(Buffer.from(text, "utf8"));

export const MESSAGE_ID = "<letter-1@a.example>";
export const MESSAGE = mail(
  [
    "Received: from client.a.example by a.example; Sun, 01 Mar 2026 12:00:00 +0000",
    'From: "Alice" <alice@a.example>',
    "To: Bob <bob@b.example>",
    "Date: Sun, 01 Mar 2026 12:00:00 +0000",
    `Message-ID: ${MESSAGE_ID}`,
    "Subject: the secret subject",
    "MIME-Version: 1.0",
    "Content-Type: text/plain; charset=utf-8",
    "",
    "The secret text.",
    "",
  ].join("\n"),
);

/** The payload that the gateway of the sender makes of a message. */
export function payloadOf(message: Buffer, options: { bcc?: Mailbox; nonce?: Buffer } = {}): Buffer {
  const split = splitMessage(message);
  return buildPayload(split, {
    outer: outerFields(split, "[...]"),
    nonce: options.nonce ?? NONCE,
    ...(options.bcc && { bcc: options.bcc }),
  });
}

export interface SealedLetter {
  readonly letter: SignedLetter;
  readonly key: ContentKey;
  readonly shell: Shell;
  readonly envelope: Buffer;
  readonly mail: Buffer;
  /** What opens it: the row and the recipient as they are. */
  readonly binding: Binding;
}

export const shellOf = (ticket: Buffer = Buffer.from("ticket-of-letter-1")): Shell => ({
  ticket,
  brokerUrl: BROKER,
  expiresAt: new Date("2026-03-31T12:00:00Z"),
});

/** How Alice signs. */
export function signingBy(signer: Signer, changes: Partial<Signing> = {}): Signing {
  return { order: "inner", signer, time: NOW, contentId: CONTENT_ID, brokerUrl: BROKER, ...changes };
}

/** The payload signed inside, as `inner` wants it. */
export function signedBy(payload: Buffer, signer: Signer): SignedLetter {
  return signLetter(payload, NONCE, signingBy(signer));
}

/** A held envelope on its own, as the inside of a mail gives it. */
export function heldOf(envelope: Buffer): SealedMessage {
  return { hold: "held", envelope, shell: shellOf(), use: "keep", outside: undefined };
}

/** Opens a held envelope. */
export function openEnvelope(envelope: Buffer, secrets: Parameters<typeof openLetter>[1], binding: Binding): ReturnType<typeof openLetter> {
  return openLetter(heldOf(envelope), secrets, binding);
}

/** The letter of Alice to Bob, sealed; any part of it can be another. */
export function sealedLetter(
  parties: Parties,
  changes: { payload?: Buffer; letter?: SignedLetter; key?: ContentKey; dual?: Party | undefined } = {},
): SealedLetter {
  const { root, alice, bob } = parties;
  const letter = changes.letter ?? signedBy(changes.payload ?? payloadOf(MESSAGE), alice.signer);
  const key = changes.key ?? ContentKey.generate();
  const shell = shellOf();
  const dual = ("dual" in changes ? changes.dual : bob)?.opener.certificate;
  const outer = outerFields(splitMessage(MESSAGE), "[...]");
  const { mail } = sealLetter(letter, { hold: "held", key, shell, dual }, outer, alice.mailbox, signingBy(alice.signer));
  return {
    letter,
    key,
    shell,
    envelope: readSealed(mail)?.envelope ?? Buffer.alloc(0),
    mail,
    binding: {
      hold: "held",
      signing: "inner",
      sender: alice.mailbox,
      recipients: [bob.mailbox.key],
      messageId: MESSAGE_ID,
      commit: letter.commit,
      contentId: CONTENT_ID.toString("hex"),
      expiresAt: shell.expiresAt,
      trust: { roots: [root.certificate], at: NOW },
    },
  };
}

/** Kc of the letters below. */
export const KC = Buffer.alloc(32, 0x4b);

/** A letter of Alice to Bob in any form, with the row that it was declared by. */
export function letterIn(
  { alice, bob, root }: Parties,
  hold: KeyHold,
  order: SigningOrder,
  ticket?: Buffer,
): { readonly mail: Buffer; readonly binding: Binding } {
  const signing = signingBy(alice.signer, { order });
  const letter = signLetter(payloadOf(MESSAGE), NONCE, signing);
  const certificate = bob.opener.certificate;
  const form = hold === "held" ? { hold, dual: certificate } : { hold, certificate, transport: "oaep" as const };
  const shell = shellOf(ticket);
  const outer = outerFields(splitMessage(MESSAGE), "[...]");
  const { mail } = sealLetter(letter, { ...form, key: ContentKey.adopt(Buffer.from(KC)), shell }, outer, alice.mailbox, signing);
  const row = { hold, signing: order, sender: alice.mailbox, recipients: [bob.mailbox.key], messageId: MESSAGE_ID };
  const declared = { commit: letter.commit, contentId: CONTENT_ID.toString("hex"), expiresAt: shell.expiresAt };
  return { mail, binding: { ...row, ...declared, trust: { roots: [root.certificate], at: NOW } } };
}

/** What the broker states about the letter above. */
export const evidence: HandoverEvidence = {
  version: 1,
  evidence: "evidence-0123456789",
  previous: "evidence-of-release-1",
  event: "ContentHandover",
  broker: BROKER,
  sender: "alice@a.example",
  recipient: "bob@b.example",
  messageId: MESSAGE_ID,
  hold: "held",
  signing: "inner",
  commit: "c0".repeat(32),
  contentId: "c1".repeat(32),
  session: "5e".repeat(32),
  declaredAt: "2026-03-01T12:00:00.000Z",
  releasedAt: "2026-03-01T12:01:00.000Z",
  auditHead: "a0".repeat(32),
  confirmedAt: "2026-03-01T12:02:00.000Z",
  recipientCertificate: "ce".repeat(32),
  recipientReceipt: "4e".repeat(32),
  openingValue: "",
};

/** The statement before it. */
export function releasedBefore({
  confirmedAt: _c,
  recipientCertificate: _r,
  recipientReceipt: _p,
  openingValue: _o,
  ...rest
}: HandoverEvidence): AccessEvidence {
  return { ...rest, event: "ContentAccessTracking", evidence: rest.previous, previous: "evidence-of-submission" };
}
