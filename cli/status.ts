/** `kakitome status`: letters that were sent and what came of them, and letters that could not be opened. */
import type { Command } from "commander";
import { createLog } from "../config/log.ts";
import { askBroker, readStatus, type Status } from "../gateway/main.ts";
import { parseMailbox } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import { asGateway } from "./service.ts";

interface Options {
  config: string;
  to?: string;
  since?: string;
  broker?: boolean;
  json?: boolean;
}

export function addStatus(program: Command): void {
  program
    .command("status")
    .description("letters sent with their receipts, and letters not opened")
    .argument("[message-id]", "one letter, with or without its angle brackets")
    .option("--to <address>", "letters to this recipient only")
    .option("--since <time>", "letters accepted at this time or later, such as 2026-11-23 or 2026-11-23T12:00:00Z")
    .option("--broker", "ask the broker how far they are")
    .option("--config <file>", "the gateway's configuration", "gateway.yaml")
    .option("--json", "one JSON document")
    .action(async (given: string | undefined, { config: file, to, since, broker, json }: Options) => {
      const messageId = given === undefined || given.startsWith("<") ? given : `<${given}>`;
      const config = asGateway(file);
      const wanted = { messageId, to: to === undefined ? undefined : parseMailbox(to).key, since: timeOf(since) };
      const found = await readStatus(config, wanted);
      if (messageId !== undefined && found.sent.length === 0)
        throw new Fault("session-gone", "", { advice: `no letter ${messageId} was sent here` });
      const log = createLog({ write: () => undefined });
      const status = broker ? await askBroker(config, found, log, new AbortController().signal) : found;
      if (json) console.log(JSON.stringify(status, null, 2));
      else print(status);
    });
}

function timeOf(text: string | undefined): Date | undefined {
  if (text === undefined) return undefined;
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) throw new Fault("malformed", `--since ${text}: write a time such as 2026-11-23T12:00:00Z`);
  return time;
}

function print(status: Status): void {
  for (const letter of status.sent) {
    console.log(`${letter.messageId}  from ${letter.sender}  ${letter.acceptedAt}`);
    for (const { address, state, at, reason, receipt, atBroker } of letter.recipients) {
      console.log(`  ${address}  ${state}  ${at}${reason === undefined ? "" : `  ${reason}`}`);
      if (receipt !== undefined) console.log(`    receipt: ${receipt}`);
      if (atBroker) {
        const times = Object.entries(atBroker).filter(([name, value]) => name !== "state" && value !== undefined);
        const words = times.map(([name, value]) => `${name} ${value instanceof Date ? value.toISOString() : String(value)}`);
        console.log(`    at the broker: ${[atBroker.state, ...words].join(", ")}`);
      }
    }
  }
  for (const entry of status.notOpened) {
    if (entry.stage === "failed")
      console.log(`not opened  ${entry.mailbox}  ${entry.at}  session ${entry.session.slice(0, 12)}  ${entry.reason}`);
  }
}
