/** Wires the broker together from its configuration; nothing is decided here. */
import { Endings } from "../config/endings.ts";
import { Health, startHealth, type HealthPlace } from "../config/health.ts";
import { Lifecycle, pause, type Running } from "../config/lifecycle.ts";
import { holderOf } from "../config/holder.ts";
import { lockFolder } from "../config/lock.ts";
import { overheard, reasonOf, type Log } from "../config/log.ts";
import { differences, sorted, type Reloading } from "../config/reload.ts";
import type { BrokerConfig } from "../config/schema.ts";
import type { Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { startAdmin } from "./admin.ts";
import type { Broker } from "./broker.ts";
import { checksOf } from "./health.ts";
import { FILES } from "./files.ts";
import { initBroker } from "./init.ts";
import type { Listening } from "./listener.ts";
import { LIVE_KEYS, readLive, renewedIn, withLive } from "./live.ts";
import { masterKeysAt } from "./master-files.ts";
import { localMasterKey } from "./master-key.ts";
import { addGauges, Counted } from "./metrics.ts";
import { fileIn, mailerOf, masterPlaceOf, openTable, rootOf } from "./open.ts";
import { Outbox } from "./outbox.ts";
import { finishOwn } from "./own.ts";
import { countingIn } from "./roots.ts";
import { startServer } from "./server.ts";
import { forgetSessionKeys } from "./session-keys.ts";
import { retire } from "./succession.ts";
import { sweep } from "./sweep.ts";
import { Witness } from "./witness.ts";

export { examineBroker } from "./doctor.ts";
export { initBroker, rootOf };
export {
  backupTable,
  inviteGateway,
  issueServerCertificate,
  makeDoorCertificate,
  overview,
  restoreTable,
  revokeAt,
  rotateKey,
  rotateMasterKey,
  verifyAudit,
} from "./operator.ts";
export { announce, retireNow, useNext, type Retirement } from "./succession.ts";
export type { Unopened } from "./backup.ts";
export type { Revocable } from "./revoke.ts";

const SWEEP_EVERY_MS = 60_000;
/** Its settings are looked at again, and whether it lost steps. */
const EXAMINE_EVERY_MS = 60_000;
/** What was erased is made unrecoverable. */
const FORGET_EVERY_MS = 60 * 60_000;
/** What is not written down yet is noticed as lost only while this process lives. */
const WARN_EVERY_MS = 60 * 60_000;
const WITNESS_EVERY_MS = 5_000;

export interface RunningBroker extends Running, Reloading<BrokerConfig> {
  readonly port: number;
  readonly healthPort: number | undefined;
}

/** Starts the broker. @returns when it listens; `stop` lets running requests end and closes the table */
export async function startBroker(config: BrokerConfig, writtenTo: Log, now: () => Date = () => new Date()): Promise<RunningBroker> {
  const running = new Lifecycle();
  let current = config;
  const counted = new Counted();
  const log = overheard(writtenTo, (facts) => counted.hear(facts));
  try {
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
    const { retryFirst, retryLongest } = config.receipts;
    finishOwn(config.data);
    const live = readLive(config);
    const limits = { ...config.limits, perGateway: { ...config.limits.perGateway }, perAddress: { ...config.limits.perAddress } };
    const broker: Broker = {
      url: config.url,
      table,
      masterKey: localMasterKey(() => masterKeysAt(masters), masters.dayKeys),
      get root() {
        return live.roots.issuing;
      },
      get roots() {
        return countingIn(live.roots);
      },
      get links() {
        return live.roots.links;
      },
      get signer() {
        return live.signer;
      },
      get sessionKeys() {
        return live.sessionKeys;
      },
      receiptsFrom: config.receipts.from,
      get limits() {
        return live.limits;
      },
      log,
      now,
      receiptWaits: (entry) => outbox.wake(entry),
    };
    const mailer = mailerOf(config);
    running.onStop(() => mailer.close());
    const times = { retryFirst, retryLongest };
    const outbox = new Outbox(broker, mailer, times, holderOf(config.data));
    const endings = new Endings(log);
    const workers = [
      outbox.run(running.signal),
      every(SWEEP_EVERY_MS, "table.sweep-waits", () => sweep(broker), broker, running.signal),
      every(FORGET_EVERY_MS, "keys.waiting", () => forgetKeys(broker, current, takeFiles), broker, running.signal),
      every(EXAMINE_EVERY_MS, "table.not-fit", () => table.ready(), broker, running.signal),
      every(WARN_EVERY_MS, "certificates.waiting", async () => endings.look(certificates(), now()), broker, running.signal),
      every(WITNESS_EVERY_MS, "witness.waits", async () => witness.keep(), broker, running.signal),
    ];
    running.onStop(async () => void (await Promise.all(workers)));
    const doors: Listening[] = [];
    if (config.admin) {
      const admin = await startAdmin(broker, config.admin, live.tls, limits);
      running.onStop(() => admin.stop());
      doors.push(admin);
    }
    const server = await startServer(broker, config.listen, live.tls, limits);
    running.onStop(() => server.stop());
    doors.push(server);
    const healthPort = config.health && (await openHealth(config.health));
    log.info({ event: "broker.started", url: config.url, port: server.port, fingerprint: broker.root.certificate.fingerprint });
    return {
      port: server.port,
      healthPort,
      stop: () => running.stop(),
      async reload(next) {
        const found = sorted(differences(current, next), LIVE_KEYS);
        const renewed = takeLive(withLive(current, next)); // throws before anything changed
        Object.assign(times, { retryFirst: current.receipts.retryFirst, retryLongest: current.receipts.retryLongest });
        const { perGateway, perAddress, ...rest } = current.limits;
        Object.assign(limits, rest);
        Object.assign(limits.perGateway, perGateway);
        Object.assign(limits.perAddress, perAddress);
        for (const door of doors) door.renew(live.tls, limits);
        return { ...found, changed: [...found.changed, ...renewed] };
      },
    };

    /** Takes what the configuration and the data folder say now. @returns what is another than before */
    function takeLive(next: BrokerConfig): string[] {
      const read = readLive(next);
      const renewed = renewedIn(live, read);
      current = next;
      Object.assign(live, read);
      return renewed;
    }

    function takeFiles(): void {
      takeLive(current);
      for (const door of doors) door.renew(live.tls, limits);
    }

    function certificates(): Readonly<Record<string, Certificate>> {
      const [session] = live.sessionKeys;
      const { server, signer } = live;
      return { root: broker.root.certificate, server, signing: signer.certificate, ...(session && { session: session.certificate }) };
    }

    async function openHealth(place: HealthPlace): Promise<number> {
      const health = new Health(checksOf({ table, outbox, certificates, now }), now);
      addGauges(counted.metrics, { health, outbox, certificates, now });
      const opened = await startHealth(place, { health, metrics: counted.metrics, log });
      running.onStop(() => opened.stop());
      return opened.port;
    }
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

/**
 * Takes over a rotated master key; and "erased" is to mean erased: the keys of days on which no letter waits, and what the table's home
 * still has of deleted rows. Former keys of tickets go with their last session, and former roots with the last certificate under them.
 * @param takeFiles has the process go on without them
 */
async function forgetKeys(broker: Broker, config: BrokerConfig, takeFiles: () => void): Promise<void> {
  const { table, masterKey, now, log } = broker;
  masterKey.renew();
  const used = await table.daysInUse();
  const destroyed = masterKey.destroy(used, now().getTime());
  if (destroyed.length > 0) log.info({ event: "keys.destroyed", days: destroyed.length });
  const forgotten = forgetSessionKeys(config.data, { longest: config.expiry.longest + config.retention, used, now: now() });
  const { retired } = await retire(config, table, now());
  if (forgotten.length > 0 || retired.length > 0) takeFiles();
  for (const key of forgotten) log.info({ event: "session-key.destroyed", key });
  for (const { fingerprint } of retired) log.info({ event: "root.retired", fingerprint });
  await table.compact();
}
