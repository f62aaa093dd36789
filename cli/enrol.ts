/** `kakitome enrol`: trades a one-time token for the gateway's channel certificate (S0). */
import type { Command } from "commander";
import { loadGateway } from "../config/load.ts";
import { enrol } from "../gateway/main.ts";
import { Fault } from "../mime/fault.ts";

export function addEnrol(program: Command): void {
  program
    .command("enrol")
    .description("enrol this gateway with its broker")
    .option("--config <file>", "the gateway's configuration", "gateway.yaml")
    .option("--broker <url>", "must be the broker of the configuration")
    .requiredOption("--fingerprint <hex>", "SHA-256 of the broker's root, from its operator")
    .requiredOption("--token <token>", "one-time token, from the broker's operator")
    .action(async (options: { config: string; broker?: string; fingerprint: string; token: string }) => {
      const config = loadGateway(options.config);
      if (options.broker !== undefined && new URL(options.broker).origin !== config.broker.url) {
        throw new Fault("malformed", `${options.config} names the broker ${config.broker.url}, not ${options.broker}`);
      }
      const certificate = await enrol(config, options, AbortSignal.timeout(60_000));
      console.log(`${config.name} is enrolled with ${config.broker.url} until ${certificate.notAfter.toISOString()}.`);
      console.log(`Its mailboxes enrol by themselves: kakitome gateway run --config ${options.config}`);
    });
}
