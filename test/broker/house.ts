/** A broker in this process on the embedded table, reached over real HTTPS by gateways and mailboxes that enrolled like any other. */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import type { IncomingHttpHeaders } from "node:http";
import { request } from "node:https";
import { join } from "node:path";
import type { Broker } from "../../broker/broker.ts";
import {
  BrokerClient,
  enrolGateway,
  type Channel,
  type Declared,
  type DeclaredRecipient,
  type Identity,
  type OpeningProof,
  type Release,
} from "../../broker/client.ts";
import { invite } from "../../broker/enrol.ts";
import { FILES } from "../../broker/files.ts";
import { initBroker } from "../../broker/init.ts";
import type { ServerLimits } from "../../broker/listener.ts";
import { masterKeysAt } from "../../broker/master-files.ts";
import { localMasterKey } from "../../broker/master-key.ts";
import { startServer } from "../../broker/server.ts";
import { openEmbeddedTable } from "../../broker/table-embedded.ts";
import type { Table } from "../../broker/table.ts";
import { SIGNED_TYPE, signBody } from "../../broker/wire.ts";
import { readPrivateKey, readSecret } from "../../config/secrets.ts";
import { duration } from "../../config/units.ts";
import { parseMailbox, type Mailbox } from "../../mime/address.ts";
import { parseCertificate } from "../../mime/certificate.ts";
import { signLetter, type KeyHold, type SigningOrder } from "../../mime/letter.ts";
import { OID } from "../../mime/oids.ts";
import { makeReceipt, receiptRequest, type Original } from "../../mime/receipt.ts";
import { newKey } from "../../mime/request.ts";
import { sign, verify } from "../../mime/sign.ts";
import { freePort } from "../servers/ports.ts";
import { temporaryFolder } from "../servers/process.ts";
import { heardLog, type HeardLog } from "./happenings.ts";

export const MINUTE = 60_000;
export const DAY = 86_400_000;
export const RECEIPTS = "receipts@broker.example";
export const forever = new AbortController().signal;

/** A mailbox that enrolled, with the channel it did so over. */
export interface Member {
  readonly mailbox: Mailbox;
  readonly identity: Identity;
  readonly gateway: Gateway;
}

export interface Gateway {
  readonly channel: Channel;
  readonly client: BrokerClient;
  enrol(address: string, aliases?: readonly string[]): Promise<Member>;
}

export interface House {
  readonly url: string;
  readonly folder: string;
  readonly broker: Broker;
  readonly table: Table;
  readonly heard: HeardLog;
  /** How often a receipt was said to wait. */
  receipts(): number;
  /** Lets time go by for everyone who asks the house for it. */
  pass(milliseconds: number): void;
  now(): Date;
  invite(...entries: string[]): Promise<string>;
  gateway(...entries: string[]): Promise<Gateway>;
  stop(): Promise<void>;
}

/** More than any test asks for that is not about limits. */
const LIMITS: ServerLimits = {
  perGateway: { burst: 1e6, perSecond: 1e6 },
  perAddress: { burst: 1e6, perSecond: 1e6 },
  connections: 10_000,
  header: duration("10s"),
  request: duration("30s"),
};

