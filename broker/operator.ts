/** What an operator does beside the running broker: invitations, revocations, backups, new keys. */
import { createPublicKey } from "node:crypto";
import { lockFolder } from "../config/lock.ts";
import type { BrokerConfig } from "../config/schema.ts";
import type { Certificate } from "../mime/certificate.ts";
import type { RevocationReason } from "../mime/crl.ts";
import { Fault } from "../mime/fault.ts";
import { newKey } from "../mime/request.ts";
import { firstBroken } from "./audit.ts";
import { createRoot, issue } from "./authority.ts";
import { accept, backup, restore, type Unopened } from "./backup.ts";
import { invite } from "./enrol.ts";
import { FILES } from "./files.ts";
import { rotateMaster } from "./master-files.ts";
import { atTable, fileIn, masterPlaceOf } from "./open.ts";
import { makeOwn, type Own } from "./own.ts";
import { revoke, type Revocable } from "./revoke.ts";
import { rootsAt } from "./roots.ts";
import { certificatesIn, gatewaysIn, organisationsIn, sessionCounts, sessionsNamed } from "./overview.ts";
import type { Revocation } from "./table.ts";
import { Witness } from "./witness.ts";

/** Makes a new key and certificate for the broker's door, its signatures or its tickets; they count from its next reload or start. */
export async function rotateKey(config: BrokerConfig, which: Own, now: Date): Promise<Certificate> {
  const { url, receipts } = config;
  return makeOwn(config.data, rootsAt(config.data).issuing, which, { url, receiptsFrom: receipts.from, now });
}

/** Makes a new master key, which the running broker takes over by itself. @returns the path of the former one */
export function rotateMasterKey(config: BrokerConfig): string {
  return rotateMaster(masterPlaceOf(config));
}

/** Revokes from the next request on. @throws Fault `malformed`: nobody of this name is enrolled */
export async function revokeAt(config: BrokerConfig, what: Revocable, reason: RevocationReason, now: Date): Promise<Revocation[]> {
  return atTable(config, (table) => revoke(table, what, reason, now, "operator"));
}

/** Makes a one-time token for a gateway. @param entries addresses and domains it may act for */
export async function inviteGateway(
  config: BrokerConfig,
  entries: readonly string[],
  now: Date,
): Promise<{ token: string; expiresAt: Date }> {
  return atTable(config, (table) => invite(table, entries, now));
}

/** Verifies the audit logs' chains; the broker may run meanwhile. @returns the first entry of each log that does not fit, and how many entries there are */
export async function verifyAudit(config: BrokerConfig): Promise<{ entries: number; broken: { log: string; n: number; what: string }[] }> {
  return atTable(config, async (table) => {
    let entries = 0;
    const broken: { log: string; n: number; what: string }[] = [];
    for await (const log of table.auditLogs()) {
      entries += log.entries.length;
      const found = firstBroken(log);
      if (found) broken.push({ log: log.name, ...found });
    }
    return { entries, broken };
  });
}

/** Looks into the table (overview.ts); the broker may run meanwhile. */
export const overview = {
  organisations: (config: BrokerConfig) => atTable(config, organisationsIn),
  gateways: (config: BrokerConfig) => atTable(config, gatewaysIn),
  certificates: (config: BrokerConfig, address?: string) => atTable(config, (table) => certificatesIn(table, address)),
  states: (config: BrokerConfig) => atTable(config, sessionCounts),
  sessions: (config: BrokerConfig, name: string) => atTable(config, (table) => sessionsNamed(table, name)),
} as const;

/** Writes the session table into a file. @returns how many things it holds */
export async function backupTable(config: BrokerConfig, path: string, now: Date): Promise<number> {
  return atTable(config, (table) => backup(table, path, now));
}

/**
 * Restores the session table, with the broker stopped: from a backup into an empty table, or, without a path, accepts the older copy
 * that stands in its place.
 * @param unopened what becomes of letters that were not opened when the copy was made
 */
export async function restoreTable(
  config: BrokerConfig,
  path: string | undefined,
  unopened: Unopened,
  now: Date,
): Promise<{ erased: number }> {
  const unlock = lockFolder(config.data);
  try {
    return await atTable(config, (table) => {
      if (path !== undefined) return restore(table, path, unopened, now);
      const lost = new Witness(fileIn(config, FILES.witness)).epoch;
      if (lost === undefined) throw new Fault("malformed", "this broker has not seen a session table yet: there is nothing to accept");
      return accept(table, lost, unopened, now);
    });
  } finally {
    unlock();
  }
}

/** Issues a TLS server certificate under the broker's root, for doors that trust it, as the demo's do. */
export async function issueServerCertificate(
  config: BrokerConfig,
  hosts: readonly string[],
  now: Date,
): Promise<{ key: string; certificate: string }> {
  const root = rootsAt(config.data).issuing;
  const key = newKey();
  const order = { profile: "server" as const, publicKey: createPublicKey(key), commonName: hosts[0] ?? "", hosts, notBefore: now };
  const certificate = await issue(root, { ...order, notAfter: new Date(now.getTime() + config.certificates.lifetime) });
  return { key: key.export({ type: "pkcs8", format: "pem" }).toString(), certificate: certificate.pem };
}

/** For a door whose certificate clients may check, until the administrator has one of a public authority. */
export interface DoorCertificate {
  readonly key: string;
  /** The door's certificate, and the one that clients are told to trust; its key exists no more. */
  readonly certificate: string;
  readonly authority: string;
}

const DOOR_YEARS = 5;

/** Makes a TLS server certificate under an authority of its own, whose key is forgotten at once: it can sign for nobody else. */
export async function makeDoorCertificate(host: string, now: Date): Promise<DoorCertificate> {
  const notAfter = new Date(now);
  notAfter.setFullYear(notAfter.getFullYear() + DOOR_YEARS);
  const root = await createRoot(`Door of ${host}`, now, notAfter);
  const key = newKey();
  const order = { profile: "server" as const, publicKey: createPublicKey(key), commonName: host, hosts: [host], notBefore: now, notAfter };
  const { pem } = await issue(root, order);
  return { key: key.export({ type: "pkcs8", format: "pem" }).toString(), certificate: pem, authority: root.certificate.pem };
}
