/**
 * The broker's roots over the years, as its data folder has them. What a root is for follows from where its key lies:
 *
 *   root.key.pem               it issues
 *   root-next.key.pem          it is announced: gateways come to trust it, and nothing is issued under it yet
 *   root-FINGERPRINT.key.pem   it was before: what it issued counts until that ends, and it signs revocation lists
 *   nowhere                    it is retired: its certificate stays in ca.pem, for receipts of its time
 *
 * Each step becomes true by one file that gets or loses its name, so that a power cut leaves the step before it or the step.
 */
import { createPublicKey } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { readPrivateKey } from "../config/secrets.ts";
import { parseBundle, type Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import type { Signer } from "../mime/sign.ts";
import { certifyRoot, createRoot } from "./authority.ts";
import { OPEN, SECRET, destroy, move, put, remove } from "./disk.ts";
import { FILES, formerRootEnd, formerRootKey } from "./files.ts";
import { BACKDATED_MS, pemOf } from "./own.ts";

const DAY_MS = 86_400_000;
const ROOT_DAYS = 3_650;

/** A root that does not issue any more. */
export interface FormerRoot extends Signer {
  /** When the last certificate ends that it issued to others with the lifetime of the day it stopped; others may last longer. */
  readonly until: Date;
}

export interface Roots {
  readonly issuing: Signer;
  readonly next: Signer | undefined;
  readonly former: readonly FormerRoot[];
  readonly retired: readonly Certificate[];
  /** Roots certified by each other. */
  readonly links: readonly Certificate[];
}

/** Roots whose certificates count, the one that issues first. */
export function countingIn({ issuing, next, former }: Pick<Roots, "issuing" | "next" | "former">): [Signer, ...Signer[]] {
  return [issuing, ...(next ? [next] : []), ...former];
}

/** Makes a root. @param number how many it is of this broker's, for whoever reads its name */
export function newRoot(url: string, number: number, now: Date): Promise<Signer> {
  const name = `Kakitome root${number === 1 ? "" : ` ${number}`} of ${new URL(url).hostname}`;
  return createRoot(name, new Date(now.getTime() - BACKDATED_MS), new Date(now.getTime() + ROOT_DAYS * DAY_MS));
}

/** @throws Fault `malformed`: no broker was made there, or the root's key is of none of the roots */
export function rootsAt(folder: string): Roots {
  const place = (name: string): string => join(folder, name);
  const all = bundleAt(place(FILES.roots));
  const [key, nextKey] = [readPrivateKey(place(FILES.rootKey)), place(FILES.nextRootKey)];
  const certificate = ownerOf(createPublicKey(key), all);
  if (!certificate) throw new Fault("malformed", `${place(FILES.rootKey)} is the key of no root in ${place(FILES.roots)}`);
  const next = existsSync(nextKey) ? signerOf(nextKey, all) : undefined;
  const others = all.filter((root) => root !== certificate && root !== next?.certificate);
  const hasKey = ({ fingerprint }: Certificate): boolean => existsSync(place(formerRootKey(fingerprint)));
  return {
    issuing: { key, certificate },
    next,
    former: others.filter(hasKey).map((root) => ({
      key: readPrivateKey(place(formerRootKey(root.fingerprint))),
      certificate: root,
      until: untilAt(place(formerRootEnd(root.fingerprint))) ?? root.notAfter,
    })),
    retired: others.filter((root) => !hasKey(root)),
    links: existsSync(place(FILES.links)) ? parseBundle(readFileSync(place(FILES.links))) : [],
  };
}

/**
 * Makes the next root beside the one that issues, and has each certify the other: gateways come to trust it over the channel they have.
 * @throws Fault `forbidden`: one is announced already
 */
export async function announceRoot(folder: string, url: string, now: Date): Promise<Signer> {
  const { issuing, next, former, retired, links } = rootsAt(folder);
  if (next) throw new Fault("forbidden", `the root ${next.certificate.fingerprint} is announced already`);
  const made = await newRoot(url, 2 + former.length + retired.length, now);
  const times = { notBefore: made.certificate.notBefore, notAfter: issuing.certificate.notAfter };
  const pair = [await certifyRoot(issuing, made.certificate, times), await certifyRoot(made, issuing.certificate, times)];
  put(join(folder, FILES.nextRootKey), pemOf(made.key), SECRET);
  put(join(folder, FILES.links), pemsOf([...links, ...pair]), OPEN);
  put(join(folder, FILES.roots), pemsOf([issuing.certificate, made.certificate, ...certificatesOf(former), ...retired]), OPEN); // now it is announced
  return made;
}

/**
 * Lets the announced root issue from now on; the one before it counts on.
 * @param lifetime of certificates, milliseconds: what the former root issued with it counts no longer
 * @throws Fault `forbidden`: none is announced
 */
export function useNextRoot(folder: string, lifetime: number, now: Date): void {
  const { issuing, next, former, retired } = rootsAt(folder);
  if (!next) throw new Fault("forbidden", 'no root is announced: run "kakitome broker rotate root" first');
  const { fingerprint, notAfter } = issuing.certificate;
  const until = new Date(Math.min(now.getTime() + lifetime, notAfter.getTime()));
  put(join(folder, formerRootEnd(fingerprint)), `${until.toISOString()}\n`, OPEN);
  put(join(folder, formerRootKey(fingerprint)), pemOf(issuing.key), SECRET);
  move(join(folder, FILES.nextRootKey), join(folder, FILES.rootKey)); // now it issues
  put(join(folder, FILES.roots), pemsOf([next.certificate, issuing.certificate, ...certificatesOf(former), ...retired]), OPEN);
}

/** Retires a former root: nobody can issue under it any more. Its certificate stays, for receipts of its time. */
export function retireRoot(folder: string, { certificate }: FormerRoot): void {
  destroy(join(folder, formerRootKey(certificate.fingerprint))); // now it is retired
  if (existsSync(join(folder, formerRootEnd(certificate.fingerprint)))) remove(join(folder, formerRootEnd(certificate.fingerprint)));
  const { links } = rootsAt(folder);
  const others = links.filter((link) => !link.publicKey.equals(certificate.publicKey) && link.x509.issuer !== certificate.x509.subject);
  if (others.length > 0) put(join(folder, FILES.links), pemsOf(others), OPEN);
  else if (links.length > 0) remove(join(folder, FILES.links));
}

function bundleAt(path: string): Certificate[] {
  try {
    return parseBundle(readFileSync(path));
  } catch (cause) {
    throw new Fault("malformed", `${path} cannot be read: run "kakitome init broker" first, or set data in the configuration`, { cause });
  }
}

function signerOf(path: string, all: readonly Certificate[]): Signer | undefined {
  const key = readPrivateKey(path);
  const certificate = ownerOf(createPublicKey(key), all);
  return certificate && { key, certificate }; // without a certificate the announcement was cut off, and is made again
}

function ownerOf(key: ReturnType<typeof createPublicKey>, all: readonly Certificate[]): Certificate | undefined {
  return all.find(({ publicKey }) => publicKey.equals(key));
}

function untilAt(path: string): Date | undefined {
  const time = existsSync(path) ? new Date(readFileSync(path, "utf8").trim()) : undefined;
  return time && !Number.isNaN(time.getTime()) ? time : undefined;
}

const certificatesOf = (signers: readonly Signer[]): Certificate[] => signers.map(({ certificate }) => certificate);
const pemsOf = (certificates: readonly Certificate[]): string => certificates.map(({ pem }) => pem).join("");
