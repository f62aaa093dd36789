/** Our keys and certificates: the gateway's channel, and each mailbox enrolled by itself over it (S0). Private keys never leave the data folder. */
import type { KeyObject } from "node:crypto";
import { join } from "node:path";
import { BrokerClient, enrolGateway, type Identity } from "../broker/client.ts";
import type { Log } from "../config/log.ts";
import { reasonOf } from "../config/log.ts";
import { pause } from "../config/lifecycle.ts";
import { holderOf } from "../config/holder.ts";
import type { GatewayConfig, OwnMailbox } from "../config/schema.ts";
import { readPrivateKey } from "../config/secrets.ts";
import type { Mailbox } from "../mime/address.ts";
import { parseCertificate, type Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { newKey } from "../mime/request.ts";
import { Revocations } from "./revocations.ts";
import { makeFolder, readIfPresent, writeDurably } from "./durable.ts";

export const KEY_FILES = {
  root: "broker-ca.pem",
  channelKey: "gateway.key.pem",
  channel: "gateway.crt.pem",
  signingKey: "signing.key.pem",
  signing: "signing.crt.pem",
  encryptionKey: "encryption.key.pem",
  encryption: "encryption.crt.pem",
} as const;

const KEYS = "keys";

async function put(path: string, text: string): Promise<void> {
  await writeDurably(path, [Buffer.from(text)]);
}

/** The key that is there, or a new one: a request that was cut off is repeated with the same key. @throws Fault `malformed` as `readPrivateKey` */
async function keptKey(path: string): Promise<KeyObject> {
  if (await readIfPresent(path)) return readPrivateKey(path);
  const key = newKey();
  await put(path, pemOf(key));
  return key;
}

const pemOf = (key: KeyObject): string => key.export({ type: "pkcs8", format: "pem" }).toString();

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
  if (await readIfPresent(join(folder, KEY_FILES.channel))) throw new Fault("forbidden", `${config.name} is enrolled already (${folder})`);
  const key = await keptKey(join(folder, KEY_FILES.channelKey)); // where the answer is lost, the same token and key get it again
  const order = { url: config.broker.url, name: config.name, key, ...invitation };
  const { root, certificate } = await enrolGateway(order, signal);
  await put(join(folder, KEY_FILES.root), root.pem);
  await put(join(folder, KEY_FILES.channel), certificate.pem);
  return certificate;
}

/** The channel to the broker, and what the broker's root revoked as far as it was known at the last stop. */
export interface OpenChannel {
  readonly broker: BrokerClient;
  readonly revocations: Revocations;
  /** The channel's certificate as it counts now. */
  channel(): Certificate;
}

/** Opens the channel to the broker. @throws Fault `malformed`: the gateway was not enrolled yet */
export async function openChannel(config: GatewayConfig, log: Log, now: () => Date): Promise<OpenChannel> {
  const folder = join(config.data, KEYS);
  const [root, certificate] = await Promise.all([KEY_FILES.root, KEY_FILES.channel].map((name) => readIfPresent(join(folder, name))));
  if (!root || !certificate) {
    throw new Fault("malformed", `${config.name} is not enrolled: ask the broker's operator for a token and run "kakitome enrol"`);
  }
  const pinned = parseCertificate(root);
  const revocations = new Revocations({ folder: config.data, root: pinned, log, now });
  await revocations.load();
  const shown = parseCertificate(certificate);
  const broker = new BrokerClient({
    url: config.broker.url,
    root: pinned,
    revoked: () => revocations.revoked,
    certificate: shown,
    key: readPrivateKey(join(folder, KEY_FILES.channelKey)),
    timeout: config.broker.timeout,
    holder: holderOf(config.data),
    now,
  });
  return { broker, revocations, channel: () => shown };
}

/** Keeps what was learned about one mailbox's keys. */
interface Own {
  readonly mailbox: OwnMailbox;
  identity: Identity | undefined;
}

/** The mailboxes of this gateway, enrolled or about to be. */
export class Identities {
  readonly #own: readonly Own[];
  readonly #folder: string;
  readonly #log: Log;

