/** A thief with a copy of somebody's disk, who tries every key there is on every mail there is, with our openers and with stock OpenSSL. */
import { createHash, createPrivateKey } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { parseCertificate } from "../../mime/certificate.ts";
import { decodedBody, parseEntity } from "../../mime/entity.ts";
import { ContentKey } from "../../mime/key.ts";
import { isSealed, readSealed, type SealedMessage } from "../../mime/message.ts";
import { openEnclosed } from "../../mime/open-enclosed.ts";
import { openWithKey, openWithPrivateKey, type Opener } from "../../mime/open.ts";
import { filesBelow } from "../crash/disk.ts";
import type { OpenSsl } from "../mime/openssl.ts";

/** Every private key in a folder that has its certificate beside it. */
export function openersIn(folder: string): Opener[] {
  return filesBelow(folder).flatMap((file) => {
    const certificate = file.replace(/\.key\.pem$/u, ".crt.pem");
    if (certificate === file || !existsSync(certificate)) return [];
    return [{ key: createPrivateKey(readFileSync(file)), certificate: parseCertificate(readFileSync(certificate)) }];
  });
}

export interface Loot {
  readonly mails: readonly Buffer[];
  readonly openers?: readonly Opener[];
  /** What may be a content key. */
  readonly keys?: readonly Buffer[];
}

const attempt = (open: () => Buffer): Buffer[] => {
  try {
    return [open()];
  } catch {
    return [];
  }
};

/** Everything that comes out of the mails, layer by layer, whichever key does it. */
function plaintexts({ mails, openers = [], keys = [] }: Loot, ssl: OpenSsl): Buffer[] {
  const outer = mails.flatMap((mail) => {
    const sealed = readSealed(mail);
    return sealed ? layer(sealed, openers, keys, ssl) : [];
  });
  const inner = outer.flatMap((text) => {
    const entity = parseEntity(text);
    if (!isSealed(entity, "authEnveloped-data")) return [];
    const envelope = decodedBody(entity);
    return [...attempt(() => openWithPrivateKey(envelope, openers)), ...openers.flatMap((opener) => bySsl(envelope, opener, ssl))];
  });
  return [...outer, ...inner];
}

function layer({ hold, envelope, shell }: SealedMessage, openers: readonly Opener[], keys: readonly Buffer[], ssl: OpenSsl): Buffer[] {
  const found = openers.flatMap((opener) => bySsl(envelope, opener, ssl));
  if (hold === "enclosed") return [...found, ...attempt(() => openEnclosed(envelope, openers))];
  const withKeys = keys.flatMap((key) => [
    ...attempt(() => openWithKey(envelope, ContentKey.adopt(Buffer.from(key)))),
    ...sslDecrypt(envelope, ["-secretkey", key.toString("hex"), "-secretkeyid", shell.ticket.toString("hex")], ssl),
  ]);
  return [...found, ...withKeys];
}

function bySsl(envelope: Buffer, { key, certificate }: Opener, ssl: OpenSsl): Buffer[] {
  const name = createHash("sha256").update(certificate.der).digest("hex").slice(0, 16);
  ssl.put(`${name}.key`, key.export({ type: "pkcs8", format: "pem" }).toString());
  ssl.put(`${name}.pem`, certificate.pem);
  return sslDecrypt(envelope, ["-recip", `${name}.pem`, "-inkey", `${name}.key`], ssl);
}

function sslDecrypt(envelope: Buffer, args: readonly string[], ssl: OpenSsl): Buffer[] {
  ssl.put("stolen.der", envelope);
  const { status, stdout } = ssl.try(["cms", "-decrypt", "-binary", "-inform", "DER", "-in", "stolen.der", ...args]);
  return status === 0 ? [stdout] : [];
}

/** Which of the letters the thief can read, by the words in them. */
export function read(loot: Loot, ssl: OpenSsl, words: readonly string[]): string[] {
  const texts = plaintexts(loot, ssl);
  return words.filter((word) => texts.some((text) => text.includes(word)));
}
