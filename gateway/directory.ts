/** Who is enrolled, as the broker says; its certificates are kept on disk for the time in which it cannot be asked. */
import { hash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { BrokerClient } from "../broker/client.ts";
import type { GatewayConfig } from "../config/schema.ts";
import type { Mailbox } from "../mime/address.ts";
import { parseCertificate, serialOf, type Certificate } from "../mime/certificate.ts";
import type { RevokedSerials } from "../mime/crl.ts";
import { Fault } from "../mime/fault.ts";
import { FOLDERS } from "./status.ts";
import { makeFolder, readIfPresent, removeDurably, writeDurably } from "./durable.ts";

/** Finds out whether a mailbox is enrolled. */
export interface Directory {
  /** @throws Fault `unavailable` */
  isEnrolled(mailbox: Mailbox, signal: AbortSignal): Promise<boolean>;
  /** What the broker said of it the last time, where that still counts. */
  cached?(mailbox: Mailbox): Promise<Certificate | undefined>;
}

/** Certificates of the directory as they were last seen, one file each. */
export class CertificateCache {
  readonly #folder: string;
  readonly #revoked: () => RevokedSerials;
  readonly #now: () => Date;

  constructor(folder: string, revoked: () => RevokedSerials, now: () => Date) {
    this.#folder = folder;
    this.#revoked = revoked;
    this.#now = now;
  }

  /** Keeps what the broker said; a mailbox that it does not know any more is forgotten. */
  async keep(mailbox: Mailbox, certificate: Certificate | undefined): Promise<void> {
    const path = this.#path(mailbox);
    const before = await readIfPresent(path);
    if (!certificate) {
      if (before) await removeDurably(path);
    } else if (before?.toString() !== certificate.pem) {
      await makeFolder(this.#folder);
      await writeDurably(path, [Buffer.from(certificate.pem)]);
    }
  }

  /** A certificate that is valid now and was not revoked as far as is known here. */
  async find(mailbox: Mailbox): Promise<Certificate | undefined> {
    const pem = await readIfPresent(this.#path(mailbox));
    if (!pem) return undefined;
    const certificate = parseCertificate(pem);
    const isValid = isValidAt(certificate, this.#now()) && !this.#revoked().has(serialOf(certificate));
    return isValid && certificate.mailboxes.includes(mailbox.key) ? certificate : undefined;
  }

  /** File names come from digests: an address never names a file. */
  #path({ key }: Mailbox): string {
    return join(this.#folder, `${hash("sha256", key)}.pem`);
  }
}

/** Certificates of a folder, PEM, one a file, by the mailboxes they name. One that is added by `approve` does not take the former one away. */
export class KnownCertificates {
  readonly #all = new Map<string, Certificate[]>();
  readonly #now: () => Date;

  /** @throws Fault `malformed` with the file that cannot be read */
  constructor(folder: string | undefined, now: () => Date) {
    this.#now = now;
    for (const name of folder === undefined ? [] : readdirSync(folder).filter((one) => one.endsWith(".pem"))) {
      try {
        const certificate = parseCertificate(readFileSync(join(folder ?? "", name)));
        for (const mailbox of certificate.mailboxes) this.#all.set(mailbox, [...(this.#all.get(mailbox) ?? []), certificate]);
      } catch (cause) {
        throw new Fault("malformed", `${join(folder ?? "", name)} holds no certificate that can be used`, { cause });
      }
    }
  }

  /** The newest one that is valid now. @param key of a mailbox */
  get(key: string): Certificate | undefined {
    const now = this.#now();
    const valid = (this.#all.get(key) ?? []).filter((one) => isValidAt(one, now));
    return valid.toSorted((one, other) => other.notBefore.getTime() - one.notBefore.getTime())[0];
  }
}

const isValidAt = ({ notBefore, notAfter }: Certificate, time: Date): boolean => notBefore <= time && time <= notAfter;

const REMEMBERED_MS = 60_000;
const MOST_REMEMBERED = 10_000;

/** Remembers for a minute who is enrolled; an absence is never remembered, so that an enrolment counts at once. */
export function remembering(isEnrolled: Directory["isEnrolled"], now: () => Date): Directory {
  const known = new Map<string, number>();
  return {
    async isEnrolled(mailbox, signal) {
      const time = now().getTime();
      if ((known.get(mailbox.key) ?? 0) > time) return true;
      const enrolled = await isEnrolled(mailbox, signal);
      if (known.size >= MOST_REMEMBERED) known.clear();
      if (enrolled) known.set(mailbox.key, time + REMEMBERED_MS);
      return enrolled;
    },
  };
}

/** The broker's directory, with what it said kept in a folder. */
function openDirectory(
  lookUp: (mailbox: Mailbox, signal: AbortSignal) => Promise<Certificate | undefined>,
  cache: CertificateCache,
  now: () => Date,
): Directory {
  const isEnrolled: Directory["isEnrolled"] = async (mailbox, signal) => {
    const certificate = await lookUp(mailbox, signal);
    await cache.keep(mailbox, certificate).catch(() => undefined); // a letter is not refused because a copy cannot be kept
    return certificate !== undefined;
  };
  return { ...remembering(isEnrolled, now), cached: (mailbox) => cache.find(mailbox) };
}

/** The directory of a gateway's broker. */
export function brokerDirectory(config: GatewayConfig, broker: BrokerClient, now: () => Date): Directory {
  const cache = new CertificateCache(join(config.data, FOLDERS.directory), () => broker.trust.revoked ?? new Map(), now);
  return openDirectory((mailbox, signal) => broker.lookUp(mailbox, signal), cache, now);
}
