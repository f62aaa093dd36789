/** A worker process: it answers gateways. What is to happen once for a broker the primary does, and gives it its orders. */
import { Lifecycle } from "../config/lifecycle.ts";
import type { Answers } from "../config/line.ts";
import type { Log } from "../config/log.ts";
import { Metrics } from "../config/metrics.ts";
import { runWorker as run, type Bench } from "../config/worker.ts";
import { Fault } from "../mime/fault.ts";
import { openDoors, type Doors } from "./doors.ts";
import { Instance, type Reading } from "./instance.ts";
import { openTable } from "./open.ts";
import type { Table } from "./table.ts";
import type { TableWitness } from "./witness.ts";
import type { ToPrimary, ToWorker, WorkerNews } from "./worker-talk.ts";

/** Its settings are looked at again, and whether it lost steps. */
const EXAMINE_EVERY_MS = 60_000;

/** Works until the primary says stop, or ends: without it nobody watches the table. */
export function runWorker(writtenTo: Log): void {
  run<ToPrimary, ToWorker, WorkerNews>(writtenTo, answersOf, (line) => ({ line }));
}

/** What a worker has opened. */
interface Opened {
  readonly table: Table;
  readonly instance: Instance;
  readonly doors: Doors;
}

function answersOf({ log, news, line }: Bench<ToPrimary, WorkerNews>): Answers<ToWorker> {
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
    saw: (auditLog, head) => news.add({ head: [auditLog, head] }),
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
        const instance = new Instance(config, { table, log, now: () => new Date(), receiptWaits: (entry) => news.add({ entry }) });
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
    attends: async () => undefined,
    figures: () => metrics.figures(),
    async stop() {
      await running.stop();
      news.flush();
    },
  };
}
