/** The broker's own pairs that are made anew in time: of its door, of its signatures, and of its tickets. */
import { createPublicKey, type KeyObject } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Mailbox } from "../mime/address.ts";
import { parseCertificate, type Certificate } from "../mime/certificate.ts";
import { newKey } from "../mime/request.ts";
import type { Signer } from "../mime/sign.ts";
import { issue, type CertificateOrder } from "./authority.ts";
import { OPEN, SECRET, move, put } from "./disk.ts";
import { FILES } from "./files.ts";

const DAY_MS = 86_400_000;
const OWN_DAYS = 1_825;
/** Certificates begin a little earlier, for gateways whose clock is behind. */
export const BACKDATED_MS = 10 * 60_000;

/** What the broker's certificates say of it. */
export interface OwnOrder {
  readonly url: string;
  readonly receiptsFrom: Mailbox;
  readonly now: Date;
}

function ordersOf({ url, receiptsFrom }: OwnOrder) {
  const host = new URL(url).hostname;
  return {
    server: { profile: "server", commonName: host, hosts: [host] },
    signing: { profile: "broker-signing", commonName: `Kakitome broker ${host}`, mailboxes: [receiptsFrom], url },
    session: { profile: "session", commonName: `Kakitome sessions ${host}` },
  } satisfies Record<string, Pick<CertificateOrder, "profile" | "commonName" | "hosts" | "mailboxes" | "url">>;
}

/** What a pair is for. */
export type Own = keyof ReturnType<typeof ordersOf>;
export const OWN: readonly Own[] = ["server", "signing", "session"];

export const pemOf = (key: KeyObject): string => key.export({ type: "pkcs8", format: "pem" }).toString();

/**
 * Makes a pair and puts it into its place. A former session key stays and opens the tickets that are on their way; what a former signing key
 * signed holds by the root.
 * @returns the new certificate
 */
export async function makeOwn(folder: string, root: Signer, which: Own, order: OwnOrder): Promise<Certificate> {
  const now = order.now.getTime();
  const key = newKey();
  const certificate = await issue(root, {
    ...ordersOf(order)[which],
    publicKey: createPublicKey(key),
    notBefore: new Date(now - BACKDATED_MS),
    notAfter: new Date(Math.min(now + OWN_DAYS * DAY_MS, root.certificate.notAfter.getTime())),
  });
  const { pair, next } = placesOf(folder, which);
  put(next.key, pemOf(key), SECRET);
  put(next.certificate, certificate.pem, OPEN);
  if (which === "session" && existsSync(pair.certificate)) {
    const name = join(folder, `session-${parseCertificate(readFileSync(pair.certificate)).fingerprint}`);
    put(`${name}.key.pem`, readFileSync(pair.key, "utf8"), SECRET);
    put(`${name}.crt.pem`, readFileSync(pair.certificate, "utf8"), OPEN);
  }
  move(next.key, pair.key); // from here on the new pair counts: a start finishes what is cut off now
  move(next.certificate, pair.certificate);
  return certificate;
}

/** Finishes rotations whose key has its place already and whose certificate has not: a power cut came in between. */
export function finishOwn(folder: string): void {
  for (const which of OWN) {
    const { pair, next } = placesOf(folder, which);
    if (!existsSync(next.certificate) || existsSync(next.key)) continue;
    const certificate = parseCertificate(readFileSync(next.certificate));
    if (createPublicKey(readFileSync(pair.key)).equals(certificate.publicKey)) move(next.certificate, pair.certificate);
  }
}

function placesOf(folder: string, which: Own) {
  const place = (name: string): string => join(folder, name);
  return {
    pair: { key: place(FILES[`${which}Key`]), certificate: place(FILES[which]) },
    next: { key: place(`${which}-next.key.pem`), certificate: place(`${which}-next.crt.pem`) },
  };
}
