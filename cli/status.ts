/** `kakitome status`: letters that were sent and what came of them, and letters that could not be opened. */
import type { Command } from "commander";
import { loadGateway } from "../config/load.ts";
import { readStatus } from "../gateway/main.ts";
import { Fault } from "../mime/fault.ts";

export function addStatus(program: Command): void {
  program
    .command("status")
    .description("letters sent with their receipts, and letters not opened")
    .argument("[message-id]", "one letter, with or without its angle brackets")
    .option("--config <file>", "the gateway's configuration", "gateway.yaml")
    .option("--json", "one JSON document")
    .action(async (given: string | undefined, { config, json }: { config: string; json?: boolean }) => {
      const messageId = given === undefined || given.startsWith("<") ? given : `<${given}>`;
      const status = await readStatus(loadGateway(config), messageId);
      if (messageId !== undefined && status.sent.length === 0)
        throw new Fault("session-gone", "", { advice: `no letter ${messageId} was sent here` });
      if (json) return console.log(JSON.stringify(status, null, 2));
      for (const letter of status.sent) {
        console.log(`${letter.messageId}  from ${letter.sender}  ${letter.acceptedAt}`);
        for (const { address, state, at, reason, receipt } of letter.recipients) {
          console.log(`  ${address}  ${state}  ${at}${reason === undefined ? "" : `  ${reason}`}`);
          if (receipt !== undefined) console.log(`    receipt: ${receipt}`);
        }
      }
      for (const entry of status.notOpened) {
        if (entry.stage === "failed")
          console.log(`not opened  ${entry.mailbox}  ${entry.at}  session ${entry.session.slice(0, 12)}  ${entry.reason}`);
      }
    });
}
