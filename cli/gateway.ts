/** `kakitome gateway run`: both directions and every mailbox of one gateway, in one process or several. */
import type { Command } from "commander";
import { stopRequested } from "../config/lifecycle.ts";
import { createLog } from "../config/log.ts";
import { reloadOnHangup } from "../config/reload.ts";
import { isWorker } from "../config/worker.ts";
import { runWorker, startGateway } from "../gateway/main.ts";
import { asGateway } from "./service.ts";

export function addGateway(program: Command): void {
  program
    .command("gateway")
    .description("the mail gateway")
    .command("run")
    .description("serve until SIGTERM or SIGINT; SIGHUP reads the configuration anew")
    .option("--config <file>", "configuration", "gateway.yaml")
    .action(async ({ config }: { config: string }) => {
      const log = createLog();
      if (isWorker()) return runWorker(log);
      const loaded = asGateway(config);
      const starting = startGateway(loaded, log);
      const done = reloadOnHangup(loaded.data, log, starting, async () => (await starting).reload(asGateway(config)));
      const running = await starting;
      await stopRequested();
      done();
      await running.stop();
    });
}
