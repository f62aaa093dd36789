/** The mailboxes' keys and certificates: enrolled by themselves over the channel (S0), renewed in time, and the former ones kept to open what was sealed to them. */
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { BrokerClient, Identity } from "../broker/client.ts";
import type { Log } from "../config/log.ts";
import { reasonOf } from "../config/log.ts";
import { pause } from "../config/lifecycle.ts";
import type { GatewayConfig, OwnMailbox } from "../config/schema.ts";
import { readPrivateKey } from "../config/secrets.ts";
import { Slots } from "../config/slots.ts";
import type { Mailbox } from "../mime/address.ts";
import { parseCertificate, type Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import type { Opener } from "../mime/open.ts";
import { makeFolder, readIfPresent, removeDurably, renameDurably, unlessMissing, writeDurably } from "./durable.ts";
import { KEY_FILES, KEYS, keptKey, put } from "./identity.ts";
import { demandPair, readRenewed } from "./pairs.ts";

/** Keeps what was learned about one mailbox's keys. */
interface Own {
  readonly mailbox: OwnMailbox;
  identity: Identity | undefined;
}

/** A folder with a pair that is not in place yet, and in it the mark that the former pair is kept. */
const NEXT = "next";
const COMPLETE = "complete";
/** Folders of former pairs, by the first digits of the encryption certificate's fingerprint. */
const FORMER = "former-";
/** So many mailboxes are enrolled at a time: each of them waits for the disk and for the broker. */
const AT_ONCE = 8;
const PAIR = [KEY_FILES.signingKey, KEY_FILES.signing, KEY_FILES.encryptionKey, KEY_FILES.encryption] as const;

/** Whether it is the mailbox's own address or one of its aliases. */
export function hasAddress(own: Pick<OwnMailbox, "address" | "aliases">, { key }: Mailbox): boolean {
  return [own.address, ...own.aliases].some((one) => one.key === key);
}

/** The mailboxes of this gateway, enrolled or about to be. */
export class Identities {
  readonly #own: readonly Own[];
  readonly #folder: string;
  readonly #log: Log;
  readonly #changed: (address: string) => void;

  /** @param changed is told of each mailbox that has got other certificates */
  constructor(config: GatewayConfig, log: Log, changed: (address: string) => void = () => undefined) {
    this.#own = config.mailboxes.map((mailbox) => ({ mailbox, identity: undefined }));
    this.#folder = join(config.data, KEYS);
    this.#log = log;
    this.#changed = changed;
  }

  /** The identity that speaks for a mailbox. @throws Fault `unavailable`: not enrolled yet; `forbidden`: not a mailbox of this gateway */
  of(mailbox: Mailbox): Identity {
    const own = this.#own.find((one) => hasAddress(one.mailbox, mailbox));
    if (!own) {
      throw new Fault("forbidden", "not a mailbox of this gateway", { advice: `${mailbox.address} is not a mailbox of this gateway.` });
    }
    if (!own.identity) {
      const words = `${mailbox.address} is not enrolled: "kakitome gateway run" enrols it, and what hinders it stands in its log at "mailbox.not-enrolled"`;
      throw new Fault("unavailable", words);
    }
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
      const prepareOne = async (own: Own): Promise<void> => {
        if (signal.aborted) return;
        try {
          await this.#takePlace(own.mailbox);
          own.identity = await this.#load(own.mailbox);
          if (own.identity) return;
          own.identity = await this.#enrol(own.mailbox, broker, signal);
          this.#log.info({ event: "mailbox.enrolled", step: "S0", mailbox: own.mailbox.address.address }); // and it can send
          this.#changed(own.mailbox.address.address);
        } catch (thrown) {
          this.#complain("mailbox.not-enrolled", own, thrown);
          waiting++;
        }
      };
      const slots = new Slots(AT_ONCE);
      await Promise.all(this.#own.filter(({ identity }) => !identity).map((own) => slots.run(() => prepareOne(own))));
      if (waiting === 0) return;
      await pause(wait, signal);
    }
  }

  /** Loads what another process keeps here. @param addresses of the mailboxes; all of them where left out. What is not there yet is left as it is */
  async follow(addresses: readonly string[] = this.#own.map(({ mailbox }) => mailbox.address.address)): Promise<void> {
    const wanted = new Set(addresses);
    const slots = new Slots(AT_ONCE);
    const load = async (own: Own): Promise<void> => {
      own.identity = (await readRenewed(() => this.#loadWhole(own.mailbox))) ?? own.identity;
    };
    const some = this.#own.filter(({ mailbox }) => wanted.has(mailbox.address.address));
    await Promise.all(some.map((own) => slots.run(() => load(own).catch((thrown) => this.#complain("mailbox.not-read", own, thrown)))));
  }

  /**
   * Renews what is due at that time: new keys, new certificates, and from then on both; the former ones open what was sealed to them.
   * @returns whether everything that was due is renewed
   */
  async renew(broker: BrokerClient, now: Date, signal: AbortSignal): Promise<boolean> {
    let isDone = true;
    for (const own of this.#own) {
      if (!own.identity) {
        isDone = false; // `prepare` is at it
        continue;
      }
      const { signer, openers } = own.identity;
      if (!isDue([signer.certificate, ...openers.slice(0, 1).map(certificateOf)], now)) continue;
      try {
        own.identity = await this.#renewOne(own.mailbox, broker, signal);
        this.#changed(own.mailbox.address.address);
      } catch (thrown) {
        this.#complain("mailbox.not-renewed", own, thrown);
        isDone = false;
      }
    }
    return isDone;
  }

  #complain(event: string, { mailbox }: Own, thrown: unknown): void {
    const fault = Fault.from(thrown);
    const reason = fault.advice ?? reasonOf(thrown);
    this.#log.error({ event, mailbox: mailbox.address.address, fault: fault.code, reason });
  }

  #path(mailbox: OwnMailbox, ...names: readonly string[]): string {
    return join(this.#folder, encodeURIComponent(mailbox.address.key), ...names);
  }

  /** The same beside the process that renews: signing and encryption of one pair. @throws Fault `unavailable`: it is being replaced */
  async #loadWhole(mailbox: OwnMailbox): Promise<Identity | undefined> {
    const isComplete = () => readIfPresent(this.#path(mailbox, NEXT, COMPLETE));
    const before = await isComplete();
    const identity = await this.#load(mailbox);
    if (!before && !(await isComplete())) return identity;
    throw new Fault("unavailable", `the keys in ${this.#path(mailbox)} are being renewed: "kakitome gateway run" ends it`);
  }

  /** @throws Fault `unavailable`: a key is another certificate's */
  async #load(mailbox: OwnMailbox): Promise<Identity | undefined> {
    const [signing, encryption] = await Promise.all(
      [KEY_FILES.signing, KEY_FILES.encryption].map((name) => readIfPresent(this.#path(mailbox, name))),
    );
    if (!signing || !encryption) return undefined;
    const certificate = parseCertificate(signing);
    const wanted = [mailbox.address, ...mailbox.aliases].map(({ key }) => key).sort();
    if ([...certificate.mailboxes].sort().join() !== wanted.join()) return undefined; // aliases changed: new certificates
    const keyIn = (name: string) => readPrivateKey(this.#path(mailbox, name));
    const current = { key: keyIn(KEY_FILES.encryptionKey), certificate: parseCertificate(encryption) };
    const signer = { key: keyIn(KEY_FILES.signingKey), certificate };
    for (const pair of [signer, current]) demandPair(pair, this.#path(mailbox));
    return { signer, openers: [current, ...(await this.#former(mailbox))] };
  }

  async #enrol(mailbox: OwnMailbox, broker: BrokerClient, signal: AbortSignal): Promise<Identity> {
    await makeFolder(this.#path(mailbox));
    await this.#keepFormer(mailbox); // a letter names the certificate that it is sealed to, and other aliases bring others
    const signingKey = await keptKey(this.#path(mailbox, KEY_FILES.signingKey));
    const encryptionKey = await keptKey(this.#path(mailbox, KEY_FILES.encryptionKey));
    const { signing, encryption } = await broker.enrolMailbox({ ...mailbox, signingKey, encryptionKey }, signal);
    await put(this.#path(mailbox, KEY_FILES.encryption), encryption.pem);
    await put(this.#path(mailbox, KEY_FILES.signing), signing.pem);
    const openers = [{ key: encryptionKey, certificate: encryption }, ...(await this.#former(mailbox))];
    return { signer: { key: signingKey, certificate: signing }, openers };
  }

  async #renewOne(mailbox: OwnMailbox, broker: BrokerClient, signal: AbortSignal): Promise<Identity> {
    if (!(await this.#takePlace(mailbox))) await this.#prepareNext(mailbox, broker, signal); // or the last attempt failed half-way
    await this.#takePlace(mailbox);
    const identity = await this.#load(mailbox);
    if (!identity) throw new Fault("internal", "a renewed identity that cannot be loaded");
    this.#log.info({
      event: "mailbox.renewed",
      step: "S0",
      mailbox: mailbox.address.address,
      until: identity.openers[0]?.certificate.notAfter.toISOString(),
      former: identity.openers.length - 1,
    });
    return identity;
  }

  /** The keys are on the disk before the broker certifies them; asked again after a crash it gives the same certificates. */
  async #prepareNext(mailbox: OwnMailbox, broker: BrokerClient, signal: AbortSignal): Promise<void> {
    await makeFolder(this.#path(mailbox, NEXT));
    const signingKey = await keptKey(this.#path(mailbox, NEXT, KEY_FILES.signingKey));
    const encryptionKey = await keptKey(this.#path(mailbox, NEXT, KEY_FILES.encryptionKey));
    const { signing, encryption } = await broker.enrolMailbox({ ...mailbox, signingKey, encryptionKey }, signal);
    await put(this.#path(mailbox, NEXT, KEY_FILES.signing), signing.pem);
    await put(this.#path(mailbox, NEXT, KEY_FILES.encryption), encryption.pem);
    await this.#keepFormer(mailbox);
    await put(this.#path(mailbox, NEXT, COMPLETE), "");
  }

  /** Copies the present pair into a folder of its own. What is kept there already stays: it was the pair of this certificate then. */
  async #keepFormer(mailbox: OwnMailbox): Promise<void> {
    const present = await readIfPresent(this.#path(mailbox, KEY_FILES.encryption));
    if (!present) return;
    const folder = this.#path(mailbox, `${FORMER}${parseCertificate(present).fingerprint.slice(0, 16)}`);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    for (const name of PAIR) {
      const [octets, kept] = [await readIfPresent(this.#path(mailbox, name)), await readIfPresent(join(folder, name))];
      if (octets && !kept) await writeDurably(join(folder, name), [octets]);
    }
  }

  /** Moves a complete pair into its place, file by file; after a crash the rest follows at the next start. @returns whether there is one */
  async #takePlace(mailbox: OwnMailbox): Promise<boolean> {
    if (!(await readIfPresent(this.#path(mailbox, NEXT, COMPLETE)))) return false;
    for (const name of PAIR) {
      await unlessMissing(renameDurably(this.#path(mailbox, NEXT, name), this.#path(mailbox, name))); // or moved before the crash
    }
    await removeDurably(this.#path(mailbox, NEXT, COMPLETE));
    await rm(this.#path(mailbox, NEXT), { recursive: true, force: true });
    return true;
  }

  /** What opens letters that were sealed before a renewal; a pair that cannot be read is named, and opens nothing. */
  async #former(mailbox: OwnMailbox): Promise<Opener[]> {
    const names = (await unlessMissing(readdir(this.#path(mailbox)))) ?? [];
    const openers: Opener[] = [];
    for (const name of names.filter((one) => one.startsWith(FORMER))) {
      try {
        const pem = await readIfPresent(this.#path(mailbox, name, KEY_FILES.encryption));
        const key = readPrivateKey(this.#path(mailbox, name, KEY_FILES.encryptionKey));
        if (pem) openers.push({ key, certificate: parseCertificate(pem) });
      } catch (thrown) {
        this.#log.error({ event: "mailbox.former-key-lost", mailbox: mailbox.address.address, folder: name, reason: reasonOf(thrown) });
      }
    }
    return openers.sort((a, b) => b.certificate.notAfter.getTime() - a.certificate.notAfter.getTime());
  }
}

const certificateOf = ({ certificate }: Opener): Certificate => certificate;

/** Whether two thirds of the time of one of them are over: the last third is for a broker that is away. */
export function isDue(certificates: readonly Certificate[], now: Date): boolean {
  return certificates.some((certificate) => now.getTime() >= dueAt(certificate));
}

/** When two thirds of its time are over. */
export function dueAt({ notBefore, notAfter }: Certificate): number {
  return notBefore.getTime() + ((notAfter.getTime() - notBefore.getTime()) * 2) / 3;
}
