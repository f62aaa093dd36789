/**
 * A primary whose one worker can be stopped from outside: `node --import scripts/typescript.mjs hanging.ts [slow|early]`. It ends by SIGTERM.
 * With `slow` the worker answers no two of three; with `early` there are two, and the first one is killed while the second one starts.
 */
import cluster from "node:cluster";
import { isWorker, runWorker, type Orders } from "../../config/worker.ts";
import { stopRequested } from "../../config/lifecycle.ts";
import { createLog } from "../../config/log.ts";
import { Workers } from "../../config/workers.ts";

type Questions = Orders<null, null>;
type FromWorkers = { readonly nothing: { readonly about: null; readonly answer: null } };
const log = createLog();
const [isSlow, isEarly] = ["slow", "early"].map((how) => process.argv[2] === how);
let asked = 0;

/** Resolves when the first worker has ended, by our hand. */
async function killFirst(): Promise<null> {
  const [first] = Object.values(cluster.workers ?? {});
  const ended = new Promise((resolve) => first?.once("exit", resolve));
  first?.process.kill("SIGKILL");
  await ended;
  return null;
}

/** Says in the log that it was asked. */
function attends(): Promise<void> {
  log.info({ event: "worker.asked" });
  return isSlow && ++asked % 3 !== 0 ? new Promise(() => undefined) : Promise.resolve();
}

if (isWorker()) {
  runWorker<FromWorkers, Questions, null>(
    log,
    ({ number, line }) => ({
      start: async () => (isEarly && number === 2 ? line().ask("nothing", null) : null),
      read: async () => undefined,
      take: async () => undefined,
      attends,
      figures: async () => [],
      stop: async () => undefined,
    }),
    () => null,
  );
} else {
  const workers = new Workers<null, null, Questions, FromWorkers, readonly null[]>({
    log,
    count: isEarly ? 2 : 1,
    config: () => null,
    answers: { nothing: killFirst },
    heard: () => undefined,
    ended: () => undefined,
    stopWithin: 5_000,
    attention: { every: 20, within: 100, times: 3 },
  });
  await workers.start();
  log.info({ event: "primary.started" });
  await stopRequested();
  await workers.stop();
}
