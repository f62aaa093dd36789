/** `kakitome certificate learn|list|approve`: certificates of recipients who are not enrolled, taken from mail that they signed. */
import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { loadGateway } from "../config/load.ts";
import { createLog } from "../config/log.ts";
import { Learned } from "../gateway/main.ts";
import type { Certificate } from "../mime/certificate.ts";
import { toCrlf } from "../mime/entity.ts";

const line = ({ fingerprint, mailboxes, notAfter }: Certificate): string =>
  `${fingerprint}  ${mailboxes.join(" ")}  until ${notAfter.toISOString()}`;

export function addCertificate(program: Command): void {
  const certificate = program.command("certificate").description("certificates of recipients who are not enrolled");
  const learned = (config: string): Learned => new Learned(loadGateway(config), createLog(process.stderr));
  const add = (name: string, description: string): Command =>
    certificate.command(name).description(description).option("--config <file>", "the gateway's configuration", "gateway.yaml");
  add("learn", "take the certificate out of a mail that its owner signed; it waits for approval")
    .argument("<mail>", "the signed mail (.eml)")
    .action(async (file: string, { config }: { config: string }) =>
      console.log(line(await learned(config).learn(toCrlf(readFileSync(file))))),
    );
  add("list", "what waits for approval").action(async ({ config }: { config: string }) => {
    for (const waiting of await learned(config).waiting()) console.log(line(waiting));
  });
  add("approve", "use a certificate for the enclosed form, once its owner has confirmed the fingerprint")
    .argument("<fingerprint>", "SHA-256 in hex, all of it")
    .action(async (fingerprint: string, { config }: { config: string }) => {
      console.log(`approved: ${line(await learned(config).approve(fingerprint))}`);
      console.log("Restart the gateway to let it count.");
    });
}
