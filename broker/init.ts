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
  const orders = ordersOf(order);
  const [signing, session, server] = [await own(orders.signing), await own(orders.session), await own(orders.server)];
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

type OwnOrder = Pick<CertificateOrder, "profile" | "commonName" | "hosts" | "mailboxes" | "url">;

/** What the broker's own certificates say. */
function ordersOf({ url, receiptsFrom }: { url: string; receiptsFrom: Mailbox }) {
  const host = new URL(url).hostname;
  return {
    signing: { profile: "broker-signing", commonName: `Kakitome broker ${host}`, mailboxes: [receiptsFrom], url },
    session: { profile: "session", commonName: `Kakitome sessions ${host}` },
    server: { profile: "server", commonName: host, hosts: [host] },
  } satisfies Record<string, OwnOrder>;
}

/** A pair of the broker's own that can be made anew. */
export type Rotatable = keyof ReturnType<typeof ordersOf>;

/**
 * Makes a new key and certificate of the broker's own. A former session key stays and opens the tickets that are on their way; what a former
 * signing key signed holds by the root.
 * @returns the new certificate
 */
export async function rotateOwn(
  folder: string,
  root: Signer,
  which: Rotatable,
  order: { url: string; receiptsFrom: Mailbox; now: Date },
): Promise<Certificate> {
  const place = (name: string): string => join(folder, name);
  const former = parseCertificate(readFileSync(place(FILES[which])));
  const key = newKey();
  const notAfter = new Date(Math.min(order.now.getTime() + OWN_DAYS * DAY_MS, root.certificate.notAfter.getTime()));
  const notBefore = new Date(order.now.getTime() - 600_000);
  const certificate = await issue(root, { ...ordersOf(order)[which], publicKey: createPublicKey(key), notBefore, notAfter });
  const next = [place(`${which}-next.key.pem`), place(`${which}-next.crt.pem`)] as const;
  // The new pair is complete, and a former session key kept, before names change; a start between the last two steps is refused with the mend.
  writeFileSync(next[0], key.export({ type: "pkcs8", format: "pem" }), { mode: 0o600, flag: "wx" });
  writeFileSync(next[1], certificate.pem, { mode: 0o644, flag: "wx" });
  if (which === "session") {
    copyFileSync(place(FILES.sessionKey), place(`session-${former.fingerprint}.key.pem`));
    copyFileSync(place(FILES.session), place(`session-${former.fingerprint}.crt.pem`));
  }
  renameSync(next[0], place(FILES[`${which}Key`]));
  renameSync(next[1], place(FILES[which]));
  return certificate;
}
