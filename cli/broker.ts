/** `kakitome broker run|invite`: the broker's process, and one-time tokens for gateways. */
import type { Command } from "commander";
import { inviteGateway, rootOf, rotateSessionKey, startBroker } from "../broker/main.ts";
import { stopRequested } from "../config/lifecycle.ts";
import { loadBroker } from "../config/load.ts";
import { createLog } from "../config/log.ts";

export function addBroker(program: Command): void {
  const broker = program.command("broker").description("the key holder");
  broker
    .command("run")
    .description("serve until SIGTERM or SIGINT")
    .option("--config <file>", "configuration", "broker.yaml")
    .action(async ({ config }: { config: string }) => {
      const running = await startBroker(loadBroker(config), createLog());
      await stopRequested();
      await running.stop();
    });
  broker
    .command("invite")
    .description("print a one-time token with which one gateway may enrol")
    .option("--config <file>", "configuration", "broker.yaml")
    .requiredOption("--for <address-or-domain...>", "what the gateway may act for; may be given again")
    .option("--json", "one JSON line")
    .action(async ({ config: file, for: entries, json }: { config: string; for: string[]; json?: boolean }) => {
      const config = loadBroker(file);
      const { token, expiresAt } = await inviteGateway(config, entries, new Date());
      const { fingerprint } = rootOf(config);
      if (json) console.log(JSON.stringify({ broker: config.url, fingerprint, token, expiresAt: expiresAt.toISOString(), for: entries }));
      else {
        console.log(`For:     ${entries.join(" ")}`);
        console.log(`Expires: ${expiresAt.toISOString()}`);
        console.log(`Enrol:   kakitome enrol --broker ${config.url} --fingerprint ${fingerprint} --token ${token}`);
      }
    });
  broker
    .command("rotate-session")
    .description("make a new key for tickets; the former one stays for tickets that are on their way")
    .option("--config <file>", "configuration", "broker.yaml")
    .action(async ({ config }: { config: string }) => {
      const { fingerprint, notAfter } = await rotateSessionKey(loadBroker(config), new Date());
      console.log(`New session key ${fingerprint}, until ${notAfter.toISOString()}. Restart the broker to use it.`);
      console.log("A former pair (session-FINGERPRINT.*) may be removed when the last letter sealed with it has expired.");
    });
}
