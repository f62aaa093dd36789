/** `kakitome config check`: every mistake of a configuration at once, without starting anything. */
import type { Command } from "commander";
import { loadEither } from "../config/load.ts";
import { Fault } from "../mime/fault.ts";
import { say } from "./say.ts";

export function addConfig(program: Command): void {
  program
    .command("config")
    .description("configuration files")
    .command("check")
    .description("name every mistake of a file; exit 1 where there is one")
    .argument("<file>", "broker.yaml or gateway.yaml")
    .option("--json", "one JSON document, with the mistakes where there are some")
    .action((file: string, { json }: { json?: true }) => {
      try {
        const { kind } = loadEither(file);
        say(json, { file, valid: true, kind }, `${file}: a valid configuration of a ${kind}`);
      } catch (thrown) {
        if (!json) throw thrown;
        say(json, { file, valid: false, mistakes: Fault.from(thrown).message.split("\n") }, "");
        process.exitCode = 1;
      }
    });
}
