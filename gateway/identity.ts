/** Our channel to the broker (S0): the gateway's key and certificate, enrolled once and renewed. Private keys never leave the data folder. */
import type { KeyObject } from "node:crypto";
import { join } from "node:path";
import { BrokerClient, enrolGateway } from "../broker/client.ts";
import type { Log } from "../config/log.ts";
import { holderOf } from "../config/holder.ts";
import type { GatewayConfig } from "../config/schema.ts";
import { readPrivateKey } from "../config/secrets.ts";
import { parseCertificate, type Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { newKey } from "../mime/request.ts";
import type { Signer } from "../mime/sign.ts";
import { Revocations } from "./revocations.ts";
import { Roots } from "./roots.ts";
import { makeFolder, readIfPresent, renameDurably, unlessMissing, writeDurably } from "./durable.ts";
import { demandPair, readRenewed } from "./pairs.ts";

/** Below the data folder's `keys`. */
export const KEY_FILES = {
  roots: "broker-ca.pem",
  channelKey: "gateway.key.pem",
  channel: "gateway.crt.pem",
  signingKey: "signing.key.pem",
  signing: "signing.crt.pem",
  encryptionKey: "encryption.key.pem",
  encryption: "encryption.crt.pem",
  /** Fingerprint of the first channel certificate, by which the broker names the gateway; there once it was renewed. */
  name: "gateway.id",
} as const;

export const KEYS = "keys";

export async function put(path: string, text: string): Promise<void> {
  await writeDurably(path, [Buffer.from(text)]);
}

/** The key that is there, or a new one: a request that was cut off is repeated with the same key. @throws Fault `malformed` as `readPrivateKey` */
export async function keptKey(path: string): Promise<KeyObject> {
  if (await readIfPresent(path)) return readPrivateKey(path);
  const key = newKey();
  await put(path, pemOf(key));
  return key;
}

const pemOf = (key: KeyObject): string => key.export({ type: "pkcs8", format: "pem" }).toString();

/** The channel's certificate of a gateway that enrolled; undefined where it has not. */
export async function enrolledAs({ data }: Pick<GatewayConfig, "data">): Promise<Certificate | undefined> {
  const pem = await readIfPresent(join(data, KEYS, KEY_FILES.channel));
  return pem && parseCertificate(pem);
}

/**
 * `kakitome enrol`: makes the channel key and trades the one-time token for its certificate.
 * @throws Fault `forbidden`: already enrolled, or another broker than the fingerprint says
 */
export async function enrol(
  config: GatewayConfig,
  invitation: { fingerprint: string; token: string },
  signal: AbortSignal,
): Promise<Certificate> {
  const folder = join(config.data, KEYS);
  await makeFolder(folder);
  if (await enrolledAs(config)) throw new Fault("forbidden", `${config.name} is enrolled already (${folder})`);
  const key = await keptKey(join(folder, KEY_FILES.channelKey)); // where the answer is lost, the same token and key get it again
  const order = { url: config.broker.url, name: config.name, key, ...invitation };
  const { roots, certificate } = await enrolGateway(order, signal);
  await put(join(folder, KEY_FILES.roots), roots.map(({ pem }) => pem).join(""));
  await put(join(folder, KEY_FILES.channel), certificate.pem);
  return certificate;
}

/** The channel to the broker, the roots it is trusted by, and what they revoked as far as it was known at the last stop. */
export interface OpenChannel {
  readonly broker: BrokerClient;
  readonly revocations: Revocations;
  /** The channel's certificate as it counts now. */
  channel(): Certificate;
  /** Asks the broker for its roots and goes on with those that hold. @returns whether there are others now @throws Fault `unavailable`, `forbidden` */
  learn(signal: AbortSignal): Promise<boolean>;
  /** Goes on with the one that another process of ours put here. @throws the system's error */
  follow(): Promise<void>;
  /** Gets another one and goes on with it; calls that run end with the former one, which still counts. @throws Fault `unavailable` */
  renew(signal: AbortSignal): Promise<void>;
}

const NEXT_CHANNEL = { key: "gateway-next.key.pem", certificate: "gateway-next.crt.pem" } as const;

/** Takes a renewed channel into place; a start after a crash in between goes on with it. The certificate goes last: while it is there, it is not done. */
async function finishChannel(folder: string): Promise<void> {
  const [key, certificate] = [join(folder, NEXT_CHANNEL.key), join(folder, NEXT_CHANNEL.certificate)];
  if (!(await readIfPresent(certificate))) return;
  await unlessMissing(renameDurably(key, join(folder, KEY_FILES.channelKey))); // or moved before the crash
  await unlessMissing(renameDurably(certificate, join(folder, KEY_FILES.channel)));
}

/** The channel's pair; undefined where the gateway has not enrolled. @throws Fault `unavailable`: it stays half replaced */
function readChannel(folder: string): Promise<Signer | undefined> {
  return readRenewed(async () => {
    const pem = await readIfPresent(join(folder, KEY_FILES.channel));
    if (!pem) return undefined;
    return demandPair({ key: readPrivateKey(join(folder, KEY_FILES.channelKey)), certificate: parseCertificate(pem) }, folder);
  });
}

/** Opens the channel to the broker. @throws Fault `malformed`: the gateway was not enrolled yet; `unavailable`: its key is another certificate's */
export async function openChannel(config: GatewayConfig, log: Log, now: () => Date): Promise<OpenChannel> {
  const folder = join(config.data, KEYS);
  await finishChannel(folder);
  const [roots, pair] = [await Roots.open(join(folder, KEY_FILES.roots), log), await readChannel(folder)];
  if (!roots || !pair) {
    throw new Fault("malformed", `${config.name} is not enrolled: ask the broker's operator for a token and run "kakitome enrol"`);
  }
  const revocations = new Revocations({ folder: config.data, roots: () => roots.trusted, log, now });
  await revocations.load();
  let shown = pair.certificate;
  const gateway = (await readIfPresent(join(folder, KEY_FILES.name)))?.toString().trim() ?? shown.fingerprint;
  const broker = new BrokerClient({
    url: config.broker.url,
    roots: roots.trusted,
    learn,
    revoked: () => revocations.revoked,
    ...pair,
    gateway,
    timeout: config.broker.timeout,
    holder: holderOf(config.data),
    now,
  });
  async function learn(signal: AbortSignal): Promise<boolean> {
    const isNew = (await roots?.learn(await broker.authority(signal), now())) ?? false;
    if (roots && isNew) broker.trustIn(roots.trusted);
    return isNew;
  }
  return {
    broker,
    revocations,
    learn,
    channel: () => shown,
    async follow() {
      const renewed = await readChannel(folder);
      if (!renewed) return;
      shown = renewed.certificate;
      broker.use(shown, renewed.key);
    },
    async renew(signal) {
      const key = await keptKey(join(folder, NEXT_CHANNEL.key));
      const renewed = await broker.renewChannel(key, config.name, signal);
      await put(join(folder, KEY_FILES.name), gateway); // before anything of the new one
      await put(join(folder, NEXT_CHANNEL.certificate), renewed.pem);
      await finishChannel(folder);
      broker.use(renewed, key);
      shown = renewed;
      log.info({ event: "channel.renewed", step: "S0", until: renewed.notAfter.toISOString() });
    },
  };
}
