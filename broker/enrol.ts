/** S0: a gateway enrols once with a one-time token, then its mailboxes by itself; private keys stay where they were made. */
import { createHash, randomBytes, type KeyObject } from "node:crypto";
import { inScope, parseDomain, parseMailbox, type Mailbox } from "../mime/address.ts";
import { parseCertificate, type Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { requestedKey } from "../mime/request.ts";
import { issue, type Profile } from "./authority.ts";
import type { Broker } from "./broker.ts";
import type { GatewayRecord, Registry } from "./table.ts";
import { enrolBody, mailboxBody, parseBody } from "./wire.ts";

const INVITE_LIFETIME_MS = 7 * 86_400_000;
/** Certificates are valid from a little earlier, for gateways whose clock is behind. */
const BACKDATED_MS = 10 * 60_000;

const tokenHash = (token: string): string => createHash("sha256").update(token).digest("hex");

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

/** Takes the token and gives the gateway its channel certificate. @throws Fault `unauthenticated`: token unknown, used or expired */
export async function enrolGateway(broker: Broker, body: Buffer): Promise<{ certificate: string }> {
  const { token, name, request } = parseBody(enrolBody, body);
  const publicKey = requestedKey(request);
  const taken = await broker.table.takeInvite(tokenHash(token), broker.now().getTime());
  if (!taken) {
    throw new Fault("unauthenticated", "the invitation is unknown, used or expired", {
      advice: "The invitation is unknown, used or expired; ask the broker's operator for another.",
    });
  }
  const certificate = await certify(broker, "channel", publicKey, name, []);
  await broker.table.putGateway({ fingerprint: certificate.fingerprint, name, scope: taken.scope, enrolledAt: broker.now().getTime() });
  broker.log.info({ event: "gateway.enrolled", step: "S0", gateway: certificate.fingerprint.slice(0, 12), scope: taken.scope.join(" ") });
  return { certificate: certificate.pem };
}

/**
 * Gives a mailbox of the gateway its two certificates.
 * @throws Fault `forbidden`: the invitation did not name the address, or another gateway has it
 */
export async function enrolMailbox(
  broker: Broker,
  gateway: GatewayRecord,
  body: Buffer,
): Promise<{ signingCertificate: string; encryptionCertificate: string }> {
  const { address, aliases, signing, encryption } = parseBody(mailboxBody, body);
  const mailboxes = [address, ...aliases];
  for (const mailbox of mailboxes) await demandOwnership(broker, gateway, mailbox);
  const signingCertificate = await certify(broker, "mailbox-signing", requestedKey(signing), address.address, mailboxes);
  const encryptionCertificate = await certify(broker, "mailbox-encryption", requestedKey(encryption), address.address, mailboxes);
  for (const mailbox of mailboxes) {
    await broker.table.putMailbox({
      address: mailbox.key,
      gateway: gateway.fingerprint,
      signingCertificate: signingCertificate.pem,
      encryptionCertificate: encryptionCertificate.pem,
      enrolledAt: broker.now().getTime(),
    });
  }
  broker.log.info({ event: "mailbox.enrolled", step: "S0", domain: address.domain });
  return { signingCertificate: signingCertificate.pem, encryptionCertificate: encryptionCertificate.pem };
}

async function demandOwnership(broker: Broker, gateway: GatewayRecord, mailbox: Mailbox): Promise<void> {
  const known = await broker.table.findMailbox(mailbox.key);
  const foreign = known !== undefined && known.gateway !== gateway.fingerprint;
  if (!inScope(mailbox, gateway.scope) || foreign || mailbox.key === broker.receiptsFrom.key) {
    throw new Fault("forbidden", "the gateway may not enrol this address", {
      advice: `This gateway may not enrol ${mailbox.address}: its invitation did not name it, or another gateway has it.`,
    });
  }
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

/** Directory look-up: a mailbox's certificates. @throws Fault `no-certificate` */
export async function lookUp(
  broker: Broker,
  text: string,
): Promise<{ address: string; signingCertificate: string; encryptionCertificate: string }> {
  const mailbox = parseMailbox(text);
  const record = await broker.table.findMailbox(mailbox.key);
  if (!record) throw new Fault("no-certificate", "the mailbox is not enrolled");
  const { signingCertificate, encryptionCertificate } = record;
  return { address: mailbox.key, signingCertificate, encryptionCertificate: parseCertificate(encryptionCertificate).pem };
}
