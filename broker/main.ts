/** Wires the broker together from its configuration; nothing is decided here. */
import { readFileSync } from "node:fs";
import { Lifecycle, pause, type Running } from "../config/lifecycle.ts";
import { holderOf } from "../config/holder.ts";
import { lockFolder } from "../config/lock.ts";
import { reasonOf, type Log } from "../config/log.ts";
import type { BrokerConfig } from "../config/schema.ts";
import { readPrivateKey, readSecret } from "../config/secrets.ts";
import { Fault } from "../mime/fault.ts";
import { startAdmin } from "./admin.ts";
import type { Broker } from "./broker.ts";
import { FILES, initBroker } from "./init.ts";
import { masterKeysAt } from "./master-files.ts";
import { localMasterKey } from "./master-key.ts";
import { fileIn, masterPlaceOf, openTable, readCertificate, rootOf, rootSignerOf, sessionKeysOf } from "./open.ts";
import { Outbox, smtpMailer } from "./outbox.ts";
import { startServer } from "./server.ts";
import { sweep } from "./sweep.ts";
import { Witness } from "./witness.ts";

export { initBroker, rootOf };
export {
  backupTable,
  inviteGateway,
  issueServerCertificate,
  makeDoorCertificate,
  restoreTable,
  revokeAt,
  rotateMasterKey,
  rotateSessionKey,
  verifyAudit,
} from "./operator.ts";
export type { Unopened } from "./backup.ts";
export type { Revocable } from "./revoke.ts";

const SWEEP_EVERY_MS = 60_000;
/** Its settings are looked at again, and whether it lost steps. */
const EXAMINE_EVERY_MS = 60_000;
/** What was erased is made unrecoverable. */
const FORGET_EVERY_MS = 60 * 60_000;
/** What is not written down yet is noticed as lost only while this process lives. */
const WITNESS_EVERY_MS = 5_000;

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
    const masters = masterPlaceOf(config);
    const { relay, retryFirst, retryLongest } = config.receipts;
    const broker: Broker = {
      url: config.url,
      table,
      masterKey: localMasterKey(() => masterKeysAt(masters), masters.dayKeys),
      root: rootSignerOf(config),
      signer: { key: key(FILES.signingKey), certificate: certificate(FILES.signing) },
      sessionKeys: sessionKeysOf(config),
      receiptsFrom: config.receipts.from,
      limits: {
        longestExpiry: config.expiry.longest,
        warnAfter: config.expiry.warnAfter,
        vanishAfter: config.vanishAfter,
        certificateLifetime: config.certificates.lifetime,
        crlLifetime: config.crl.lifetime,
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
    const tls = { key: readSecret(fileIn(config, FILES.serverKey)).reveal(), cert: certificate(FILES.server).pem };
    if (config.admin) {
      const admin = await startAdmin(broker, config.admin, tls, config.limits);
      running.onStop(() => admin.stop());
    }
    const server = await startServer(broker, config.listen, tls, config.limits);
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

/** Takes over a rotated master key; and "erased" is to mean erased: the keys of days on which no letter waits, and what the table's home still has of deleted rows. */
async function forgetKeys({ table, masterKey, now, log }: Broker): Promise<void> {
  masterKey.renew();
  const destroyed = masterKey.destroy(await table.daysInUse(), now().getTime());
  if (destroyed.length > 0) log.info({ event: "keys.destroyed", days: destroyed.length });
  await table.compact();
}