/** @param wrap makes another table of the one there is @param front opens the port at which the broker is reached, before its own */
export async function openHouse(
  wrap: (table: Table) => Table = (table) => table,
  front = async (port: number) => port,
  limits: Partial<ServerLimits> = {},
): Promise<House> {
  const folder = await temporaryFolder("house");
  const data = join(folder, "data");
  const port = await freePort();
  const url = `https://127.0.0.1:${await front(port)}`;
  let ahead = 0;
  let waiting = 0;
  const now = (): Date => new Date(Date.now() + ahead);
  await initBroker(data, { url, receiptsFrom: parseMailbox(RECEIPTS), now: now() });
  const key = (name: string) => readPrivateKey(join(data, name));
  const certificate = (name: string) => parseCertificate(readFileSync(join(data, name)));
  const table = wrap(await openEmbeddedTable(join(data, FILES.table), { retention: duration("30d") }));
  const heard = heardLog();
  const masters = { data, dayKeys: join(data, FILES.dayKeys), source: { file: join(data, FILES.masterKey) } };
  const root = { key: key(FILES.rootKey), certificate: certificate(FILES.roots) };
  const broker: Broker = {
    url,
    table,
    masterKey: localMasterKey(() => masterKeysAt(masters), masters.dayKeys),
    root,
    roots: [root],
    links: [],
    signer: { key: key(FILES.signingKey), certificate: certificate(FILES.signing) },
    sessionKeys: [{ key: key(FILES.sessionKey), certificate: certificate(FILES.session) }],
    receiptsFrom: parseMailbox(RECEIPTS),
    limits: {
      longestExpiry: duration("90d"),
      vanishAfter: duration("24h"),
      certificateLifetime: duration("365d"),
      crlLifetime: duration("7d"),
    },
    log: heard.log,
    now,
    receiptWaits: () => void waiting++,
  };
  const tls = { key: readSecret(join(data, FILES.serverKey)).reveal(), cert: certificate(FILES.server).pem };
  const server = await startServer(broker, { host: "127.0.0.1", port }, tls, { ...LIMITS, ...limits });
  const clients: BrokerClient[] = [];
  const house: House = {
    url,
    folder,
    broker,
    table,
    heard,
    receipts: () => waiting,
    pass: (milliseconds) => void (ahead += milliseconds),
    now,
    invite: async (...entries) => (await invite(table, entries, now())).token,
    async gateway(...entries) {
      const order = { url, fingerprint: broker.root.certificate.fingerprint, token: await house.invite(...entries) };
      const channelKey = newKey();
      const enrolled = await enrolGateway({ ...order, name: `gateway.${entries[0] ?? ""}`, key: channelKey }, forever);
      const channel = { url, ...enrolled, key: channelKey, timeout: 10_000, now };
      const client = new BrokerClient(channel);
      clients.push(client);
      const gateway: Gateway = { channel, client, enrol: (address, aliases = []) => enrolMember(gateway, address, aliases) };
      return gateway;
    },
    async stop() {
      await Promise.all(clients.map((client) => client.close()));
      await server.stop();
      await table.close();
    },
  };
  return house;
}

async function enrolMember(gateway: Gateway, address: string, aliases: readonly string[]): Promise<Member> {
  const mailbox = parseMailbox(address);
  const [signingKey, encryptionKey] = [newKey(), newKey()];
  const order = { address: mailbox, aliases: aliases.map(parseMailbox), signingKey, encryptionKey };
  const { signing, encryption } = await gateway.client.enrolMailbox(order, forever);
  const identity = {
    signer: { key: signingKey, certificate: signing },
    openers: [{ key: encryptionKey, certificate: encryption }],
  };
  return { mailbox, identity, gateway };
}

/** How a letter travels. */
export interface TestForm {
  readonly hold?: KeyHold;
  readonly signing?: SigningOrder;
}

/** A payload that was really signed for its declaration: what its recipient finds when it opens the letter. */
export interface Written {
  readonly payload: Buffer;
  /** The detached signature that asks for the recipient's receipt, DER. */
  readonly signatureFile: Buffer;
  /** What stands behind the commitment where the receipt does not hold it. */
  readonly openingValue: Buffer | undefined;
}

const written = new Map<string, Written>();

/** A recipient as a gateway declares it: a payload is signed, and it is found again by its commitment. */
export function declaredTo(
  house: House,
  sender: Member,
  address: string,
  { hold = "held", signing = "inner" }: TestForm = {},
): DeclaredRecipient {
  const [nonce, contentId] = [randomBytes(24), randomBytes(32)];
  const payload = Buffer.from(`From: ${sender.mailbox.address}\r\nTo: ${address}\r\n\r\n${nonce.toString("hex")}\r\n`);
  const { signer } = sender.identity;
  const letter = signLetter(payload, nonce, { order: signing, signer, time: house.now(), contentId, brokerUrl: house.url });
  const sealedSignature = () =>
    sign(payload, signer, { time: house.now(), detached: true, attributes: [receiptRequest(contentId, house.url)] }).der;
  written.set(letter.commit, {
    payload,
    signatureFile: letter.signatureFile ?? sealedSignature(), // `outer`: what it is over is nothing to the broker
    openingValue: signing === "outer" ? nonce : undefined,
  });
  return { address: parseMailbox(address), commit: letter.commit, contentId: contentId.toString("hex"), hold, signing };
}

