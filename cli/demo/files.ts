/** `demo --out`: what travelled, as files, and the stock OpenSSL commands that check them. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { decodedBody, parseEntity, splitMultipart } from "../../mime/entity.ts";
import type { Place } from "./place.ts";
import type { Story } from "./story.ts";

/** Writes the files. @returns the commands, one a line, as they can be pasted into a shell */
export function writeFiles(folder: string, place: Place, story: Story): string[] {
  mkdirSync(folder, { recursive: true });
  const put = (name: string, content: Buffer | string, mode = 0o644): void => writeFileSync(join(folder, name), content, { mode });
  put("original.eml", story.original);
  put("sealed.eml", story.sealed);
  put("registered.p7m", story.envelope);
  put("opened.eml", story.opened);
  put("receipt.eml", story.receipt);
  put("evidence.p7m", evidenceIn(story.receipt));
  put("ca.pem", place.broker.root.pem);
  put("kc.hex", `${story.contentKey.toString("hex")}\n`, 0o600);
  put("bob-encryption.key.pem", story.bob.key.export({ type: "pkcs8", format: "pem" }).toString(), 0o600);
  put("bob-encryption.crt.pem", story.bob.certificate.pem);
  const commands = [
    `cd ${resolve(folder)}`,
    "# the receipt and the evidence in it, without the broker",
    "openssl cms -verify -in receipt.eml -CAfile ca.pem -out receipt.txt",
    "openssl cms -verify -inform DER -in evidence.p7m -CAfile ca.pem -cades",
    "# Bob's key alone: fails",
    "openssl cms -decrypt -inform DER -in registered.p7m -recip bob-encryption.crt.pem -inkey bob-encryption.key.pem",
    "# Kc alone: gives only the inner envelope",
    `openssl cms -decrypt -inform DER -in registered.p7m -secretkey "$(cat kc.hex)" -secretkeyid ${story.shell.ticket.toString("hex")} -out inner.mime`,
    "# Bob's key on that: the signed letter, and its signature",
    "sed '1,/^\\r$/d' inner.mime > inner.p7m",
    "openssl cms -decrypt -inform DER -in inner.p7m -recip bob-encryption.crt.pem -inkey bob-encryption.key.pem -out signed.eml",
    "openssl cms -verify -in signed.eml -CAfile ca.pem -out payload.eml",
  ];
  put("check.sh", `${commands.slice(1).join("\n")}\n`, 0o755);
  return commands;
}

function evidenceIn(receipt: Buffer): Buffer {
  const [report] = splitMultipart(parseEntity(receipt));
  const [mixed] = report ? splitMultipart(parseEntity(report)) : [];
  const [, evidence] = mixed ? splitMultipart(parseEntity(mixed)) : [];
  return evidence ? decodedBody(parseEntity(evidence)) : Buffer.alloc(0);
}
