/** `kakitome broker run|invite|revoke|backup|restore|audit`, and what stands in overview.ts and rotate.ts: the broker's process, and what its operator does beside it. */
import { Option, type Command } from "commander";
import {
  backupTable,
  inviteGateway,
  restoreTable,
  revokeAt,
  rootOf,
  runWorker,
  startBroker,
  verifyAudit,
  type Revocable,
  type Unopened,
} from "../broker/main.ts";
import { isWorker } from "../config/worker.ts";
import { stopRequested } from "../config/lifecycle.ts";
import { createLog } from "../config/log.ts";
import { reloadOnHangup } from "../config/reload.ts";
import { REVOCATION_REASONS, type RevocationReason } from "../mime/crl.ts";
import { Fault } from "../mime/fault.ts";
import { addOverview } from "./overview.ts";
import { addRotate } from "./rotate.ts";
import { say } from "./say.ts";
import { asBroker } from "./service.ts";

const UNOPENED =
  "letters that were not opened when the copy was made, and may have been opened since: erase (their senders have to send again) or release-again (a key can be given out a second time)";

interface RevokeOptions {
  readonly config: string;
  readonly reason: RevocationReason;
  readonly gateway?: string;
  readonly mailbox?: string;
  readonly serial?: string;
  readonly json?: true;
}

function revocableIn({ gateway, mailbox, serial }: Omit<RevokeOptions, "config" | "reason" | "json">): Revocable {
  const named: Revocable[] = [
    ...(gateway === undefined ? [] : [{ gateway }]),
    ...(mailbox === undefined ? [] : [{ mailbox }]),
    ...(serial === undefined ? [] : [{ serial }]),
  ];
  const [only, ...others] = named;
  if (!only || others.length > 0) throw new Fault("malformed", "name one of --gateway, --mailbox and --serial");
  return only;
}

export function addBroker(program: Command): void {
  const broker = program.command("broker").description("the key holder");
  broker
    .command("run")
    .description("serve until SIGTERM or SIGINT; SIGHUP reads the configuration anew")
    .option("--config <file>", "configuration", "broker.yaml")
    .action(async ({ config }: { config: string }) => {
      const log = createLog();
      if (isWorker()) return runWorker(log);
      const loaded = asBroker(config);
      const starting = startBroker(loaded, log);
      const done = reloadOnHangup(loaded.data, log, starting, async () => (await starting).reload(asBroker(config)));
      const running = await starting;
      await stopRequested();
      done();
      await running.stop();
    });
  broker
    .command("invite")
    .description("print a one-time token with which one gateway may enrol")
    .option("--config <file>", "configuration", "broker.yaml")
    .requiredOption("--for <address-or-domain...>", "what the gateway may act for; may be given again")
    .option("--json", "one JSON line")
    .action(async ({ config: file, for: entries, json }: { config: string; for: string[]; json?: boolean }) => {
      const config = asBroker(file);
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
    .command("revoke")
    .description("take back a gateway with its mailboxes, a mailbox's certificates, or one certificate; from the next request on")
    .option("--config <file>", "configuration", "broker.yaml")
    .option("--gateway <fingerprint>", "SHA-256 of the gateway's certificate, as the broker's log names it in full")
    .option("--mailbox <address>", "the certificates that the mailbox has now; it can enrol anew with other keys")
    .option("--serial <hex>", "any certificate of this broker")
    .addOption(
      new Option("--reason <word>", "what the revocation list says").choices(Object.keys(REVOCATION_REASONS)).default("unspecified"),
    )
    .option("--json", "one JSON document")
    .action(async ({ config, reason, json, ...named }: RevokeOptions) => {
      const revoked = await revokeAt(asBroker(config), revocableIn(named), reason, new Date());
      const list = revoked.map(({ name, subject, at }) => ({ name, subject, since: new Date(at).toISOString() }));
      say(
        json,
        { reason, revoked: list },
        list.map(({ name, subject, since }) => `${name}  ${subject}, since ${since}`),
      );
    });
  broker
    .command("backup")
    .description("write the session table into a new file; the broker may run meanwhile")
    .argument("<file>")
    .option("--config <file>", "configuration", "broker.yaml")
    .option("--json", "one JSON document")
    .action(async (file: string, { config, json }: { config: string; json?: true }) => {
      const count = await backupTable(asBroker(config), file, new Date());
      say(
        json,
        { file, entries: count },
        `${count} rows, receipts and records in ${file}. Keep it apart from master.key, without which its keys are of no use.`,
      );
    });
  broker
    .command("restore")
    .description("fill an empty session table from a backup, or accept an older copy in its place; the broker must be stopped")
    .argument("[file]", "the backup; left out with --in-place")
    .option("--in-place", "accept the table as it is now, after it went back in time")
    .addOption(new Option("--unopened <what>", UNOPENED).choices(["erase", "release-again"]).makeOptionMandatory())
    .option("--config <file>", "configuration", "broker.yaml")
    .option("--json", "one JSON document")
    .action(async (file: string | undefined, options: { config: string; inPlace?: true; unopened: Unopened; json?: true }) => {
      const { config, inPlace, unopened, json } = options;
      if ((file === undefined) !== (inPlace === true)) throw new Fault("malformed", "name either a backup or --in-place");
      const { erased } = await restoreTable(asBroker(config), file, unopened, new Date());
      const outcome =
        unopened === "erase"
          ? `${erased} letters that were not opened when the copy was made have lost their keys.`
          : "Letters that were not opened when the copy was made keep their keys, which can be given out again.";
      say(json, { restored: true, erased }, `Restored. ${outcome}`);
    });
  broker
    .command("audit")
    .description("the log of what was done with every letter")
    .command("verify")
    .description("verify its chain: name the first entry that was edited, removed or put elsewhere; the broker may run meanwhile")
    .option("--config <file>", "configuration", "broker.yaml")
    .option("--json", "one JSON document")
    .action(async ({ config, json }: { config: string; json?: true }) => {
      const { entries, broken } = await verifyAudit(asBroker(config));
      const verdict = broken.length === 0 ? `The chain holds: ${entries} entries.` : `The chain does not hold. ${entries} entries.`;
      const words = [...broken.map(({ log, n, what }) => `Log ${log}: entry ${n} is ${what}.`), verdict];
      say(json, { holds: broken.length === 0, entries, broken }, words);
      process.exitCode = broken.length === 0 ? 0 : 1;
    });
  addOverview(broker);
  addRotate(broker);
}
