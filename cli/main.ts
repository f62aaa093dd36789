#!/usr/bin/env node
/** The command `kakitome`: one subcommand a file; a fault is one line on standard error and exit code 1. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import { reasonOf } from "../config/log.ts";
import { actingAs } from "../config/owner.ts";
import { Fault } from "../mime/fault.ts";
import { addCompletion } from "./completion.ts";

type Add = (program: Command) => void;

/** By their first word, in the order of the help; only what is asked for is loaded, so that a command starts at once. */
const SUBCOMMANDS: Readonly<Record<string, () => Promise<Add>>> = {
  demo: async () => (await import("./demo.ts")).addDemo,
  init: async () => (await import("./init.ts")).addInit,
  broker: async () => (await import("./broker.ts")).addBroker,
  enrol: async () => (await import("./enrol.ts")).addEnrol,
  gateway: async () => (await import("./gateway.ts")).addGateway,
  user: async () => (await import("./user.ts")).addUser,
  config: async () => (await import("./config.ts")).addConfig,
  doctor: async () => (await import("./doctor.ts")).addDoctor,
  reload: async () => (await import("./reload.ts")).addReload,
  readyz: async () => (await import("./readyz.ts")).addReadyz,
  recall: async () => (await import("./recall.ts")).addRecall,
  status: async () => (await import("./status.ts")).addStatus,
  policy: async () => (await import("./policy.ts")).addPolicy,
  verify: async () => (await import("./verify.ts")).addVerify,
  seal: async () => (await import("./filter.ts")).addFilters,
  open: async () => (await import("./filter.ts")).addFilters,
  "client-config": async () => (await import("./client-config.ts")).addClientConfig,
  certificate: async () => (await import("./certificate.ts")).addCertificate,
};

const { version } = JSON.parse(readFileSync(join(import.meta.dirname, "..", "..", "package.json"), "utf8")) as { version: string };

const program = new Command("kakitome")
  .version(version)
  .description("Registered mail for S/MIME: a broker holds the key of each letter back until it is opened, and signs the receipt.")
  .exitOverride();

const [, , named = ""] = process.argv;
const wanted = Object.hasOwn(SUBCOMMANDS, named) ? SUBCOMMANDS[named] : undefined;
const loading = wanted ? [wanted()] : Object.values(SUBCOMMANDS).map((load) => load());
for (const add of new Set(await Promise.all(loading))) add(program);
addCompletion(program);
pointAtHelp(program, program.name());

try {
  await program.parseAsync();
} catch (thrown) {
  if (thrown instanceof CommanderError) process.exitCode = thrown.exitCode === 0 ? 0 : 2;
  else {
    const fault = Fault.from(thrown);
    console.error(fault.code === "malformed" ? fault.message : `kakitome: ${fault.advice ?? `${fault.message}${causeOf(fault)}`}`);
    const user = actingAs();
    if (user !== undefined && isOfRights(thrown)) console.error(`kakitome: this command acted as the user ${user}`);
    if (fault.code === "internal" && thrown instanceof Error && !("syscall" in thrown)) console.error(thrown.stack); // the system says it all by itself
    process.exitCode = 1;
  }
}

/** After a mistake on the command line each command names its own help. */
function pointAtHelp(command: Command, path: string): void {
  command.showHelpAfterError(`(try: ${path} --help)`);
  for (const below of command.commands) pointAtHelp(below, `${path} ${below.name()}`);
}

/** Why somebody could not be reached, in the words of who found it. */
function causeOf({ code, cause }: Fault): string {
  return code === "unavailable" && cause !== undefined ? `: ${reasonOf(cause)}` : "";
}

/** Whether the system refused a file or a port for want of rights. */
function isOfRights(thrown: unknown): boolean {
  if (!(thrown instanceof Error)) return false;
  return ("code" in thrown && (thrown.code === "EACCES" || thrown.code === "EPERM")) || isOfRights(thrown.cause);
}
