/** `kakitome seal` and `kakitome open`: filters from standard input to standard output, with the gateway's configuration. */
import type { Command } from "commander";
import { createLog } from "../config/log.ts";
import { openFilter, sealFilter } from "../gateway/main.ts";
import { parseMailbox } from "../mime/address.ts";
import { asGateway } from "./service.ts";

const LONGEST_MS = 120_000;

async function readInput(): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(Buffer.from(chunk as Uint8Array));
  return Buffer.concat(chunks);
}

/** Resolves when the reader of standard output has taken everything. */
function handOver(bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(bytes, (error) => (error ? reject(error) : resolve()));
  });
}

/** Standard output carries the mail; the log goes to standard error. */
const log = () => createLog(process.stderr);

export function addFilters(program: Command): void {
  program
    .command("seal")
    .description("seal the message on standard input for one recipient; the sealed mail is on standard output")
    .requiredOption("--from <address>", "a mailbox of this gateway, or an alias of one; the message's From must be of the same mailbox")
    .requiredOption("--to <address>", "the recipient")
    .option("--config <file>", "the gateway's configuration", "gateway.yaml")
    .action(async (options: { from: string; to: string; config: string }) => {
      const order = { message: await readInput(), sender: parseMailbox(options.from), recipient: parseMailbox(options.to), handOver };
      await sealFilter(asGateway(options.config), order, log(), AbortSignal.timeout(LONGEST_MS));
    });
  program
    .command("open")
    .description("open the registered letter on standard input; the letter is on standard output, and its opening is confirmed")
    .requiredOption("--for <address>", "the mailbox of this gateway that it is for, or an alias of it")
    .option("--config <file>", "the gateway's configuration", "gateway.yaml")
    .action(async (options: { for: string; config: string }) => {
      const order = { mail: await readInput(), recipient: parseMailbox(options.for), handOver };
      await openFilter(asGateway(options.config), order, log(), AbortSignal.timeout(LONGEST_MS));
    });
}
