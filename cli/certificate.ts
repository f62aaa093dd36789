/** `kakitome certificate learn|list|approve`: certificates of recipients who are not enrolled, taken from mail that they signed. */
import type { Command } from "commander";
import { createLog } from "../config/log.ts";
import { Learned } from "../gateway/main.ts";
import type { Certificate } from "../mime/certificate.ts";
import { toCrlf } from "../mime/entity.ts";
import { contentOf } from "./given.ts";
import { say } from "./say.ts";
import { asGateway } from "./service.ts";

const line = ({ fingerprint, mailboxes, notAfter }: Certificate): string =>
  `${fingerprint}  ${mailboxes.join(" ")}  until ${notAfter.toISOString()}`;

const facts = ({ fingerprint, mailboxes, notAfter }: Certificate): object => ({ fingerprint, mailboxes, notAfter: notAfter.toISOString() });

interface Options {
  readonly config: string;
  readonly json?: true;
}

export function addCertificate(program: Command): void {
  const certificate = program.command("certificate").description("certificates of recipients who are not enrolled");
  const learned = (config: string): Learned => new Learned(asGateway(config), createLog(process.stderr));
  const add = (name: string, description: string): Command =>
    certificate
      .command(name)
      .description(description)
      .option("--config <file>", "the gateway's configuration", "gateway.yaml")
      .option("--json", "one JSON document");
  add("learn", "take the certificate out of a mail that its owner signed; it waits for approval")
    .argument("<mail>", "the signed mail (.eml)")
    .action(async (file: string, { config, json }: Options) => {
      const mail = toCrlf(contentOf(file));
      const found = await learned(config).learn(mail);
      say(json, facts(found), line(found));
    });
  add("list", "what waits for approval").action(async ({ config, json }: Options) => {
    const waiting = await learned(config).waiting();
    say(
      json,
      { waiting: waiting.map((one) => facts(one)) },
      waiting.map((one) => line(one)),
    );
  });
  add("approve", "use a certificate for the enclosed form, once its owner has confirmed the fingerprint")
    .argument("<fingerprint>", "SHA-256 in hex, all of it")
    .action(async (fingerprint: string, { config, json }: Options) => {
      const approved = await learned(config).approve(fingerprint);
      say(json, facts(approved), [`approved: ${line(approved)}`, "In a gateway that runs it counts after kakitome reload."]);
    });
}
