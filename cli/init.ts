/** `kakitome init broker|gateway`: keys, certificates and a configuration for a new broker; the gateway is in init-gateway.ts. */
import { existsSync, mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Command } from "commander";
import { stringify } from "yaml";
import { initBroker } from "../broker/main.ts";
import { checkBroker } from "../config/load.ts";
import { writeDurably } from "../gateway/main.ts";
import { Fault } from "../mime/fault.ts";
import { hostPort } from "./host-port.ts";
import { addInitGateway } from "./init-gateway.ts";
import { say } from "./say.ts";
import { serviceSteps, writeUnit } from "./unit.ts";

interface Options {
  dir: string;
  url: string;
  listen?: string;
  receiptsFrom: string;
  relay: string;
  relayTls: string;
  json?: true;
}

export function addInit(program: Command): void {
  const init = program.command("init").description("make what a new installation needs");
  addInitGateway(init);
  init
    .command("broker")
    .description("make a broker's root, certificates, master key and configuration")
    .option("--dir <folder>", "where", "broker")
    .requiredOption("--url <url>", "how gateways reach it, such as https://broker.example:8443")
    .option("--listen <host:port>", "where it listens; the port of the URL on every address unless given")
    .requiredOption("--receipts-from <address>", "the address receipts come from; a person should read it")
    .requiredOption("--relay <host:port>", "the mail server that takes the receipts")
    .option("--relay-tls <implicit|starttls|none>", "how that server is reached", "starttls")
    .option("--json", "one JSON document")
    .action(async (options: Options) => {
      const folder = resolve(options.dir);
      const file = join(folder, "broker.yaml");
      const relay = hostPort("--relay", options.relay);
      const url = URL.canParse(options.url) ? new URL(options.url) : undefined;
      const config = {
        url: options.url,
        listen: options.listen ?? `0.0.0.0:${url?.port || 443}`,
        data: "data",
        table: "embedded",
        receipts: { from: options.receiptsFrom, relay: { ...relay, tls: options.relayTls } },
      };
      const head = "# Made by kakitome init broker. Every further setting is explained in config/broker.example.yaml.\n";
      const checked = checkBroker(file, head + stringify(config)); // before anything is made
      if (existsSync(file)) throw new Fault("forbidden", `${file} is there already; nothing was changed`);
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      const root = await initBroker(checked.data, { url: checked.url, receiptsFrom: checked.receipts.from, now: new Date() });
      const unit = writeUnit("broker", folder, file);
      await writeDurably(file, [Buffer.from(head + stringify(config))]); // last, and whole: with it the installation is there
      say(options.json, { config: file, unit, url: checked.url, fingerprint: root.fingerprint }, [
        `Configuration: ${file}`,
        `Fingerprint:   ${root.fingerprint}`,
        `Start:         kakitome broker run --config ${file}`,
        `Invite:        kakitome broker invite --config ${file} --for DOMAIN-OR-ADDRESS`,
        ...serviceSteps(unit, folder).map((line) => `As a service:  ${line}`),
      ]);
    });
}
