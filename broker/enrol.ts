/** S0: a gateway enrols once with a one-time token, then its mailboxes by itself; private keys stay where they were made. */
import { createHash, hash, randomBytes, type KeyObject } from "node:crypto";
import { inScope, parseDomain, parseMailbox, type Mailbox } from "../mime/address.ts";
import { issued, parseCertificate, serialOf, type Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { requestedKey } from "../mime/request.ts";
import { issue, type Profile } from "./authority.ts";
import type { Broker } from "./broker.ts";
import { BACKDATED_MS } from "./own.ts";
import { channelOf, isMailboxRevoked, pairNames, pairsOf, revokeIssued, serialsOf } from "./revoke.ts";
import type { CertificatePair, GatewayRecord, InviteUse, MailboxRecord, Registry, RegistryView } from "./table.ts";
import { enrolBody, mailboxBody, parseBody, renewBody } from "./wire.ts";

const INVITE_LIFETIME_MS = 7 * 86_400_000;

/** An enrolment that is asked for again within this time is the same one. */
const REPEATED_WITHIN_MS = 60 * 60_000;
const MOST_FORMER = 8;

const tokenHash = (token: string): string => hash("sha256", token);

/**
 * Makes a one-time token for a gateway that may act for these addresses and domains.
 * @throws Fault `malformed`: an entry is neither an address nor a domain
 */
export async function invite(registry: Registry, entries: readonly string[], now: Date): Promise<{ token: string; expiresAt: Date }> {
  const scope = entries.map((entry) => (entry.includes("@") ? parseMailbox(entry).key : parseDomain(entry)));
  const token = randomBytes(24).toString("base64url");
  const expiresAt = new Date(now.getTime() + INVITE_LIFETIME_MS);
  await registry.addInvite({ token: tokenHash(token), scope, expiresAt: expiresAt.getTime() });
  return { token, expiresAt };
}

/**
 * Takes the token and gives the gateway its channel certificate; asked again with the same token and key, the answer having been lost, it
 * gives the same one.
 * @throws Fault `unauthenticated`: token unknown, used for another key, or expired
 */
export async function enrolGateway(broker: Broker, body: Buffer): Promise<{ certificate: string }> {
  const { token, name, request } = parseBody(enrolBody, body);
  const publicKey = requestedKey(request);
  const now = broker.now().getTime();
  const known = await broker.table.findInvite(tokenHash(token), now); // nothing is signed for a token that is none
  const taken = known && (await broker.table.takeInvite(tokenHash(token), now, await offerFor(broker, publicKey, name)));
  if (!taken) {
    throw new Fault("unauthenticated", "the invitation is unknown, used or expired", {
      advice: "The invitation is unknown, used or expired; ask the broker's operator for another.",
    });
  }
  const { invite, use } = taken;
  const certificate = parseCertificate(use.certificate);
  const { fingerprint } = certificate;
  const { scope } = invite;
  await broker.table.putGateway({ ...channelFacts(broker, certificate), name, scope, enrolledAt: now });
  broker.log.info({ event: "gateway.enrolled", step: "S0", gateway: fingerprint.slice(0, 12), scope: scope.join(" ") });
  return { certificate: certificate.pem };
}

/**
 * Gives a gateway another channel certificate before the present one ends; both count, and it stays the same gateway: rows and mailboxes
 * name it by its first one.
 * @param gateway as the channel showed it, under its first name
 * @throws Fault `unauthenticated`: it was revoked meanwhile
 */
export async function renewGateway(broker: Broker, gateway: GatewayRecord, body: Buffer): Promise<{ certificate: string }> {
  const { request } = parseBody(renewBody, body);
  const certificate = await certify(broker, "channel", requestedKey(request), gateway.name, []);
  const { fingerprint } = certificate;
  const { name, scope, fingerprint: renews } = gateway;
  const now = broker.now();
  const renewed = { ...channelFacts(broker, certificate), name, scope, enrolledAt: now.getTime(), renews };
  await broker.table.putGateway(renewed);
  if (await revokeIssued(broker.table, channelOf(renewed), [renews], now)) throw new Fault("unauthenticated", "the gateway is revoked");
  broker.log.info({ event: "gateway.renewed", step: "S0", gateway: renews.slice(0, 12), certificate: fingerprint.slice(0, 12) });
  return { certificate: certificate.pem };
}

/** What the registry holds of a channel certificate; the root waits for its end. The first answer to a token may be of a former root. */
function channelFacts({ roots }: Broker, certificate: Certificate): Pick<GatewayRecord, "fingerprint" | "serial" | "root" | "endsAt"> {
  const { fingerprint, notAfter } = certificate;
  const root = roots.find((one) => issued(one.certificate, certificate))?.certificate.fingerprint;
  return { fingerprint, serial: serialOf(certificate), ...(root !== undefined && { root }), endsAt: notAfter.getTime() };
}

async function offerFor(broker: Broker, publicKey: KeyObject, name: string): Promise<InviteUse> {
  const { pem } = await certify(broker, "channel", publicKey, name, []);
  return { key: keyHash(publicKey), certificate: pem };
}

const keyHash = (key: KeyObject): string =>
  createHash("sha256")
    .update(key.export({ type: "spki", format: "der" }))
    .digest("hex");

/**
 * Gives a mailbox of the gateway its two certificates.
 * @throws Fault `forbidden`: the invitation did not name the address, another gateway has it, or it or its gateway was revoked meanwhile
 */
export async function enrolMailbox(
  broker: Broker,
  gateway: GatewayRecord,
  body: Buffer,
): Promise<{ signingCertificate: string; encryptionCertificate: string }> {
  const { address, aliases, signing, encryption } = parseBody(mailboxBody, body);
  const mailboxes = [address, ...aliases];
  const [signingKey, encryptionKey] = [requestedKey(signing), requestedKey(encryption)];
  const counting = [gateway.fingerprint]; // what is not revoked now, and is looked at again
  for (const mailbox of mailboxes) {
    const known = await ownedBefore(broker, gateway, mailbox, [signingKey, encryptionKey]);
    if (known && !(await isMailboxRevoked(broker.table, known))) counting.push(...serialsOf(known));
  }
  const given = await givenBefore(broker, mailboxes, [signingKey, encryptionKey]);
  if (given) return given;
  const signingCertificate = await certify(broker, "mailbox-signing", signingKey, address.address, mailboxes);
  const encryptionCertificate = await certify(broker, "mailbox-encryption", encryptionKey, address.address, mailboxes);
  const pair = { signingCertificate: signingCertificate.pem, encryptionCertificate: encryptionCertificate.pem };
  // The address comes last: once it has these certificates (`givenBefore`), its aliases have them too.
  for (const mailbox of mailboxes.toReversed()) {
    let isPut = false;
    while (!isPut) {
      const before = await ownedBefore(broker, gateway, mailbox, [signingKey, encryptionKey]); // or somebody was first meanwhile
      isPut = await broker.table.putMailbox(recordFor(broker, gateway, mailbox, pair, before), before);
    }
  }
  if (await revokeIssued(broker.table, pairNames(pair, address.key), counting, broker.now())) throw revokedKeys(address);
  broker.log.info({ event: "mailbox.enrolled", step: "S0", domain: address.domain });
  return pair;
}

function recordFor(
  broker: Broker,
  gateway: GatewayRecord,
  mailbox: Mailbox,
  pair: CertificatePair,
  before: MailboxRecord | undefined,
): MailboxRecord {
  const now = broker.now();
  const former = before?.gateway === gateway.fingerprint ? formerOf(before, now) : [];
  const enrolledAt = now.getTime();
  return { ...(former.length > 0 && { former }), address: mailbox.key, gateway: gateway.fingerprint, ...pair, enrolledAt };
}

/**
 * The certificates that these very keys have already, the answer having been lost: whoever was told of them can go on sealing to them.
 * Not where they are due for renewal, or for other addresses.
 */
async function givenBefore(
  broker: Broker,
  mailboxes: readonly Mailbox[],
  [signingKey, encryptionKey]: readonly [KeyObject, KeyObject],
): Promise<CertificatePair | undefined> {
  const [first] = mailboxes;
  const known = first && (await findCurrent(broker.table, first.key));
  if (!known) return undefined;
  const { signingCertificate, encryptionCertificate } = known;
  const [signing, encryption] = [parseCertificate(signingCertificate), parseCertificate(encryptionCertificate)];
  const isSame = signing.publicKey.equals(signingKey) && encryption.publicKey.equals(encryptionKey);
  const names = (keys: readonly string[]): string => [...keys].sort().join(" ");
  const isForThem = names(signing.mailboxes) === names(mailboxes.map(({ key }) => key));
  const isFresh = signing.notBefore.getTime() + BACKDATED_MS > broker.now().getTime() - REPEATED_WITHIN_MS;
  return isSame && isForThem && isFresh ? { signingCertificate, encryptionCertificate } : undefined;
}

/** Pairs that a gateway got before for its address and that have not ended: steps that were begun with them are ended with them. */
function formerOf(before: MailboxRecord, now: Date): CertificatePair[] {
  const isOver = ({ signingCertificate }: CertificatePair): boolean => parseCertificate(signingCertificate).notAfter < now;
  return pairsOf(before)
    .filter((pair) => !isOver(pair))
    .slice(0, MOST_FORMER)
    .map(({ signingCertificate, encryptionCertificate }) => ({ signingCertificate, encryptionCertificate }));
}

/**
 * The address's record where the gateway may enrol it.
 * @param keys of which none may be one that was revoked with the address's present certificates
 * @throws Fault `forbidden`
 */
async function ownedBefore(
  broker: Broker,
  gateway: GatewayRecord,
  mailbox: Mailbox,
  keys: readonly KeyObject[],
): Promise<MailboxRecord | undefined> {
  const known = await broker.table.findMailbox(mailbox.key);
  const isFree = known === undefined || (await broker.table.isRevoked([known.gateway])); // whose gateway was revoked can go to another one
  const foreign = !isFree && known.gateway !== gateway.fingerprint;
  if (!inScope(mailbox, gateway.scope) || foreign || mailbox.key === broker.receiptsFrom.key) {
    throw new Fault("forbidden", "the gateway may not enrol this address", {
      advice: `This gateway may not enrol ${mailbox.address}: its invitation did not name it, or another gateway has it.`,
    });
  }
  if (known && (await isMailboxRevoked(broker.table, known)) && keys.some((key) => hasKey(known, key))) {
    throw revokedKeys(mailbox);
  }
  return known;
}

function revokedKeys({ address, key }: Mailbox): Fault {
  const folder = `keys/${encodeURIComponent(key)}`;
  return new Fault("forbidden", "a revoked key", {
    advice: `The keys of ${address} were revoked: remove them from the gateway's data folder (${folder}) and restart it.`,
  });
}

function hasKey(record: MailboxRecord, key: KeyObject): boolean {
  const pems = pairsOf(record).flatMap(({ signingCertificate, encryptionCertificate }) => [signingCertificate, encryptionCertificate]);
  return pems.some((pem) => parseCertificate(pem).publicKey.equals(key));
}

function certify(
  broker: Broker,
  profile: Profile,
  publicKey: KeyObject,
  commonName: string,
  mailboxes: readonly Mailbox[],
): Promise<Certificate> {
  const now = broker.now().getTime();
  const latest = broker.root.certificate.notAfter.getTime();
  return issue(broker.root, {
    profile,
    publicKey,
    commonName,
    mailboxes,
    notBefore: new Date(now - BACKDATED_MS),
    notAfter: new Date(Math.min(now + broker.limits.certificateLifetime, latest)),
  });
}

/** A mailbox that takes part: enrolled, and not revoked. */
export async function findCurrent(registry: RegistryView, key: string): Promise<MailboxRecord | undefined> {
  const record = await registry.findMailbox(key);
  return record && !(await isMailboxRevoked(registry, record)) ? record : undefined;
}

/** Directory look-up: a mailbox's certificates. @throws Fault `no-certificate` */
export async function lookUp(
  broker: Broker,
  text: string,
): Promise<{ address: string; signingCertificate: string; encryptionCertificate: string }> {
  const mailbox = parseMailbox(text);
  const record = await findCurrent(broker.table, mailbox.key);
  if (!record) throw new Fault("no-certificate", "the mailbox is not enrolled");
  const { signingCertificate, encryptionCertificate } = record;
  return { address: mailbox.key, signingCertificate, encryptionCertificate: parseCertificate(encryptionCertificate).pem };
}
