/** One root follows another while the broker runs: announced, in use, and the one before it retired (docs/operations.md, "The root"). */
import type { BrokerConfig } from "../config/schema.ts";
import { issued, parseCertificate, type Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { FILES } from "./files.ts";
import { atTable, fileIn, readCertificate } from "./open.ts";
import { BACKDATED_MS, OWN, makeOwn } from "./own.ts";
import { pairsOf } from "./revoke.ts";
import { announceRoot, retireRoot, rootsAt, useNextRoot, type FormerRoot } from "./roots.ts";
import type { Registry } from "./table.ts";

/** Gateways look for new roots every hour; this is for those that were restarted meanwhile. */
const KNOWN_AFTER_MS = 24 * 60 * 60_000;

/** Makes the next root; gateways come to trust it from the broker's next reload on. @throws Fault `forbidden`: one is announced already */
export async function announce(config: BrokerConfig, now: Date): Promise<Certificate> {
  return (await announceRoot(config.data, config.url, now)).certificate;
}

/**
 * Lets the announced root issue, and makes the broker's own certificates anew under it; all of it counts from the next reload or start.
 * Where that was cut off, the rest is done.
 * @param atOnce does not wait for a day after the announcement
 * @returns the root that issues now
 * @throws Fault `forbidden`: none is announced, or too lately
 */
export async function useNext(config: BrokerConfig, atOnce: boolean, now: Date): Promise<Certificate> {
  const { data, url, receipts, certificates } = config;
  const { next } = rootsAt(data);
  const isOf = (root: Certificate, name: (typeof OWN)[number]): boolean => issued(root, readCertificate(fileIn(config, FILES[name])));
  const isWhole = OWN.every((name) => isOf(rootsAt(data).issuing.certificate, name));
  if (next) {
    const known = new Date(next.certificate.notBefore.getTime() + BACKDATED_MS + KNOWN_AFTER_MS);
    if (known > now && !atOnce) throw new Fault("forbidden", tooEarly(known));
    useNextRoot(data, certificates.lifetime, now);
  } else if (isWhole) throw new Fault("forbidden", 'no root is announced: run "kakitome broker rotate root" first');
  const { issuing } = rootsAt(data);
  for (const name of OWN)
    if (!isOf(issuing.certificate, name)) await makeOwn(data, issuing, name, { url, receiptsFrom: receipts.from, now });
  return issuing.certificate;
}

const tooEarly = (known: Date): string =>
  `the root was announced less than a day ago, and a gateway that is away now would not know it: run this again after ${known.toISOString()}, or with --now`;

/** What became of former roots. */
export interface Retirement {
  readonly retired: readonly Certificate[];
  /** Those that something still counts under, and until when. */
  readonly waiting: readonly { readonly certificate: Certificate; readonly until: Date }[];
}

/** Who has certificates of others than the broker's own. */
type Issued = Pick<Registry, "gateways" | "mailboxes">;

/** Retires the former roots under which nothing counts any more. */
export async function retire(config: BrokerConfig, registry: Issued, now: Date): Promise<Retirement> {
  const { former } = rootsAt(config.data);
  const retired: Certificate[] = [];
  const waiting: { certificate: Certificate; until: Date }[] = [];
  for (const root of former) {
    const until = await lastEnd(config, registry, root);
    if (until >= now) waiting.push({ certificate: root.certificate, until });
    else {
      retireRoot(config.data, root);
      retired.push(root.certificate);
    }
  }
  return { retired, waiting };
}

/** The same for a command beside the broker. */
export async function retireNow(config: BrokerConfig, now: Date): Promise<Retirement> {
  return atTable(config, (table) => retire(config, table, now));
}

/**
 * When nothing under the root counts any more: what it was written down for, channels and mailboxes as the table has them, and the broker's
 * own. What was issued may last longer than was written down: the lifetime was longer then, or a broker beside this one issued after it.
 */
async function lastEnd(config: BrokerConfig, registry: Issued, { certificate: root, until }: FormerRoot): Promise<Date> {
  const channels = (await registry.gateways()).filter((gateway) => gateway.root === root.fingerprint).map(({ endsAt = 0 }) => endsAt);
  const mailboxes = (await registry.mailboxes()).flatMap((record) => pairsOf(record));
  const pems = mailboxes.flatMap(({ signingCertificate, encryptionCertificate }) => [signingCertificate, encryptionCertificate]);
  const own = OWN.map((name) => readCertificate(fileIn(config, FILES[name])));
  const ends = [...pems.map((pem) => parseCertificate(pem)), ...own]
    .filter((one) => issued(root, one))
    .map(({ notAfter }) => notAfter.getTime());
  const last = [...channels, ...ends].reduce((latest, end) => Math.max(latest, end), until.getTime());
  return new Date(Math.min(last, root.notAfter.getTime()));
}