  constructor(config: GatewayConfig, log: Log) {
    this.#own = config.mailboxes.map((mailbox) => ({ mailbox, identity: undefined }));
    this.#folder = join(config.data, KEYS);
    this.#log = log;
  }

  /** The identity that speaks for a mailbox. @throws Fault `unavailable`: not enrolled yet; `forbidden`: not a mailbox of this gateway */
  of(mailbox: Mailbox): Identity {
    const own = this.#own.find(({ mailbox: { address, aliases } }) => [address, ...aliases].some(({ key }) => key === mailbox.key));
    if (!own) {
      throw new Fault("forbidden", "not a mailbox of this gateway", { advice: `${mailbox.address} is not a mailbox of this gateway.` });
    }
    if (!own.identity) throw new Fault("unavailable", `${mailbox.address} has no certificates yet`);
    return own.identity;
  }

  /** Each mailbox with its certificates; undefined where it has none yet. */
  all(): readonly { readonly address: string; readonly certificates: readonly Certificate[] | undefined }[] {
    return this.#own.map(({ mailbox, identity }) => ({
      address: mailbox.address.address,
      certificates: identity && [identity.signer.certificate, ...identity.openers.slice(0, 1).map(({ certificate }) => certificate)],
    }));
  }

  /** Loads what is there and enrols the rest; tries again until everything is done or the signal aborts. */
  async prepare(broker: BrokerClient, signal: AbortSignal): Promise<void> {
    for (let wait = 1_000; !signal.aborted; wait = Math.min(wait * 2, 60_000)) {
      let waiting = 0;
      for (const own of this.#own.filter(({ identity }) => !identity)) {
        try {
          own.identity = (await this.#load(own.mailbox)) ?? (await this.#enrol(own.mailbox, broker, signal));
        } catch (thrown) {
          const fault = Fault.from(thrown);
          this.#log.error({
            event: "mailbox.not-enrolled",
            mailbox: own.mailbox.address.address,
            fault: fault.code,
            reason: fault.advice ?? reasonOf(thrown),
          });
          waiting++;
        }
      }
      if (waiting === 0) return;
      await pause(wait, signal);
    }
  }

  #path(mailbox: OwnMailbox, name: string): string {
    return join(this.#folder, encodeURIComponent(mailbox.address.key), name);
  }

  async #load(mailbox: OwnMailbox): Promise<Identity | undefined> {
    const [signing, encryption] = await Promise.all(
      [KEY_FILES.signing, KEY_FILES.encryption].map((name) => readIfPresent(this.#path(mailbox, name))),
    );
    if (!signing || !encryption) return undefined;
    const certificate = parseCertificate(signing);
    const wanted = [mailbox.address, ...mailbox.aliases].map(({ key }) => key).sort();
    if ([...certificate.mailboxes].sort().join() !== wanted.join()) return undefined; // aliases changed: new certificates
    return {
      signer: { key: readPrivateKey(this.#path(mailbox, KEY_FILES.signingKey)), certificate },
      openers: [{ key: readPrivateKey(this.#path(mailbox, KEY_FILES.encryptionKey)), certificate: parseCertificate(encryption) }],
    };
  }

  async #enrol(mailbox: OwnMailbox, broker: BrokerClient, signal: AbortSignal): Promise<Identity> {
    await makeFolder(join(this.#folder, encodeURIComponent(mailbox.address.key)));
    const signingKey = await keptKey(this.#path(mailbox, KEY_FILES.signingKey));
    const encryptionKey = await keptKey(this.#path(mailbox, KEY_FILES.encryptionKey));
    const { signing, encryption } = await broker.enrolMailbox({ ...mailbox, signingKey, encryptionKey }, signal);
    await put(this.#path(mailbox, KEY_FILES.encryption), encryption.pem);
    await put(this.#path(mailbox, KEY_FILES.signing), signing.pem);
    this.#log.info({ event: "mailbox.enrolled", step: "S0", mailbox: mailbox.address.address });
    return { signer: { key: signingKey, certificate: signing }, openers: [{ key: encryptionKey, certificate: encryption }] };
  }
}
