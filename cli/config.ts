/** `kakitome config check`: every mistake of a configuration at once, without starting anything. */
import type { Command } from "commander";
import { loadEither } from "../config/load.ts";

export function addConfig(program: Command): void {
  program
    .command("config")
    .description("configuration files")
    .command("check")
    .description("name every mistake of a file; exit 1 where there is one")
    .argument("<file>", "broker.yaml or gateway.yaml")
    .action((file: string) => {
      const { kind } = loadEither(file);
      console.log(`${file}: a valid configuration of a ${kind}`);
    });
}
