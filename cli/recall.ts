/** `kakitome recall`: takes a letter back that was sent here. Exit code 0: nobody can open it; 3: it was too late for somebody; 1: not done. */
import type { Command } from "commander";
import { createLog } from "../config/log.ts";
import { recallHere, recallWords } from "../gateway/main.ts";
import { parseMailbox } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import { asGateway } from "./service.ts";

const TOO_LATE = 3;

export function addRecall(program: Command): void {
  program
    .command("recall")
    .description("take a letter back; exit 0 where nobody can open it any more, 3 where it was too late for somebody")
    .argument("<message-id>", "the letter, with or without its angle brackets")
    .option("--to <address>", "for one recipient only")
    .option("--config <file>", "the gateway's configuration", "gateway.yaml")
    .option("--json", "one JSON document")
    .action(async (given: string, { to, config, json }: { to?: string; config: string; json?: boolean }) => {
      const messageId = given.startsWith("<") ? given : `<${given}>`;
      const order = { messageId, to: to === undefined ? undefined : parseMailbox(to) };
      const log = createLog({ write: () => undefined });
      const outcomes = await recallHere(asGateway(config), order, log, new AbortController().signal);
      if (!outcomes)
        throw new Fault("session-gone", "", { advice: `no letter ${messageId}${to === undefined ? "" : ` to ${to}`} was sent here` });
      if (json) console.log(JSON.stringify(outcomes, null, 2));
      else for (const { recipient, outcome } of outcomes) console.log(`${recipient}: ${recallWords(outcome)}`);
      if (outcomes.some(({ outcome: { word } }) => word === "too-late" || word === "no-ticket")) process.exitCode = TOO_LATE;
    });
}
