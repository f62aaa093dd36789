/** A primary whose one worker can be stopped from outside: `node --import scripts/typescript.mjs hanging.ts [slow]`. It ends by SIGTERM. With `slow` it answers no two of three. */
import { isWorker, runWorker, type Orders } from "../../config/worker.ts";
import { stopRequested } from "../../config/lifecycle.ts";
import { createLog } from "../../config/log.ts";
import { Workers } from "../../config/workers.ts";

type Questions = Orders<null, null>;
type FromWorkers = { readonly nothing: { readonly about: null; readonly answer: null } };
const log = createLog();
const isSlow = process.argv[2] === "slow";
let asked = 0;

/** Says in the log that it was asked. */
function attends(): Promise<void> {
  log.info({ event: "worker.asked" });
  return isSlow && ++asked % 3 !== 0 ? new Promise(() => undefined) : Promise.resolve();
}

if (isWorker()) {
  runWorker<FromWorkers, Questions, null>(
    log,
    () => ({
      start: async () => null,
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
    count: 1,
    config: () => null,
    answers: { nothing: async () => null },
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
