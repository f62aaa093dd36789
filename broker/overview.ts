/** What an operator may see of the table: who takes part, with which certificates, and how letters stand; nothing that opens, presents or confirms one. */
import { keyOf } from "../mime/address.ts";
import { parseCertificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { pairsOf } from "./revoke.ts";
import type { Session } from "./session.ts";
import type { GatewayRecord, Table } from "./table.ts";

const timeOf = (milliseconds: number): string => new Date(milliseconds).toISOString();

/** A gateway by one of its channel certificates. */
export interface ShownGateway extends Omit<GatewayRecord, "enrolledAt"> {
  /** ISO 8601, as every time here. */
  readonly enrolledAt: string;
  readonly revoked: boolean;
}

/** Every channel certificate of every gateway, the oldest first. */
export async function gatewaysIn(table: Table): Promise<readonly ShownGateway[]> {
  const gateways = (await table.gateways()).toSorted((a, b) => a.enrolledAt - b.enrolledAt);
  return Promise.all(
    gateways.map(async ({ enrolledAt, ...gateway }) => ({
      ...gateway,
      enrolledAt: timeOf(enrolledAt),
      revoked: await table.isRevoked([gateway.fingerprint, gateway.serial]),
    })),
  );
}

/** What gateways may act for: a domain, or one address. */
export interface Organisation {
  readonly scope: string;
  /** Names of the gateways that count. */
  readonly gateways: readonly string[];
  /** How many mailboxes are enrolled within it. */
  readonly mailboxes: number;
}

/** By domain or address. */
export async function organisationsIn(table: Table): Promise<readonly Organisation[]> {
  const [gateways, mailboxes] = await Promise.all([gatewaysIn(table), table.mailboxes()]);
  const counting = gateways.filter(({ revoked }) => !revoked);
  const scopes = [...new Set(gateways.flatMap(({ scope }) => scope))].toSorted((a, b) => a.localeCompare(b));
  return scopes.map((scope) => ({
    scope,
    gateways: [...new Set(counting.filter((one) => one.scope.includes(scope)).map(({ name }) => name))],
    mailboxes: mailboxes.filter(({ address }) => address === scope || address.slice(address.lastIndexOf("@") + 1) === scope).length,
  }));
}

/** A certificate of a mailbox. */
export interface ShownCertificate {
  readonly address: string;
  readonly use: "signing" | "encryption";
  readonly serial: string;
  readonly notAfter: string;
  /** Former ones count for what is under way. */
  readonly former: boolean;
  readonly revoked: boolean;
}

/** Certificates of mailboxes, of all or of one. @throws Fault `malformed`: no such mailbox */
export async function certificatesIn(table: Table, address?: string): Promise<readonly ShownCertificate[]> {
  const all = (await table.mailboxes()).toSorted((a, b) => a.address.localeCompare(b.address));
  const wanted = address === undefined ? all : all.filter((one) => one.address === keyOf(address));
  if (address !== undefined && wanted.length === 0) throw new Fault("malformed", `${address} is not enrolled`);
  const shownOf = wanted.flatMap((record) =>
    pairsOf(record).flatMap(({ signingCertificate, encryptionCertificate }, at) =>
      [["signing", signingCertificate] as const, ["encryption", encryptionCertificate] as const].map(async ([use, pem]) => {
        const { x509, notAfter } = parseCertificate(pem);
        const serial = x509.serialNumber.toLowerCase();
        const revoked = await table.isRevoked([serial]);
        return { address: record.address, use, serial, notAfter: notAfter.toISOString(), former: at > 0, revoked };
      }),
    ),
  );
  return Promise.all(shownOf);
}

/** A row as an operator sees it. */
export function shown(row: Session): Readonly<Record<string, string>> {
  const { session, ticketHash, state, gateway, sender, recipient, messageId, terms, declaredAt, expiresAt } = row;
  const times = Object.entries(row).filter(([field]) => ["releasedAt", "confirmedAt", "endedAt"].includes(field));
  return {
    session,
    ticketHash,
    state,
    gateway,
    sender,
    recipient,
    messageId,
    terms,
    declaredAt: timeOf(declaredAt),
    expiresAt: timeOf(expiresAt),
    ...Object.fromEntries(times.flatMap(([field, at]) => (typeof at === "number" ? [[field, timeOf(at)]] : []))),
    ...("evidence" in row && { evidence: row.evidence }),
  };
}

/**
 * Sessions of one letter; it goes through the whole table.
 * @param name a Message-ID, the SHA-256 of a session ID or of a ticket in hex, or at least its first twelve digits, as logs name it
 */
export async function sessionsNamed(table: Table, name: string): Promise<readonly Readonly<Record<string, string>>[]> {
  const isHash = /^[0-9a-f]{12,64}$/u.test(name);
  const found: Readonly<Record<string, string>>[] = [];
  for await (const stored of table.stored()) {
    if (stored.kind !== "row") continue;
    const { messageId, ticketHash } = stored.fields;
    const fits = isHash ? stored.session.startsWith(name) || String(ticketHash).startsWith(name) : messageId === name;
    const row = fits ? await table.find(stored.session) : undefined;
    if (row) found.push(shown(row));
  }
  return found;
}

/** How many sessions there are in each state. */
export async function sessionCounts(table: Table): Promise<Readonly<Record<string, number>>> {
  const counts: Record<string, number> = {};
  for await (const stored of table.stored()) {
    if (stored.kind !== "row") continue;
    const state = String(stored.fields["state"]);
    counts[state] = (counts[state] ?? 0) + 1;
  }
  return counts;
}
