/** S1-S4 of the outbound walk: sign, declare, seal for each recipient, wipe the keys; or, where the policy lets it, plain S/MIME while the broker is away. */
import { randomBytes } from "node:crypto";
import { ticketHash, type BrokerClient, type Declared, type Grant, type Identity } from "../broker/client.ts";
import { haltAt } from "../config/halt.ts";
import { letterOf, reasonOf, type Log } from "../config/log.ts";
import type { GatewayConfig } from "../config/schema.ts";
import type { Mailbox } from "../mime/address.ts";
import type { Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import type { HeaderField, SplitMessage } from "../mime/headers.ts";
import type { SealedCopy } from "../mime/letter.ts";
import type { Accepted } from "./accept.ts";
import { sealCopy, signCopies, type Copy } from "./copies.ts";
import type { Directory } from "./directory.ts";
import type { Identities } from "./identities.ts";
import type { Letter } from "./letters.ts";
import { plainCopy } from "./plain.ts";
import { expiryOf, type Policy } from "./policy.ts";
import type { ToSeal } from "./settle.ts";
import type { SubmittedRecipient } from "./submission.ts";

/** What sealing needs. */
export interface SealingParts {
  readonly broker: Pick<BrokerClient, "declare">;
  readonly policy: Pick<Policy, "settle" | "languageFor">;
  /** For certificates while the broker is away. */
  readonly directory: Pick<Directory, "cached">;
  readonly log: Log;
  /** Host name of this gateway. */
  readonly name: string;
  readonly brokerUrl: string;
  readonly rules: Pick<GatewayConfig["policy"], "dual" | "language">;
  identityOf(mailbox: Mailbox): Identity;
  now(): Date;
}

/** The sealing parts of a gateway out of its configuration. */
export function sealingParts(desk: {
  config: GatewayConfig;
  /** What counts now of the configuration's policy. */
  rules?: GatewayConfig["policy"];
  broker: BrokerClient;
  policy: SealingParts["policy"];
  directory: Directory;
  identities: Identities;
  log: Log;
  now(): Date;
}): SealingParts {
  const { config, rules = config.policy, broker, policy, directory, identities, log, now } = desk;
  const identityOf = identities.of.bind(identities);
  return { broker, policy, directory, log, name: config.name, brokerUrl: config.broker.url, rules, identityOf, now };
}

/** A recipient's sealed copy with everything that is to be kept of it. */
export interface SealedFor extends SealedCopy {
  readonly recipient: SubmittedRecipient;
  /** Undefined for plain S/MIME, of which the broker knows nothing. */
  readonly ticket: Buffer | undefined;
  readonly isEnclosed: boolean;
  readonly commit: string;
}

export interface Sealed {
  readonly message: SplitMessage;
  readonly author: Mailbox;
  readonly messageId: string;
  readonly copies: readonly SealedFor[];
}

/** Seals for these recipients; Kc is wiped before it returns. @param trace the field to stand above the others @throws Fault */
export async function sealFor(
  parts: SealingParts,
  accepted: Accepted,
  recipients: readonly ToSeal[],
  trace: HeaderField,
  id: string,
  signal: AbortSignal,
): Promise<Sealed> {
  const { message, author, messageId } = accepted;
  if (recipients.length === 0) return { message, author, messageId, copies: [] };
  const log = parts.log.with({ letter: letterOf(messageId), accepted: id });
  const identity = parts.identityOf(author);
  const copies = signCopies({ message, identity, brokerUrl: parts.brokerUrl, time: parts.now() }, recipients);
  log.info({ event: "letter.declared", step: "S1", recipients: copies.length });
  haltAt("a3");
  const grants = new Map<Copy, Grant>();
  try {
    await declareAll(parts, accepted, copies, grants, identity, signal); // S1-S3
    haltAt("a4");
    log.info({ event: "letter.granted", step: "S3", recipients: grants.size });
    const sealed = copies.map((copy) => sealedFor(copy, grants.get(copy), trace, author, parts.rules.dual)); // S4
    log.info({ event: "letter.sealed", step: "S4", octets: sealed.reduce((sum, { mail }) => sum + mail.octets, 0) });
    return { message, author, messageId, copies: sealed };
  } catch (thrown) {
    const plain = Fault.from(thrown).code === "unavailable" ? await certificatesFor(parts, recipients) : undefined;
    if (!plain) throw thrown;
    log.warn({ event: "letter.without-broker", recipients: plain.length, reason: reasonOf(thrown) });
    const without = plain.map(({ to, certificate }) => {
      const copy = plainCopy(message, to, certificate, { signer: identity.signer, time: parts.now(), trace });
      return { ...copy, recipient: to.recipient, ticket: undefined, isEnclosed: false };
    });
    return { message, author, messageId, copies: without };
  } finally {
    for (const { key } of grants.values()) key.wipe();
  }
}

/** Certificates for a letter without the broker; undefined unless every recipient may get it so and has one. */
async function certificatesFor({ directory }: SealingParts, recipients: readonly ToSeal[]) {
  const found: { to: ToSeal; certificate: Certificate }[] = [];
  for (const to of recipients) {
    if (!to.form.mayGoWithout) return undefined;
    const certificate = to.form.certificate ?? (await directory.cached?.(to.recipient.mailbox));
    if (!certificate) return undefined;
    found.push({ to, certificate });
  }
  return found;
}

/** A declaration has one time, one embodiment and one language: recipients who differ in them are declared apart. */
async function declareAll(
  parts: SealingParts,
  accepted: Accepted,
  copies: readonly Copy[],
  grants: Map<Copy, Grant>,
  identity: Identity,
  signal: AbortSignal,
): Promise<void> {
  const now = parts.now();
  const groups = new Map<string, Copy[]>();
  for (const copy of copies) {
    const kind = `${copy.form.confirm} ${copy.form.language} ${expiryOf(copy.form, now).getTime()}`;
    groups.set(kind, [...(groups.get(kind) ?? []), copy]);
  }
  for (const group of groups.values()) {
    const granted = await parts.broker.declare(declaration(accepted, group, now), identity, signal);
    for (const [at, copy] of group.entries()) {
      const grant = granted[at];
      if (grant) grants.set(copy, grant);
    }
  }
}

function sealedFor(copy: Copy, grant: Grant | undefined, trace: HeaderField, author: Mailbox, dual: boolean): SealedFor {
  if (!grant) throw new Fault("internal", "a recipient without a grant");
  const sealed = sealCopy(copy, grant, trace, author, dual);
  return {
    ...sealed,
    recipient: copy.recipient,
    ticket: grant.ticket,
    isEnclosed: copy.form.hold === "enclosed",
    commit: copy.letter.commit,
  };
}

/** What is as the broker has it by itself is left out. */
function declaration({ author, messageId }: Accepted, copies: readonly Copy[], now: Date): Declared {
  const [first] = copies;
  if (!first) throw new Fault("internal", "a declaration without recipients");
  const { confirm, language } = first.form;
  const recipients = copies.map(({ recipient, letter, signing, form }) => ({
    address: recipient.mailbox,
    commit: letter.commit,
    contentId: signing.contentId.toString("hex"),
    hold: form.hold,
    signing: form.signing,
    ...(form.warn !== undefined && { warnAt: new Date(now.getTime() + form.warn) }),
    ...(!form.receipt && { receipt: false }),
  }));
  const letter = randomBytes(16).toString("base64url");
  const expiresAt = expiryOf(first.form, now);
  return { letter, sender: author, messageId, expiresAt, confirm, recipients, ...(language !== "en" && { language }) };
}

/** Names a copy in the register: its session, or for one that has none, something that is nobody's. */
const sessionOf = ({ ticket, commit, recipient }: Pick<SealedFor, "ticket" | "commit" | "recipient">): string =>
  ticketHash(ticket ?? Buffer.from(`no session ${commit} ${recipient.mailbox.key}`));

/** What is kept of a letter that was accepted. */
export function recordOf(parts: Pick<SealingParts, "now">, { author, messageId, copies }: Sealed): Letter {
  const at = parts.now().toISOString();
  const recipients = copies.map((copy) => ({
    address: copy.recipient.mailbox.key,
    session: sessionOf(copy),
    commit: copy.commit,
    ...(copy.isEnclosed && { isEnclosed: true as const }),
    ...(copy.ticket && { ticket: copy.ticket.toString("base64") }),
    original: copy.signatureFile.toString("base64"),
    state: copy.ticket ? ("accepted" as const) : ("without-broker" as const),
    at,
  }));
  return { messageId, sender: author.key, acceptedAt: at, recipients };
}
