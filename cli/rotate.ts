/** `kakitome broker rotate root|server|signing|session|master`: new keys and certificates of the broker's own, while it runs (docs/operations.md). */
import type { Command } from "commander";
import { announce, retireNow, rotateKey, rotateMasterKey, useNext, type Retirement } from "../broker/main.ts";
import { isLocked } from "../config/lock.ts";
import { requestReload } from "../config/reload.ts";
import type { BrokerConfig } from "../config/schema.ts";
import { Fault } from "../mime/fault.ts";
import { say } from "./say.ts";
import { asBroker } from "./service.ts";

const RELOAD_MS = 30_000;

const PAIRS = {
  server: "make a new key and certificate for the broker's door",
  signing: "make a new key for answers, evidence and receipts; what the former one signed still holds",
  session: "make a new key for tickets; the former one stays as long as a letter is under way whose ticket it opens",
} as const;

/** Has a running broker take what is new. */
async function takenOver(data: string, file: string): Promise<string> {
  if (!isLocked(data)) return "The broker does not run; it takes this from its next start on.";
  const { mistakes } = await requestReload(data, AbortSignal.timeout(RELOAD_MS));
  if (mistakes.length === 0) return "The running broker uses it now. Other brokers on the same table need the files and a reload too.";
  return `The running broker did not take it (${mistakes.join("; ")}): mend that and run "kakitome reload --config ${file}".`;
}

interface RootOptions {
  readonly config: string;
  readonly use?: true;
  readonly now?: true;
  readonly retire?: true;
  readonly json?: true;
}

export function addRotate(broker: Command): void {
  const rotate = broker.command("rotate").description("make a key of the broker's own anew; the broker may run meanwhile");
  const add = (name: string, description: string): Command =>
    rotate
      .command(name)
      .description(description)
      .option("--config <file>", "configuration", "broker.yaml")
      .option("--json", "one JSON document");
  add(
    "root",
    "announce a new root to the gateways; with --use, a day later or more, let it issue; with --retire, give up former ones that nothing counts under",
  )
    .option("--use", "let the announced root issue, and make the broker's own certificates anew under it")
    .option("--now", "with --use: do not wait until a day has passed since the announcement")
    .option("--retire", "give up former roots whose last certificate has ended; the running broker does so by itself")
    .action((options: RootOptions) => root(options));
  for (const [which, what] of Object.entries(PAIRS) as [keyof typeof PAIRS, string][]) {
    add(which, what).action(async ({ config: file, json }: { config: string; json?: true }) => {
      const config = asBroker(file);
      const { fingerprint, notAfter } = await rotateKey(config, which, new Date());
      const until = notAfter.toISOString();
      say(json, { fingerprint, notAfter: until }, [`New ${which} key ${fingerprint}, until ${until}.`, await takenOver(config.data, file)]);
    });
  }
  add("master", "make a new master key, which the running broker takes over by itself").action(
    ({ config, json }: { config: string; json?: true }) => {
      const former = rotateMasterKey(asBroker(config));
      say(json, { former }, [
        `The former key is ${former}. Remove it when the last letter that was declared before has ended and its receipt is mailed.`,
        "Other brokers on the same table need master.key and the former one too; copy both to them now.",
      ]);
    },
  );
}

async function root({ config: file, use, now: atOnce, retire, json }: RootOptions): Promise<void> {
  if ((use && retire) || (atOnce && !use)) throw new Fault("malformed", "name one of --use and --retire; --now goes with --use");
  const config = asBroker(file);
  if (retire) return retireFormer(config, file, json);
  if (use) {
    const { fingerprint, notAfter } = await useNext(config, atOnce === true, new Date());
    const taken = await takenOver(config.data, file);
    return say(json, { issuing: fingerprint, notAfter: notAfter.toISOString() }, [
      `The root ${fingerprint} issues until ${notAfter.toISOString()}; gateways and mailboxes get certificates of it as they renew.`,
      taken,
      "New gateways enrol with this fingerprint. The former root counts until its last certificate has ended, then the broker retires it.",
      "Whoever verifies receipts needs ca.pem as it is now: it has all roots in it.",
    ]);
  }
  const { fingerprint, notAfter } = await announce(config, new Date());
  const taken = await takenOver(config.data, file);
  say(json, { announced: fingerprint, notAfter: notAfter.toISOString() }, [
    `The root ${fingerprint} is announced; it is valid until ${notAfter.toISOString()} and issues nothing yet.`,
    taken,
    "Gateways come to trust it within the hour. Publish its fingerprint and ca.pem, then, tomorrow or later:",
    `  kakitome broker rotate root --use --config ${file}`,
  ]);
}

async function retireFormer(config: BrokerConfig, file: string, json: true | undefined): Promise<void> {
  const { retired, waiting }: Retirement = await retireNow(config, new Date());
  const words = [
    ...retired.map(
      ({ fingerprint }) => `Retired: ${fingerprint}. Its key is destroyed; its certificate stays in ca.pem, for receipts of its time.`,
    ),
    ...waiting.map(({ certificate, until }) => `Counts until ${until.toISOString()}: ${certificate.fingerprint}.`),
  ];
  const outcome = {
    retired: retired.map(({ fingerprint }) => fingerprint),
    waiting: waiting.map(({ certificate: { fingerprint }, until }) => ({ fingerprint, until: until.toISOString() })),
  };
  const taken = retired.length > 0 ? [await takenOver(config.data, file)] : [];
  say(json, outcome, words.length > 0 ? [...words, ...taken] : "There is no former root.");
}
