/** `kakitome reload`: has a running broker or gateway read its configuration anew. Exit code 0: taken; 3: taken, but some of it needs a restart; 1: not taken. */
import type { Command } from "commander";
import { requestReload } from "../config/reload.ts";
import { waitOf } from "./given.ts";
import { asEither } from "./service.ts";

const NEEDS_RESTART = 3;

export function addReload(program: Command): void {
  program
    .command("reload")
    .description(
      "have the running process read its configuration anew; a file with mistakes changes nothing. Exit 3 where some of it needs a restart",
    )
    .requiredOption("--config <file>", "broker.yaml or gateway.yaml")
    .option("--wait <time>", "how long to wait for what comes of it", "30s")
    .option("--json", "one JSON document")
    .action(async ({ config: file, wait, json }: { config: string; wait: string; json?: boolean }) => {
      const { config } = asEither(file); // mistakes are named here, before the process is asked
      const { changed, restart, mistakes } = await requestReload(config.data, AbortSignal.timeout(waitOf(wait)));
      if (json) console.log(JSON.stringify({ changed, restart, mistakes }, null, 2));
      else {
        for (const mistake of mistakes) console.error(mistake);
        if (mistakes.length > 0) console.error("Nothing was taken; the former configuration goes on.");
        else console.log(changed.length === 0 ? "Nothing else than before." : `Counts now: ${changed.join(", ")}.`);
        if (restart.length > 0) console.log(`Counts after a restart: ${restart.join(", ")}.`);
      }
      if (mistakes.length > 0) process.exitCode = 1;
      else if (restart.length > 0) process.exitCode = NEEDS_RESTART;
    });
}
