/** `kakitome demo`: the whole main job on one machine, without Redis, Dovecot or root; every step with its time. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Option, type Command } from "commander";
import { stopRequested } from "../config/lifecycle.ts";
import { writeFiles } from "./demo/files.ts";
import { startPlace, type Office, type Place } from "./demo/place.ts";
import { Teller, Witness, tell, type Story } from "./demo/story.ts";

interface Options {
  stay?: boolean;
  json?: boolean;
  out?: string;
  data?: string;
  hold: string;
  signing: string;
  confirm: string;
}

export function addDemo(program: Command): void {
  program
    .command("demo")
    .description("send a registered letter from Alice to Bob on this machine and show every step")
    .option("--stay", "keep everything running afterwards, for a mail client")
    .option("--json", "with --stay: one JSON line for another program; sends no letter of its own unless --out asks for one")
    .option("--out <dir>", "write what travelled, and the openssl commands that check it")
    .addOption(new Option("--hold <form>", "keep the key back, or enclose it").choices(["held", "enclosed"]).default("held"))
    .addOption(new Option("--signing <order>", "sign inside, outside, or both").choices(["inner", "outer", "both"]).default("inner"))
    .addOption(
      new Option("--confirm <embodiment>", "with a new session ID or the same")
        .choices(["next-session", "same-session"])
        .default("next-session"),
    )
    .option("--data <dir>", "folder for keys, spools and journals; a temporary one unless given")
    .action(run);
}

/** The letter as Bob's mail client shows it; loaded only here, it is slow to load. */
async function readAsBob(opened: Buffer): Promise<string> {
  const { simpleParser } = await import("mailparser");
  const { from, subject, text } = await simpleParser(opened);
  return [`From: ${from?.text ?? ""}`, `Subject: ${subject ?? ""}`, "", ...(text ?? "").trimEnd().split("\n")]
    .map((line) => `    ${line}`)
    .join("\n");
}

async function run(options: Options): Promise<void> {
  if (options.data !== undefined) mkdirSync(options.data, { recursive: true, mode: 0o700 });
  const data = options.data === undefined ? mkdtempSync(join(tmpdir(), "kakitome-demo-")) : resolve(options.data);
  const teller = new Teller();
  const witness = new Witness();
  const programDrives = options.stay === true && options.json === true;
  let place: Place | undefined;
  try {
    place = await startPlace({
      data,
      policy: { hold: options.hold, signing: options.signing, confirm: options.confirm },
      onLog: (line) => teller.hear(line),
      onMail: async (_recipient, mail) => {
        if (place && (!programDrives || options.out !== undefined)) await witness.look(place, mail);
      },
    });
    if (!programDrives || options.out !== undefined) {
      const story = await tell(place, teller, witness);
      if (!programDrives) await print(place, story);
      if (options.out !== undefined) {
        const commands = writeFiles(options.out, place, story);
        if (!programDrives)
          console.log(
            `\nFiles are in ${resolve(options.out)}. Check them with stock OpenSSL:\n\n${commands.map((line) => `  ${line}`).join("\n")}`,
          );
      }
    }
    if (options.stay) {
      console.log(options.json ? JSON.stringify(describe(place, data)) : invitation(place, data));
      await stopRequested();
    }
  } finally {
    await place?.stop();
    if (options.data === undefined) rmSync(data, { recursive: true, force: true });
  }
}

async function print(place: Place, { steps, attempts, sealed, opened, evidence }: Story): Promise<void> {
  console.log(`Alice <${place.alice.address}> sends Bob <${place.bob.address}> a registered letter.\n`);
  for (const { step, text, at } of steps) console.log(`${step.padStart(4)} ${String(at).padStart(6)} ms  ${text}`);
  const header = sealed.subarray(0, sealed.indexOf("\r\n\r\n")).toString("utf8");
  console.log(`\nWhat travelled (${sealed.length} octets; its header):\n`);
  for (const line of header.split("\r\n")) console.log(`    ${line}`);
  console.log("\nWho can open what travelled (each was tried):\n");
  for (const { who, opens, detail } of attempts) console.log(`    ${opens ? "yes" : "no "}  ${who}: ${detail}`);
  console.log(`\nWhat Bob reads in his mailbox:\n\n${await readAsBob(opened)}`);
  console.log("\nThe receipt, its signature and the broker's evidence verified:\n");
  for (const [name, value] of Object.entries(evidence)) console.log(`    ${name.padEnd(21)} ${value}`);
}

function describe(place: Place, data: string): object {
  const host = "127.0.0.1";
  const smtp = (office: Office) => ({ host, port: office.smtpPort, user: office.address, password: office.password, tls: "starttls" });
  const imap = (office: Office) => ({ host, port: place.imapPort, user: office.address, password: office.password });
  return {
    smtp: smtp(place.alice),
    smtp_bob: smtp(place.bob),
    imap: { alice: imap(place.alice), bob: imap(place.bob) },
    broker: { url: place.broker.url, fingerprint: place.broker.root.fingerprint },
    next_hop: { host, port: place.nextHopPort },
    configs: { alice: place.alice.configFile, bob: place.bob.configFile },
    ca: place.broker.caFile,
    data,
  };
}

function invitation(place: Place, data: string): string {
  const account = (office: Office): string[] => [
    `  ${office.address}, password ${office.password}`,
    `    outgoing: SMTP 127.0.0.1 port ${office.smtpPort}, STARTTLS`,
    `    incoming: IMAP 127.0.0.1 port ${place.imapPort}, no encryption`,
  ];
  return [
    "\nEverything keeps running. Accounts for a mail client:",
    ...account(place.alice),
    ...account(place.bob),
    `  The authority for STARTTLS is ${place.broker.caFile}; data is in ${data}.`,
    "  Ctrl-C ends it.",
  ].join("\n");
}
