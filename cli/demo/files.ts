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
  for (const [name, bytes] of filesIn(story.receipt)) put(name, bytes);
  put("original.p7s", story.originalSignature);
  put("letter.mime", story.signedContent);
  put("ca.pem", place.broker.root.pem);
  if (story.contentKey) put("kc.hex", `${story.contentKey.toString("hex")}\n`, 0o600);
  put("bob-encryption.key.pem", story.bob.key.export({ type: "pkcs8", format: "pem" }).toString(), 0o600);
  put("bob-encryption.crt.pem", story.bob.certificate.pem);
  const commands = [`cd ${resolve(folder)}`, ...receiptCommands(), ...(story.contentKey ? heldCommands(story) : enclosedCommands(story))];
  put("check.sh", `${commands.slice(1).join("\n")}\n`, 0o755);
  return commands;
}

/** The attachments of a receipt, by name. */
function filesIn(receipt: Buffer): [name: string, bytes: Buffer][] {
  const [report] = splitMultipart(parseEntity(receipt));
  const [mixed] = report ? splitMultipart(parseEntity(report)) : [];
  const [, ...files] = mixed ? splitMultipart(parseEntity(mixed)) : [];
  return files.map((part) => {
    const entity = parseEntity(part);
    return [entity.contentType.parameters.get("name") ?? "part", decodedBody(entity)];
  });
}

function receiptCommands(): string[] {
  return [
    "# the receipt and the broker's statements in it, without the broker",
    "openssl cms -verify -in receipt.eml -CAfile ca.pem -verify_email registered-mail@broker.example -out receipt.txt",
    "openssl cms -verify -inform DER -in evidence.p7m -CAfile ca.pem -cades",
    "openssl cms -verify -inform DER -in released.p7m -CAfile ca.pem -cades -out released.json",
    "# Bob's own receipt, against the signature of the letter; and that signature against the letter (the first alone would not notice an altered letter)",
    "openssl cms -verify_receipt recipient-receipt.p7m -rctform DER -inform DER -in original.p7s -content letter.mime -CAfile ca.pem -out letter.verified",
    "openssl cms -verify -inform DER -in original.p7s -content letter.mime -binary -CAfile ca.pem -out letter.verified",
  ];
}

const BOB = "-recip bob-encryption.crt.pem -inkey bob-encryption.key.pem";

function heldCommands({ shell, evidence }: Story): string[] {
  return [
    "# Bob's key alone: fails",
    `openssl cms -decrypt -inform DER -in registered.p7m ${BOB}`,
    "# Kc alone: gives only the inner envelope",
    `openssl cms -decrypt -inform DER -in registered.p7m -secretkey "$(cat kc.hex)" -secretkeyid ${shell.ticket.toString("hex")} -out inner.mime`,
    evidence.signing === "outer" ? "# Bob's key on that: the letter" : "# Bob's key on that: the signed letter, and its signature",
    "sed '1,/^\\r$/d' inner.mime > inner.p7m",
    ...openCommands(`openssl cms -decrypt -inform DER -in inner.p7m ${BOB}`, evidence.signing),
  ];
}

function enclosedCommands({ evidence }: Story): string[] {
  return [
    "# Bob's key opens it, as in any S/MIME client",
    ...openCommands(`openssl cms -decrypt -inform DER -in registered.p7m ${BOB}`, evidence.signing),
  ];
}

function openCommands(decrypt: string, signing: string): string[] {
  if (signing === "outer") return [`${decrypt} -out payload.eml`];
  return [`${decrypt} -out signed.eml`, "openssl cms -verify -in signed.eml -CAfile ca.pem -out payload.eml"];
}
