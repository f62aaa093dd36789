/** `kakitome gateway run`: both directions and every mailbox of one gateway in one process. */
import type { Command } from "commander";
import { stopRequested } from "../config/lifecycle.ts";
import { loadGateway } from "../config/load.ts";
import { createLog } from "../config/log.ts";
import { startGateway } from "../gateway/main.ts";

export function addGateway(program: Command): void {
  program
    .command("gateway")
    .description("the mail gateway")
    .command("run")
    .description("serve until SIGTERM or SIGINT")
    .option("--config <file>", "configuration", "gateway.yaml")
    .action(async ({ config }: { config: string }) => {
      const running = await startGateway(loadGateway(config), createLog());
      await stopRequested();
      await running.stop();
    });
}
