/** `kakitome policy explain`: what the policy does with a mail for each recipient, and why; nothing is sent (docs/policy.md). */
import { Option, type Command } from "commander";
import { createLog } from "../config/log.ts";
import { explainPolicy } from "../gateway/main.ts";
import { parseMailbox } from "../mime/address.ts";
import { toCrlf } from "../mime/entity.ts";
import { contentOf } from "./given.ts";
import { asGateway } from "./service.ts";

interface Options {
  config: string;
  from: string;
  to: string[];
  notify: string[];
  mail: string;
  assume?: "enrolled" | "unenrolled" | "away";
  json?: boolean;
}

export function addPolicy(program: Command): void {
  program
    .command("policy")
    .description("the rules for recipients")
    .command("explain")
    .description("what happens to a mail on standard input, for each recipient, and why; nothing is sent")
    .requiredOption("--from <address>", "the sender")
    .requiredOption("--to <address...>", "recipients as in RCPT TO")
    .option("--config <file>", "the gateway's configuration", "gateway.yaml")
    .option("--notify <word...>", "DSN conditions as in RCPT TO, such as SUCCESS", [])
    .option("--mail <file>", "the mail, instead of standard input", "/dev/stdin")
    .addOption(
      new Option("--assume <standing>", "suppose this of every recipient instead of asking the broker").choices([
        "enrolled",
        "unenrolled",
        "away",
      ]),
    )
    .option("--json", "one JSON document")
    .action(async ({ config, from, to, notify, mail, assume, json }: Options) => {
      const question = {
        message: toCrlf(contentOf(mail)),
        sender: parseMailbox(from),
        recipients: to.map((address) => parseMailbox(address)),
        notify,
        assume,
      };
      const log = createLog({ write: () => undefined });
      const explained = await explainPolicy(asGateway(config), question, log, new AbortController().signal);
      if (json) return console.log(JSON.stringify(explained, null, 2));
      for (const { recipient, action, at, because, ...details } of explained) {
        console.log(`${recipient}: ${action}, decided at ${at}`);
        for (const [name, value] of Object.entries(details)) console.log(`  ${name}: ${value}`);
        for (const reason of because) console.log(`  because ${reason}`);
      }
    });
}
