/** Wires the broker together from its configuration; nothing is decided here. */
import { Health, startHealth, type HealthPlace } from "../config/health.ts";
import { Lifecycle, type Running } from "../config/lifecycle.ts";
import { lockFolder } from "../config/lock.ts";
import { overheard, type Log } from "../config/log.ts";
import type { Reloading } from "../config/reload.ts";
import type { BrokerConfig } from "../config/schema.ts";
import { Workers as WorkersOf } from "../config/workers.ts";
import { doChores, outboxOf } from "./chores.ts";
import { openDoors } from "./doors.ts";
import { FILES } from "./files.ts";
import { checksOf } from "./health.ts";
import { initBroker } from "./init.ts";
import { Instance, type Reading } from "./instance.ts";
import { addGauges, Counted } from "./metrics.ts";
import { fileIn, openTable, rootOf } from "./open.ts";
import { finishOwn } from "./own.ts";
import { Witness } from "./witness.ts";
import type { Forgotten, Opened, ToPrimary, ToWorker, WorkerNews } from "./worker-talk.ts";

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
export { runWorker } from "./worker.ts";

export interface RunningBroker extends Running, Reloading<BrokerConfig> {
  readonly port: number;
  readonly healthPort: number | undefined;
}

class Workers extends WorkersOf<BrokerConfig, Opened, ToWorker, ToPrimary, readonly WorkerNews[]> {
  /** @throws Fault `unavailable`: the table does not answer one of them, or it cannot be trusted */
  ready(): Promise<unknown> {
    return this.askAll("ready", undefined);
  }
}

/** Longer than a worker's doors take to close. */
const STOP_WITHIN_MS = 10_000;

/** What gateways meet: doors of this process, or workers with theirs. */
interface Front extends Running {
  readonly port: number;
  /** Takes it, here and in every worker. @throws Fault `malformed`; then nobody took it */
  take(reading: Reading): Promise<void>;
  forget(what: Forgotten): Promise<void>;
}

/** Starts the broker. @returns when it listens; `stop` lets running requests end and closes the table */
export async function startBroker(config: BrokerConfig, writtenTo: Log, now: () => Date = () => new Date()): Promise<RunningBroker> {
  const running = new Lifecycle();
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
    finishOwn(config.data);
    const instance = new Instance(config, { table, log, now, receiptWaits: (entry) => outbox.wake(entry) });
    const { outbox, close } = outboxOf(instance);
    running.onStop(close);
    let front: Front | undefined;
    const chores = doChores(instance, { outbox, witness, forgotten: async (what) => front?.forget(what) }, running.signal);
    running.onStop(() => chores);
    const workers = config.workers === 1 ? undefined : new Workers(primaryOf());
    await workers?.start();
    const open = workers ? frontOf(workers, instance) : await ownFront(instance);
    front = open;
    running.onStop(() => open.stop());
    const healthPort = config.health && (await openHealth(config.health));
    const { fingerprint } = instance.broker.root.certificate;
    log.info({ event: "broker.started", url: config.url, port: open.port, fingerprint, workers: config.workers });
    return {
      port: open.port,
      healthPort,
      stop: () => running.stop(),
      async reload(next) {
        const reading = instance.read(next); // throws before anything changed
        await open.take(reading);
        return reading.reloaded;
      },
    };

    /** Whom workers turn to: the one witness, the one outbox and the one count. */
    function primaryOf() {
      return {
        log,
        count: config.workers,
        stopWithin: STOP_WITHIN_MS,
        config: () => instance.config,
        answers: { known: async () => witness.known(), check: async ({ mark, known }) => witness.check(mark, known) },
        heard(news) {
          for (const one of news) {
            if ("head" in one) witness.saw(...one.head);
            else if ("line" in one) counted.hear(one.line);
            else outbox.wake(one.entry);
          }
        },
        ended: () => outbox.lookAgain(),
      } satisfies ConstructorParameters<typeof Workers>[0];
    }

    async function openHealth(place: HealthPlace): Promise<number> {
      const certificates = () => instance.certificates();
      const health = new Health(checksOf({ table, outbox, certificates, now, workers }), now);
      addGauges(counted.metrics, { health, outbox, certificates, now });
      if (workers) counted.metrics.addOthers(() => workers.figures());
      const opened = await startHealth(place, { health, metrics: counted.metrics, log });
      running.onStop(() => opened.stop());
      return opened.port;
    }
  } catch (thrown) {
    await running.stop();
    throw thrown;
  }
}

async function ownFront(instance: Instance): Promise<Front> {
  const { port, renew, stop } = await openDoors(instance);
  return {
    port,
    stop,
    async take(reading) {
      instance.take(reading);
      renew();
    },
    forget: async ({ files }) => (files ? renew() : undefined),
  };
}

const frontOf = (workers: Workers, instance: Instance): Front => ({
  get port() {
    return workers.opened?.port ?? 0;
  },
  stop: () => workers.stop(),
  take: (reading) => workers.reload(reading.config, () => instance.take(reading)),
  forget: (what) => workers.tellAll("forget", what),
});
