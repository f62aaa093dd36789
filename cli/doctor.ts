/** `kakitome doctor`: each hop of a broker or gateway with a tick, or a cross and how to mend it. Exit code 0: all well; 1: something is to be mended. */
import type { Command } from "commander";
import { examineBroker } from "../broker/main.ts";
import { Examination, type Finding } from "../config/findings.ts";
import { examineGateway, sendTest } from "../gateway/main.ts";
import { parseMailbox } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import { waitOf } from "./given.ts";
import { asEither } from "./service.ts";

interface Options {
  config: string;
  sendTest?: string;
  wait: string;
  json?: boolean;
}

export function addDoctor(program: Command): void {
  program
    .command("doctor")
    .description(
      "look at everything that a broker or gateway needs, and say how to mend what is wrong; nothing is sent. Exit 1 where something is",
    )
    .requiredOption("--config <file>", "broker.yaml or gateway.yaml")
    .option("--send-test <address>", "also send a real letter from this mailbox to itself and wait for its receipt")
    .option("--wait <time>", "how long for that receipt", "60s")
    .option("--json", "one JSON document")
    .action(async ({ config: file, sendTest: address, wait, json }: Options) => {
      const to = new Examination(json ? undefined : print);
      const loaded = await load(file, to);
      const now = (): Date => new Date();
      if (loaded?.kind === "broker") await examineBroker({ config: loaded.config, file }, to, now);
      if (loaded?.kind === "gateway") {
        await examineGateway({ config: loaded.config, file }, to, now);
        if (address !== undefined) await sendTest(loaded.config, parseMailbox(address), to, now, waitOf(wait));
      } else if (loaded && address !== undefined) {
        throw new Fault("malformed", "--send-test is for gateways: a broker sends no letters");
      }
      const wrong = to.findings.filter(({ good }) => !good).length;
      if (json) console.log(JSON.stringify({ well: wrong === 0, findings: to.findings }, null, 2));
      else console.log(wrong === 0 ? "All well." : `${wrong} to mend.`);
      process.exitCode = wrong === 0 ? 0 : 1;
    });
}

/** The configuration; each of its mistakes is a finding. */
async function load(file: string, to: Examination): Promise<ReturnType<typeof asEither> | undefined> {
  try {
    const loaded = asEither(file);
    await to.look("config", file, "", () => `a valid configuration of a ${loaded.kind}`);
    return loaded;
  } catch (thrown) {
    const { message } = Fault.from(thrown);
    for (const mistake of message.split("\n")) {
      await to.look("config", file, "correct the file at that place", () => {
        throw new Fault("malformed", mistake, { advice: mistake });
      });
    }
    return undefined;
  }
}

function print({ hop, of, good, what, mend }: Finding): void {
  console.log(`${good ? "✓" : "✗"} ${of === undefined ? hop : `${hop} ${of}`}: ${what}`);
  if (!good && mend) console.log(`    to mend: ${mend}`);
}
