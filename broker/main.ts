/** Wires the broker together from its configuration; nothing is decided here. */
import { createPublicKey } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { Lifecycle, pause, type Running } from "../config/lifecycle.ts";
import { holderOf } from "../config/holder.ts";
import { lockFolder } from "../config/lock.ts";
import { reasonOf, type Log } from "../config/log.ts";
import type { BrokerConfig } from "../config/schema.ts";
import { readPrivateKey, readSecret } from "../config/secrets.ts";
import { parseCertificate, type Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import type { Opener } from "../mime/open.ts";
import { newKey } from "../mime/request.ts";
import { issue } from "./authority.ts";
import { accept, backup, restore, type Unopened } from "./backup.ts";
import type { Broker } from "./broker.ts";
import { invite } from "./enrol.ts";
import { FILES, FORMER_SESSION, initBroker, rotateSession } from "./init.ts";
import { localMasterKey } from "./master-key.ts";
import { Outbox, smtpMailer } from "./outbox.ts";
import { startServer } from "./server.ts";
import { openEmbeddedTable } from "./table-embedded.ts";
import { openRedisTable } from "./table-redis.ts";
import type { Table } from "./table.ts";
import { Witness } from "./witness.ts";

export { initBroker };
export type { Unopened };

const SWEEP_EVERY_MS = 60_000;
/** Its settings are looked at again, and whether it lost steps. */
const EXAMINE_EVERY_MS = 60_000;
/** What was erased is made unrecoverable. */
const FORGET_EVERY_MS = 60 * 60_000;
/** What is not written down yet is noticed as lost only while this process lives. */
const WITNESS_EVERY_MS = 5_000;

function fileIn(config: BrokerConfig, name: string): string {
  return join(config.data, name);
}

function readCertificate(path: string): Certificate {
  try {
    return parseCertificate(readFileSync(path, "utf8"));
  } catch (cause) {
    throw new Fault("malformed", `${path} cannot be read: run "kakitome init broker" first, or set data in the configuration`, { cause });
  }
}

/** @param witness what notices a table that went back in time; a short command does without */
async function openTable(config: BrokerConfig, witness?: Witness): Promise<Table> {
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

/** The current pair first, then the former ones. */
function sessionKeysOf(config: BrokerConfig): Opener[] {
  const pair = (name: string): Opener => {
    const key = readPrivateKey(fileIn(config, `${name}.key.pem`));
    const certificate = readCertificate(fileIn(config, `${name}.crt.pem`));
    if (createPublicKey(key).equals(certificate.publicKey)) return { key, certificate };
    throw new Fault(
      "malformed",
      `${name}.key.pem and ${name}.crt.pem in ${config.data} do not belong together; after a rotation that was cut off, rename session-next.crt.pem to session.crt.pem`,
    );
  };
  const former = readdirSync(config.data).filter((name) => FORMER_SESSION.test(name));
  return [pair("session"), ...former.map((name) => pair(name.slice(0, -".crt.pem".length)))];
}

/** Makes a new session key for tickets; the broker uses it from its next start, and still opens tickets of the former ones. */
export async function rotateSessionKey(config: BrokerConfig, now: Date): Promise<Certificate> {
  const root = { key: readPrivateKey(fileIn(config, FILES.rootKey)), certificate: rootOf(config) };
  return rotateSession(config.data, root, now);
}

/** The root that gateways compare when they enrol. */
export function rootOf(config: BrokerConfig): Certificate {
  return readCertificate(fileIn(config, FILES.root));
}

/** Makes a one-time token for a gateway. @param entries addresses and domains it may act for */
export async function inviteGateway(
  config: BrokerConfig,
  entries: readonly string[],
  now: Date,
): Promise<{ token: string; expiresAt: Date }> {
  const table = await openTable(config);
  try {
    return await invite(table, entries, now);
  } finally {
    await table.close();
  }
}

/** Writes the session table into a file. @returns how many things it holds */
export async function backupTable(config: BrokerConfig, path: string, now: Date): Promise<number> {
  const table = await openTable(config);
  try {
    return await backup(table, path, now);
  } finally {
    await table.close();
  }
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
  const table = await openTable(config);
  try {
    if (path !== undefined) return await restore(table, path, unopened, now);
    const lost = new Witness(fileIn(config, FILES.witness)).epoch;
    if (lost === undefined) throw new Fault("malformed", "this broker has not seen a session table yet: there is nothing to accept");
    return await accept(table, lost, unopened, now);
  } finally {
    await table.close();
    unlock();
  }
}

/** Issues a TLS server certificate under the broker's root, for doors that trust it, as the demo's do. */
export async function issueServerCertificate(
  config: BrokerConfig,
  hosts: readonly string[],
  now: Date,
): Promise<{ key: string; certificate: string }> {
  const root = { key: readPrivateKey(fileIn(config, FILES.rootKey)), certificate: rootOf(config) };
  const key = newKey();
  const order = { profile: "server" as const, publicKey: createPublicKey(key), commonName: hosts[0] ?? "", hosts, notBefore: now };
  const certificate = await issue(root, { ...order, notAfter: new Date(now.getTime() + config.certificates.lifetime) });
  return { key: key.export({ type: "pkcs8", format: "pem" }).toString(), certificate: certificate.pem };
}

/** Starts the broker. @returns when it listens; `stop` lets running requests end and closes the table */
export async function startBroker(
  config: BrokerConfig,
  log: Log,
  now: () => Date = () => new Date(),
): Promise<Running & { readonly port: number }> {
  const running = new Lifecycle();
  try {
    const key = (name: string) => readPrivateKey(fileIn(config, name));
    const certificate = (name: string) => readCertificate(fileIn(config, name));
    running.onStop(lockFolder(config.data));
    const witness = new Witness(fileIn(config, FILES.witness), ({ message, advice }) =>
      log.error({ event: "table.went-back", reason: message, advice }),
    );
    const table = await openTable(config, witness);
    running.onStop(() => {
      witness.keep();
      return table.close();
    });
    await table.ready();
    const { relay, retryFirst, retryLongest } = config.receipts;
    const broker: Broker = {
      url: config.url,
      table,
      masterKey: localMasterKey(
        Buffer.from(readSecret(fileIn(config, FILES.masterKey)).reveal(), "hex"),
        config.dayKeys ?? fileIn(config, FILES.dayKeys),
      ),
      root: { key: key(FILES.rootKey), certificate: certificate(FILES.root) },
      signer: { key: key(FILES.signingKey), certificate: certificate(FILES.signing) },
      sessionKeys: sessionKeysOf(config),
      receiptsFrom: config.receipts.from,
      limits: {
        longestExpiry: config.expiry.longest,
        vanishAfter: config.vanishAfter,
        certificateLifetime: config.certificates.lifetime,
      },
      log,
      now,
      receiptWaits: (entry) => outbox.wake(entry),
    };
    const mailer = smtpMailer({
      host: relay.host,
      port: relay.port,
      tls: relay.tls,
      ca: relay.ca === undefined ? undefined : readFileSync(relay.ca, "utf8"),
      auth:
        relay.user !== undefined && relay.passwordFile !== undefined
          ? { user: relay.user, pass: readSecret(relay.passwordFile).reveal() }
          : undefined,
    });
    running.onStop(() => mailer.close());
    const outbox = new Outbox(broker, mailer, { retryFirst, retryLongest, holder: holderOf(config.data) });
    const workers = [
      outbox.run(running.signal),
      every(SWEEP_EVERY_MS, "table.sweep-waits", () => sweep(broker), broker, running.signal),
      every(FORGET_EVERY_MS, "keys.waiting", () => forgetKeys(broker), broker, running.signal),
      every(EXAMINE_EVERY_MS, "table.not-fit", () => table.ready(), broker, running.signal),
      every(WITNESS_EVERY_MS, "witness.waits", async () => witness.keep(), broker, running.signal),
    ];
    running.onStop(async () => void (await Promise.all(workers)));
    const server = await startServer(broker, config.listen, {
      key: readSecret(fileIn(config, FILES.serverKey)).reveal(),
      cert: certificate(FILES.server).pem,
    });
    running.onStop(() => server.stop());
    log.info({ event: "broker.started", url: config.url, port: server.port, fingerprint: broker.root.certificate.fingerprint });
    return { port: server.port, stop: () => running.stop() };
  } catch (thrown) {
    await running.stop();
    throw thrown;
  }
}

/** Does something now and again until the signal aborts; what fails is logged under the event and tried the next time. */
async function every(ms: number, event: string, work: () => Promise<void>, broker: Broker, signal: AbortSignal): Promise<void> {
  do {
    try {
      await work();
    } catch (thrown) {
      broker.log.warn({ event, reason: reasonOf(thrown), advice: Fault.from(thrown).advice });
    }
  } while (await pause(ms, signal));
}

async function sweep(broker: Broker): Promise<void> {
  const changed = await broker.table.sweep(broker.now().getTime());
  if (changed > 0) broker.log.info({ event: "table.swept", rows: changed });
}

/** "Erased" is to mean erased: the keys of days on which no letter waits, and what the table's home still has of deleted rows. */
async function forgetKeys({ table, masterKey, now, log }: Broker): Promise<void> {
  const destroyed = masterKey.destroy(await table.daysInUse(), now().getTime());
  if (destroyed.length > 0) log.info({ event: "keys.destroyed", days: destroyed.length });
  await table.compact();
}
