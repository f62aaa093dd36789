/** A worker process: it answers gateways. What is to happen once for a broker the primary does, and gives it its orders. */
import cluster from "node:cluster";
import { Lifecycle } from "../config/lifecycle.ts";
import { overheard, type Log } from "../config/log.ts";
import { Metrics } from "../config/metrics.ts";
import { Fault } from "../mime/fault.ts";
import { openDoors, type Doors } from "./doors.ts";
import { Instance, type Reading } from "./instance.ts";
import { Line, type Answers } from "./line.ts";
import { openTable } from "./open.ts";
import type { Table } from "./table.ts";
import type { TableWitness } from "./witness.ts";
import { NewsDesk } from "./worker-news.ts";
import type { ToWorker, WorkerLine } from "./worker-talk.ts";

/** In the environment of a worker: which one it is. */
export const WORKER_NUMBER = "KAKITOME_WORKER";

/** Its settings are looked at again, and whether it lost steps. */
const EXAMINE_EVERY_MS = 60_000;

/** Whether this process was started as a worker. */
export function isWorker(): boolean {
  return cluster.isWorker && process.env[WORKER_NUMBER] !== undefined;
}

/** Works until the primary says stop, or ends: without it nobody keeps the data folder or watches the table. */
export function runWorker(writtenTo: Log): void {
  for (const name of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(name, () => undefined); // sent to the whole group: the primary sees to it
  const news = new NewsDesk((told) => line.tell(told));
  const log = overheard(writtenTo.with({ worker: process.env[WORKER_NUMBER] ?? "" }), (facts) => news.line(facts));
  const line: WorkerLine = new Line(
    process,
    answersOf(log, news, () => line),
    () => undefined,
  );
  line.ask("hello", undefined).catch(() => undefined); // a primary that does not answer has ended, and we with it
}

/** What a worker has opened. */
interface Opened {
  readonly table: Table;
  readonly instance: Instance;
  readonly doors: Doors;
}

function answersOf(log: Log, news: NewsDesk, line: () => WorkerLine): Answers<ToWorker> {
  const running = new Lifecycle();
  const metrics = new Metrics();
  let opened: Opened | undefined;
  let reading: Reading | undefined;
  const open = (): Opened => {
    if (!opened) throw new Fault("unavailable", "the worker has not started");
    return opened;
  };
  /** The primary's, which knows what other workers saw. */
  const witness: TableWitness = {
    saw: (auditLog, head) => news.head(auditLog, head),
    async examine(read) {
      const known = await line().ask("known", undefined);
      await line().ask("check", { known, mark: await read() });
    },
  };
  return {
    async start(config) {
      try {
        const table = await openTable(config, witness);
        running.onStop(() => table.close());
        await table.ready();
        const instance = new Instance(config, { table, log, now: () => new Date(), receiptWaits: (entry) => news.entry(entry) });
        const examining = instance.every(EXAMINE_EVERY_MS, "table.not-fit", running.signal, () => table.ready());
        running.onStop(() => examining);
        const doors = await openDoors(instance);
        running.onStop(() => doors.stop());
        opened = { table, instance, doors };
        return { port: doors.port };
      } catch (thrown) {
        await running.stop();
        throw thrown;
      }
    },
    async read(config) {
      reading = open().instance.read(config);
    },
    async take(isTaken) {
      const { instance, doors } = open();
      if (isTaken && reading) instance.take(reading);
      reading = undefined;
      doors.renew();
    },
    async forget({ days, files }) {
      const { instance, doors } = open();
      const { masterKey, now } = instance.broker;
      masterKey.renew();
      masterKey.destroy(days, now().getTime());
      if (!files) return;
      instance.take(instance.read());
      doors.renew();
    },
    ready: async () => open().table.ready(),
    figures: () => metrics.figures(),
    async stop() {
      await running.stop();
      news.flush();
    },
  };
}
