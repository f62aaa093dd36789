/** `kakitome enrol`: trades a one-time token for the gateway's channel certificate (S0); `--all` does so for a list of gateways. */
import { dirname, resolve } from "node:path";
import type { Command } from "commander";
import { enrol, enrolledAs } from "../gateway/main.ts";
import type { GatewayConfig } from "../config/schema.ts";
import { readSecret } from "../config/secrets.ts";
import type { Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { contentOf, firstLine } from "./given.ts";
import { asGateway } from "./service.ts";

interface Options {
  readonly config: string;
  readonly broker?: string;
  readonly fingerprint: string;
  readonly token?: string;
  readonly tokenFile?: string;
  readonly all?: string;
  readonly json?: true;
}

interface Enrolled {
  readonly config: string;
  readonly gateway: string;
  readonly broker: string;
  readonly notAfter: string;
  /** Whether it was so before. */
  readonly already?: true;
}

export function addEnrol(program: Command): void {
  program
    .command("enrol")
    .description("enrol this gateway with its broker, or many with --all")
    .option("--config <file>", "the gateway's configuration", "gateway.yaml")
    .option("--broker <url>", "must be the broker of the configuration")
    .requiredOption("--fingerprint <hex>", "SHA-256 of the broker's root, from its operator")
    .option(
      "--token <token>",
      "one-time token, from the broker's operator; other users of this machine can read it as long as the command runs",
    )
    .option("--token-file <file>", "instead of --token: a file of mode 600 with the token, or - for the first line of standard input")
    .option("--all <list>", "instead of --config and a token: a file whose lines are a configuration, white space and its token")
    .option("--json", "one JSON line for each gateway")
    .action(async (options: Options) => {
      const named = [options.token, options.tokenFile, options.all].filter((one) => one !== undefined);
      if (named.length !== 1) throw new Fault("malformed", "name one of --token, --token-file and --all");
      if (options.all === undefined) return report(await enrolOne(options.config, await tokenOf(options), options), options);
      let failed = 0;
      for (const [config, token] of pairsIn(options.all)) {
        try {
          report((await known(config)) ?? (await enrolOne(config, token, options)), options);
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

/** @throws Fault `malformed`: there is none in the file or on standard input, or the file is open to others */
async function tokenOf({ token, tokenFile = "" }: Options): Promise<string> {
  if (token !== undefined) return token;
  if (tokenFile !== "-") return readSecret(tokenFile).reveal().trim();
  const line = (await firstLine("Token")).trim();
  if (line === "") throw new Fault("malformed", "standard input has no token");
  return line;
}

/** A list can be given again after its mistakes are mended: what is enrolled stays so. */
async function known(file: string): Promise<Enrolled | undefined> {
  const config = asGateway(file);
  const certificate = await enrolledAs(config);
  return certificate && { ...enrolled(file, config, certificate), already: true };
}

function enrolled(file: string, { name, broker }: GatewayConfig, { notAfter }: Certificate): Enrolled {
  return { config: file, gateway: name, broker: broker.url, notAfter: notAfter.toISOString() };
}

async function enrolOne(file: string, token: string, { broker, fingerprint }: Options): Promise<Enrolled> {
  const config = asGateway(file);
  if (broker !== undefined && !URL.canParse(broker))
    throw new Fault("malformed", `--broker ${broker}: write an address such as https://broker.example:8443`);
  if (broker !== undefined && new URL(broker).origin !== config.broker.url) {
    throw new Fault("malformed", `${file} names the broker ${config.broker.url}, not ${broker}`);
  }
  return enrolled(file, config, await enrol(config, { fingerprint, token }, AbortSignal.timeout(60_000)));
}

function report(one: Enrolled, { json }: Options): void {
  if (json) return console.log(JSON.stringify(one));
  console.log(`${one.gateway} is ${one.already ? "already " : ""}enrolled with ${one.broker} until ${one.notAfter}.`);
  if (!one.already) console.log(`Its mailboxes enrol by themselves: kakitome gateway run --config ${one.config}`);
}

/** Configurations and tokens; paths are counted from the list. @throws Fault `malformed` with the line, or that there is no such file */
function pairsIn(list: string): [config: string, token: string][] {
  const lines = contentOf(list).toString().split("\n");
  return lines.flatMap((line, at): [string, string][] => {
    if (/^\s*(?:#|$)/u.test(line)) return [];
    const [, config, token] = /^\s*(\S.*?)\s+([\w-]+)\s*$/u.exec(line) ?? [];
    if (!config || !token) throw new Fault("malformed", `${list}:${at + 1}: write a configuration, a space and its token`);
    return [[resolve(dirname(list), config), token]];
  });
}