export function writtenFor(commit: string): Written {
  const found = written.get(commit);
  if (!found) throw new Error("no letter was signed for this commitment");
  return found;
}

/** The signature that asks for a receipt, verified as its recipient does it. */
export function originalOf(house: House, commit: string): Original {
  const { payload, signatureFile } = writtenFor(commit);
  const trust = { roots: [house.broker.root.certificate], at: house.now(), purpose: OID.emailProtection };
  return verify(signatureFile, trust, payload);
}

/** What proves that this member opened the letter of a commitment. */
export function proofBy(house: House, member: Member, commit: string): OpeningProof {
  const receipt = makeReceipt(originalOf(house, commit), member.identity.signer, house.now());
  return { receipt, openingValue: writtenFor(commit).openingValue };
}

/** Confirms what was released to this member, with its signed receipt (S10). */
export function confirmAs(house: House, member: Member, { nextTicket, commit }: Pick<Release, "nextTicket" | "commit">) {
  return member.gateway.client.confirm(nextTicket, proofBy(house, member, commit), member.identity, forever);
}

/** A declaration of one letter from a member to these addresses, each with a text of its own. */
export function letterFrom(house: House, sender: Member, recipients: readonly string[], changes: Partial<Declared> = {}): Declared {
  return {
    letter: randomBytes(18).toString("base64url"),
    sender: sender.mailbox,
    messageId: `<${randomBytes(8).toString("hex")}@a.example>`,
    expiresAt: new Date(house.now().getTime() + 30 * DAY),
    confirm: "next-session",
    recipients: recipients.map((address) => declaredTo(house, sender, address)),
    ...changes,
  };
}

/** Declares a letter. @returns the ticket of its first recipient */
export async function ticketOf(house: House, sender: Member, recipient: string, changes: Partial<Declared> = {}): Promise<Buffer> {
  const [grant] = await sender.gateway.client.declare(letterFrom(house, sender, [recipient], changes), sender.identity, forever);
  if (!grant) throw new Error("no grant");
  grant.key.wipe();
  return grant.ticket;
}

/** What every signed body says first, as this member would say it now. */
export function headOf(house: House, member: Member, step: string): Readonly<Record<string, unknown>> {
  return {
    step,
    broker: house.url,
    gateway: member.gateway.channel.certificate.fingerprint,
    request: randomBytes(18).toString("base64url"),
    time: house.now().toISOString(),
  };
}

/** A signed body of this member. @param changes stand in place of what it would say, or beside it */
export function signedBy(house: House, member: Member, step: string, changes: Readonly<Record<string, unknown>>): Buffer {
  const more = step === "present" ? { holder: "h".repeat(22) } : {};
  return signBody({ ...headOf(house, member, step), ...more, ...changes }, member.identity.signer, house.now());
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

interface RawCall {
  readonly method?: string;
  readonly body?: Buffer | string;
  readonly type?: string | undefined;
  readonly chunked?: boolean;
}

/** One HTTP call as any program could make it. @param channel whose client certificate is shown; nobody's where undefined */
export function call(
  house: Pick<House, "url" | "broker">,
  channel: Pick<Channel, "certificate" | "key"> | undefined,
  path: string,
  { method = "POST", body = "", type = SIGNED_TYPE, chunked = false }: RawCall = {},
): Promise<Answer> {
  const identity = channel && {
    cert: channel.certificate.pem,
    key: channel.key.export({ type: "pkcs8", format: "pem" }).toString(),
  };
  return new Promise((resolve, reject) => {
    const options = {
      method,
      path, // as it is: in a URL of its own "//v1" would name a host
      agent: false,
      ca: house.broker.root.certificate.pem,
      ...identity,
      headers: type ? { "content-type": type } : {},
    };
    const sent = request(new URL(house.url), options, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) }));
      response.on("error", reject);
    });
    sent.on("error", reject);
    if (chunked) sent.write(body);
    sent.end(chunked ? undefined : body);
  });
}

/** Everything by which two answers could be told apart. */
export function faceOf({ status, headers, body }: Answer): string {
  const { date: _date, ...rest } = headers;
  return JSON.stringify([status, rest, body.toString("latin1")]);
}

/** The fault word of an answer. */
export function wordOf({ body }: Answer): string {
  const { type } = JSON.parse(body.toString()) as { type: string };
  return type.replace("urn:kakitome:fault:", "");
}
