/** The outbound walk for tests: the real one, with a real broker in this process and a real next hop. */
import { join } from "node:path";
import { BrokerClient, type Declared, type Grant, type Identity } from "../../broker/client.ts";
import { standardPolicy } from "../../config/schema-policy.ts";
import { duration } from "../../config/units.ts";
import { Letters } from "../../gateway/letters.ts";
import { consign, type OutboundParts } from "../../gateway/outbound.ts";
import { Policy, type Form } from "../../gateway/policy.ts";
import { Relay } from "../../gateway/relay.ts";
import { Spool, type Entry } from "../../gateway/spool.ts";
import type { Submission, SubmittedRecipient } from "../../gateway/submission.ts";
import type { Certificate } from "../../mime/certificate.ts";
import { parseMailbox } from "../../mime/address.ts";
import { toCrlf } from "../../mime/entity.ts";
import { openLetter, type OpenedLetter } from "../../mime/bind.ts";
import { readSealed, type SealedMessage } from "../../mime/message.ts";
import { forever, type House, type Member } from "../broker/house.ts";
import { temporaryFolder } from "../servers/process.ts";

/** A client whose grants and declarations are seen, and that can fail on demand. */
export class SeenClient extends BrokerClient {
  readonly declared: Declared[] = [];
  readonly grants: Grant[] = [];
  fail: Error | undefined;

  override async declare(order: Declared, identity: Identity, signal: AbortSignal): Promise<Grant[]> {
    this.declared.push(order);
    if (this.fail) throw this.fail;
    const grants = await super.declare(order, identity, signal);
    this.grants.push(...grants);
    return grants;
  }
}

export interface Copy {
  readonly recipient: string;
  readonly mail: Buffer;
  readonly ticket: Buffer;
  readonly sealed: SealedMessage;
}

export interface Office {
  readonly folder: string;
  readonly broker: SeenClient;
  readonly parts: OutboundParts;
  readonly spool: Spool;
  readonly letters: Letters;
  /** Submits a message. @returns the id under which it was accepted */
  send(message: string | Buffer, recipients: readonly string[], changes?: Partial<Submission>): Promise<string>;
  /** The copies in the spool, in the order of the recipients. */
  copies(): Promise<Copy[]>;
  entry(): Promise<Entry>;
  close(): Promise<void>;
}

export interface OfficeOptions {
  /** By address; whoever is not named there gets what the policy says. */
  readonly forms?: Readonly<Record<string, Partial<Form>>>;
  /** The embodiment. */
  readonly confirm?: Declared["confirm"];
  readonly rules?: Parameters<typeof standardPolicy>[0];
  /** Certificates of recipients who are not enrolled, and those of the directory that are kept for a while. */
  readonly known?: ReadonlyMap<string, Certificate>;
  readonly cached?: ReadonlyMap<string, Certificate>;
}

/**
 * @param port of the next hop; without one the letters stay in the spool
 */
export async function openOffice(
  house: House,
  sender: Member,
  port = 1,
  { forms = {}, confirm = "next-session", rules: given = {}, known, cached }: OfficeOptions = {},
): Promise<Office> {
  const folder = await temporaryFolder("office");
  const spool = new Spool(join(folder, "spool"));
  const letters = new Letters(join(folder, "letters"));
  await Promise.all([spool.prepare(), letters.prepare()]);
  const broker = new SeenClient(sender.gateway.channel);
  const stopping = new AbortController();
  const hour = duration("1h");
  const nextHop = { host: "127.0.0.1", port, tls: "none" as const, ca: undefined, auth: undefined, name: "gateway.a.example" };
  const rules = standardPolicy({ confirm, ...given });
  const policy = new Policy(rules, { isEnrolled: async () => true }, known);
  const relay = new Relay(
    {
      nextHop,
      languageFor: (recipient) => policy.languageFor(parseMailbox(recipient)),
      retry: { first: hour, longest: hour, giveUpAfter: hour },
      spool,
      letters,
      broker,
      log: house.heard.log,
      now: house.now,
    },
    stopping.signal,
  );
  const parts: OutboundParts = {
    broker,
    policy: {
      languageFor: (mailbox) => policy.languageFor(mailbox),
      settle(asking, wish) {
        const ruling = policy.settle(asking, wish);
        return ruling.outcome === "seal" ? { ...ruling, form: { ...ruling.form, ...forms[asking.mailbox.key] } } : ruling;
      },
    },
    directory: { cached: async ({ key }) => cached?.get(key) },
    spool,
    relay,
    log: house.heard.log,
    name: "gateway.a.example",
    brokerUrl: house.url,
    rules,
    identityOf: () => sender.identity,
    now: house.now,
  };
  const submission = (message: string | Buffer, recipients: readonly string[], changes: Partial<Submission>): Submission => ({
    submitter: { name: "alice", identities: [sender.mailbox, parseMailbox("a.liddell@a.example")] },
    sender: sender.mailbox,
    recipients: recipients.map((address) => recipientOf(address)),
    envelopeId: undefined,
    returns: undefined,
    message: typeof message === "string" ? toCrlf(Buffer.from(message)) : message,
    protocol: "ESMTPSA",
    ...changes,
  });
  const office: Office = {
    folder,
    broker,
    parts,
    spool,
    letters,
    send: (message, recipients, changes = {}) => consign(parts, submission(message, recipients, changes), forever),
    async entry() {
      const [spooled] = await spool.all();
      if (!spooled) throw new Error("the spool is empty");
      return spooled.entry;
    },
    async copies() {
      const [spooled] = await spool.all();
      if (!spooled) throw new Error("the spool is empty");
      const { consignments } = spooled.entry;
      return Promise.all(
        consignments.map(async (consignment) => {
          const mail = (await spool.message(spooled, consignment)) ?? Buffer.alloc(0);
          const sealed = readSealed(mail);
          if (!sealed) throw new Error("the copy is not sealed");
          return { recipient: consignment.recipient, mail, ticket: Buffer.from(consignment.ticket ?? "", "base64"), sealed };
        }),
      );
    },
    async close() {
      stopping.abort();
      await relay.close();
      await broker.close();
    },
  };
  return office;
}

/** What letters to this member are encrypted to. */
export function certificateOf({ identity }: Member): Certificate {
  const [opener] = identity.openers;
  if (!opener) throw new Error("no certificate");
  return opener.certificate;
}

/** A recipient as the policy left it. */
export function recipientOf(address: string, decision: "seal" | "pass" = "seal"): SubmittedRecipient {
  return {
    mailbox: parseMailbox(address),
    decision,
    standing: decision === "seal" ? "enrolled" : "none",
    notify: [],
    originalRecipient: undefined,
  };
}

/** Opens a copy as its recipient does. */
export async function openAs(house: House, member: Member, { sealed }: Copy): Promise<OpenedLetter> {
  const { client } = member.gateway;
  const release = await client.present(sealed.shell.ticket, member.identity, forever);
  const { hold, signing, sender, messageId, commit, contentId, expiresAt } = release;
  const trust = { roots: client.trust.roots, at: house.now() };
  const binding = { hold, signing, sender, recipients: [member.mailbox.key], messageId, commit, contentId, expiresAt, trust };
  return openLetter(sealed, { key: release.key, openers: member.identity.openers }, binding);
}
