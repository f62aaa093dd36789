/** `kakitome broker run|invite|backup|restore|rotate-session`: the broker's process, and one-time tokens for gateways. */
import { Option, type Command } from "commander";
import { backupTable, inviteGateway, restoreTable, rootOf, rotateSessionKey, startBroker, type Unopened } from "../broker/main.ts";
import { stopRequested } from "../config/lifecycle.ts";
import { loadBroker } from "../config/load.ts";
import { createLog } from "../config/log.ts";
import { Fault } from "../mime/fault.ts";

const UNOPENED =
  "letters that were not opened when the copy was made, and may have been opened since: erase (their senders have to send again) or release-again (a key can be given out a second time)";

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
    .command("backup")
    .description("write the session table into a new file; the broker may run meanwhile")
    .argument("<file>")
    .option("--config <file>", "configuration", "broker.yaml")
    .action(async (file: string, { config }: { config: string }) => {
      const count = await backupTable(loadBroker(config), file, new Date());
      console.log(`${count} rows, receipts and records in ${file}. Keep it apart from master.key, without which its keys are of no use.`);
    });
  broker
    .command("restore")
    .description("fill an empty session table from a backup, or accept an older copy in its place; the broker must be stopped")
    .argument("[file]", "the backup; left out with --in-place")
    .option("--in-place", "accept the table as it is now, after it went back in time")
    .addOption(new Option("--unopened <what>", UNOPENED).choices(["erase", "release-again"]).makeOptionMandatory())
    .option("--config <file>", "configuration", "broker.yaml")
    .action(async (file: string | undefined, { config, inPlace, unopened }: { config: string; inPlace?: true; unopened: Unopened }) => {
      if ((file === undefined) !== (inPlace === true)) throw new Fault("malformed", "name either a backup or --in-place");
      const { erased } = await restoreTable(loadBroker(config), file, unopened, new Date());
      console.log(`Restored. ${erased} letters that were not opened when the copy was made have lost their keys.`);
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
