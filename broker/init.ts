/** `kakitome init broker`: makes the root, the broker's own certificates and the master key, each private file readable by its owner only. */
import { createPublicKey, randomBytes, type KeyObject } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Mailbox } from "../mime/address.ts";
import { parseCertificate, type Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { newKey } from "../mime/request.ts";
import type { Signer } from "../mime/sign.ts";
import { createRoot, issue, type CertificateOrder } from "./authority.ts";

export const FILES = {
  rootKey: "root.key.pem",
  root: "ca.pem",
  signingKey: "signing.key.pem",
  signing: "signing.crt.pem",
  sessionKey: "session.key.pem",
  session: "session.crt.pem",
  serverKey: "server.key.pem",
  server: "server.crt.pem",
  masterKey: "master.key",
  dayKeys: "days",
  witness: "table.witness",
  table: "table.db",
} as const;

/** Session keys of former times keep their pair under this name and their fingerprint, so that tickets sealed to them still open. */
export const FORMER_SESSION = /^session-([0-9a-f]{64})\.crt\.pem$/u;

const DAY_MS = 86_400_000;
const ROOT_DAYS = 3_650;
const OWN_DAYS = 1_825;

/**
 * Fills an empty folder.
 * @returns the root, whose fingerprint gateways compare when they enrol
 * @throws Fault `forbidden`: the folder already holds a broker; nothing is overwritten
 */
export async function initBroker(folder: string, order: { url: string; receiptsFrom: Mailbox; now: Date }): Promise<Certificate> {
  if (existsSync(join(folder, FILES.root))) throw new Fault("forbidden", `${folder} already holds a broker; nothing was changed`);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const notBefore = new Date(order.now.getTime() - 600_000);
  const after = (days: number): Date => new Date(order.now.getTime() + days * DAY_MS);
  const host = new URL(order.url).hostname;
  const root = await createRoot(`Kakitome root of ${host}`, notBefore, after(ROOT_DAYS));
  const own = async (
    parts: Pick<CertificateOrder, "profile" | "commonName" | "hosts" | "mailboxes" | "url">,
  ): Promise<{ key: KeyObject; pem: string }> => {
    const key = newKey();
    const certificate = await issue(root, { ...parts, publicKey: createPublicKey(key), notBefore, notAfter: after(OWN_DAYS) });
    return { key, pem: certificate.pem };
  };
  const signing = await own({
    profile: "broker-signing",
    commonName: `Kakitome broker ${host}`,
    mailboxes: [order.receiptsFrom],
    url: order.url,
  });
  const session = await own({ profile: "session", commonName: `Kakitome sessions ${host}` });
  const server = await own({ profile: "server", commonName: host, hosts: [host] });
  const put = (name: string, text: string, mode: number): void => writeFileSync(join(folder, name), text, { mode, flag: "wx" });
  const pem = (key: KeyObject): string => key.export({ type: "pkcs8", format: "pem" }).toString();
  put(FILES.rootKey, pem(root.key), 0o600);
  put(FILES.signingKey, pem(signing.key), 0o600);
  put(FILES.sessionKey, pem(session.key), 0o600);
  put(FILES.serverKey, pem(server.key), 0o600);
  put(FILES.masterKey, `${randomBytes(32).toString("hex")}\n`, 0o600);
  put(FILES.signing, signing.pem, 0o644);
  put(FILES.session, session.pem, 0o644);
  put(FILES.server, server.pem, 0o644);
  put(FILES.root, root.certificate.pem, 0o644);
  return root.certificate;
}

/**
 * Makes a new session key; new tickets are sealed to it. The former one stays and opens the tickets that are on their way.
 * @returns the new certificate
 */
export async function rotateSession(folder: string, root: Signer, now: Date): Promise<Certificate> {
  const former = parseCertificate(readFileSync(join(folder, FILES.session)));
  const key = newKey();
  const order = { profile: "session" as const, commonName: former.commonName, publicKey: createPublicKey(key) };
  const notAfter = new Date(Math.min(now.getTime() + OWN_DAYS * DAY_MS, root.certificate.notAfter.getTime()));
  const certificate = await issue(root, { ...order, notBefore: new Date(now.getTime() - 600_000), notAfter });
  const place = (name: string): string => join(folder, name);
  // The new pair is complete, and the former one kept, before names change; a start between the last two steps is refused with the mend.
  writeFileSync(place("session-next.key.pem"), key.export({ type: "pkcs8", format: "pem" }), { mode: 0o600, flag: "wx" });
  writeFileSync(place("session-next.crt.pem"), certificate.pem, { mode: 0o644, flag: "wx" });
  copyFileSync(place(FILES.sessionKey), place(`session-${former.fingerprint}.key.pem`));
  copyFileSync(place(FILES.session), place(`session-${former.fingerprint}.crt.pem`));
  renameSync(place("session-next.key.pem"), place(FILES.sessionKey));
  renameSync(place("session-next.crt.pem"), place(FILES.session));
  return certificate;
}
