/** `kakitome enrol`: trades a one-time token for the gateway's channel certificate (S0); `--all` does so for a list of gateways. */
import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import type { Command } from "commander";
import { loadGateway } from "../config/load.ts";
import { enrol } from "../gateway/main.ts";
import { Fault } from "../mime/fault.ts";

interface Options {
  readonly config: string;
  readonly broker?: string;
  readonly fingerprint: string;
  readonly token?: string;
  readonly all?: string;
  readonly json?: true;
}

interface Enrolled {
  readonly config: string;
  readonly gateway: string;
  readonly broker: string;
  readonly notAfter: string;
}

export function addEnrol(program: Command): void {
  program
    .command("enrol")
    .description("enrol this gateway with its broker, or many with --all")
    .option("--config <file>", "the gateway's configuration", "gateway.yaml")
    .option("--broker <url>", "must be the broker of the configuration")
    .requiredOption("--fingerprint <hex>", "SHA-256 of the broker's root, from its operator")
    .option("--token <token>", "one-time token, from the broker's operator")
    .option("--all <list>", "instead of --config and --token: a file whose lines are a configuration, white space and its token")
    .option("--json", "one JSON line for each gateway")
    .action(async (options: Options) => {
      if ((options.token === undefined) === (options.all === undefined)) throw new Fault("malformed", "name either --token or --all");
      if (options.all === undefined) return report(await enrolOne(options.config, options.token ?? "", options), options);
      let failed = 0;
      for (const [config, token] of pairsIn(options.all)) {
        try {
          report(await enrolOne(config, token, options), options);
        } catch (thrown) {
          failed++;
          const fault = Fault.from(thrown);
          const reason = fault.advice ?? fault.message;
          if (options.json) console.log(JSON.stringify({ config, failed: reason }));
          console.error(`${config}: ${reason}`);
        }
      }
      if (failed > 0) process.exitCode = 1;
    });
}

async function enrolOne(file: string, token: string, { broker, fingerprint }: Options): Promise<Enrolled> {
  const config = loadGateway(file);
  if (broker !== undefined && new URL(broker).origin !== config.broker.url) {
    throw new Fault("malformed", `${file} names the broker ${config.broker.url}, not ${broker}`);
  }
  const certificate = await enrol(config, { fingerprint, token }, AbortSignal.timeout(60_000));
  return { config: file, gateway: config.name, broker: config.broker.url, notAfter: certificate.notAfter.toISOString() };
}

function report(enrolled: Enrolled, { json }: Options): void {
  if (json) return console.log(JSON.stringify(enrolled));
  console.log(`${enrolled.gateway} is enrolled with ${enrolled.broker} until ${enrolled.notAfter}.`);
  console.log(`Its mailboxes enrol by themselves: kakitome gateway run --config ${enrolled.config}`);
}

/** Configurations and tokens; paths are counted from the list. @throws Fault `malformed` with the line */
function pairsIn(list: string): [config: string, token: string][] {
  const lines = readFileSync(list, "utf8").split("\n");
  return lines.flatMap((line, at): [string, string][] => {
    if (/^\s*(?:#|$)/u.test(line)) return [];
    const [, config, token] = /^\s*(\S.*?)\s+([\w-]+)\s*$/u.exec(line) ?? [];
    if (!config || !token) throw new Fault("malformed", `${list}:${at + 1}: write a configuration, a space and its token`);
    return [[resolve(dirname(list), config), token]];
  });
}
