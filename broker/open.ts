/** What a broker's configuration names, opened: its table, its keys and certificates. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { BrokerConfig } from "../config/schema.ts";
import { readSecret } from "../config/secrets.ts";
import { parseCertificate, type Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { FILES } from "./files.ts";
import type { MasterPlace } from "./master-files.ts";
import { smtpMailer, type ReceiptMailer } from "./outbox.ts";
import { rootsAt } from "./roots.ts";
import { openEmbeddedTable } from "./table-embedded.ts";
import { openRedisTable } from "./table-redis.ts";
import type { Table } from "./table.ts";
import type { TableWitness } from "./witness.ts";

/** A file of the data folder. */
export function fileIn(config: BrokerConfig, name: string): string {
  return join(config.data, name);
}

/** @throws Fault `malformed` */
export function readCertificate(path: string): Certificate {
  try {
    return parseCertificate(readFileSync(path, "utf8"));
  } catch (cause) {
    throw new Fault("malformed", `${path} cannot be read: run "kakitome init broker" first, or set data in the configuration`, { cause });
  }
}

/** @param witness what notices a table that went back in time; a short command does without */
export async function openTable(config: BrokerConfig, witness?: TableWitness): Promise<Table> {
  const options = { retention: config.retention, ...(witness && { witness }) };
  if (config.table === "embedded") return openEmbeddedTable(fileIn(config, FILES.table), options);
  const { redis, sentinel, cluster, user, passwordFile, tls, ca, prefix, replicas } = config.table;
  const password = passwordFile === undefined ? undefined : readSecret(passwordFile).reveal();
  const url = redis === undefined ? undefined : new URL(redis);
  if (url && password !== undefined) url.password = encodeURIComponent(password);
  return openRedisTable({
    ...options,
    prefix,
    replicas,
    tls,
    ca: ca === undefined ? undefined : readFileSync(ca, "utf8"),
    ...(url ? { url: url.href } : { user, password }),
    sentinel: sentinel && {
      name: sentinel.name,
      hosts: sentinel.hosts,
      password: sentinel.passwordFile === undefined ? undefined : readSecret(sentinel.passwordFile).reveal(),
    },
    cluster,
  });
}

/** Opens the table for one piece of work. */
export async function atTable<T>(config: BrokerConfig, work: (table: Table) => Promise<T>): Promise<T> {
  const table = await openTable(config);
  try {
    return await work(table);
  } finally {
    await table.close();
  }
}

/** The root that issues, which gateways compare when they enrol. */
export function rootOf(config: BrokerConfig): Certificate {
  return rootsAt(config.data).issuing.certificate;
}

/** Where the master key rests. */
export function masterPlaceOf(config: BrokerConfig): MasterPlace {
  const { data, dayKeys = fileIn(config, FILES.dayKeys), masterKey } = config;
  const { credential, file = fileIn(config, FILES.masterKey) } = masterKey ?? {};
  return { data, dayKeys, source: credential === undefined ? { file } : { credential } };
}

/** The mail server that takes receipts. */
export function mailerOf({ receipts: { relay } }: BrokerConfig): ReceiptMailer {
  const { host, port, tls, ca, user, passwordFile } = relay;
  const auth = user !== undefined && passwordFile !== undefined ? { user, pass: readSecret(passwordFile).reveal() } : undefined;
  return smtpMailer({ host, port, tls, ca: ca === undefined ? undefined : readFileSync(ca, "utf8"), auth });
}
