/** What the broker's steps share, and who is asking: the channel is the gateway, the actor is the mailbox (docs/protocol.md, section 6). */
import type { z } from "zod";
import type { Log } from "../config/log.ts";
import type { Milliseconds } from "../config/units.ts";
import type { Mailbox } from "../mime/address.ts";
import { parseCertificate, verifyChain, type Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { OID } from "../mime/oids.ts";
import type { Opener } from "../mime/open.ts";
import { verifySignature, type Signer, type Verified } from "../mime/sign.ts";
import type { MasterKey } from "./master-key.ts";
import { isMailboxRevoked, pairsOf } from "./revoke.ts";
import type { CertificatePair, GatewayRecord, MailboxRecord, OutboxEntry, RegistryView, Table } from "./table.ts";
import { parseBody } from "./wire.ts";

export interface Broker {
  /** The broker's own address. */
  readonly url: string;
  readonly table: Table;
  readonly masterKey: MasterKey;
  /** Issues certificates. */
  readonly root: Signer;
  /** All whose certificates count, that one first; each signs a revocation list. */
  readonly roots: readonly Signer[];
  /** Roots certified by each other: who trusts one learns the others. */
  readonly links: readonly Certificate[];
  /** Signs answers, evidence and receipts. */
  readonly signer: Signer;
  /** Opens tickets; the first one also seals new ones. */
  readonly sessionKeys: readonly Opener[];
  readonly receiptsFrom: Mailbox;
  readonly limits: {
    readonly longestExpiry: Milliseconds;
    /** T1 at the latest, after the declaration; where left out a sender is told of a delay only as it wishes. */
    readonly warnAfter?: Milliseconds | undefined;
    readonly vanishAfter: Milliseconds;
    readonly certificateLifetime: Milliseconds;
    /** From one revocation list to its nextUpdate. */
    readonly crlLifetime: Milliseconds;
  };
  readonly log: Log;
  now(): Date;
  /** Told after each step that queues one which receipt or report waits. */
  receiptWaits(entry: OutboxEntry): void;
}

/** What whoever acts must have a certificate of. */
export function rootsOf({ roots }: Pick<Broker, "roots">): Certificate[] {
  return roots.map(({ certificate }) => certificate);
}

/** The gateway that asks, and who may take part while it does. */
export interface Caller {
  readonly gateway: GatewayRecord;
  readonly registry: RegistryView;
  /** Counts the call as so many more. @throws Fault `unavailable`: the gateway asks too often */
  more(requests: number): void;
}

/** A mailbox that asked for a step, proved by its signature, through the gateway that enrolled it. */
export interface Actor<Body> extends Caller {
  /** The certificate that signed. */
  readonly certificate: Certificate;
  /** Addresses the certificate speaks for, as looked up. */
  readonly mailboxes: readonly [string, ...string[]];
  /** Fingerprints of all certificates that sign for it: a renewal falls between two steps of one letter. */
  readonly signers: readonly string[];
  /** Of the pair whose other half signed. */
  readonly encryptionCertificate: Certificate;
  readonly body: Body;
}

/** A signed body older or newer than this by the broker's clock is refused. */
const CLOCK_TOLERANCE_MS = 10 * 60_000;

interface SignedHead {
  readonly broker: string;
  readonly gateway: string;
  readonly request: string;
  readonly time: Date;
}

/** The pairs of a mailbox that were not revoked. */
async function countingPairs(registry: RegistryView, record: MailboxRecord): Promise<CertificatePair[]> {
  const pairs = pairsOf(record);
  const revoked = await Promise.all(pairs.map((pair) => isMailboxRevoked(registry, record, pair)));
  return pairs.filter((_pair, at) => !revoked[at]);
}

/** A mailbox's certificate is issued by a root itself: certificates that came along are not even tried. */
async function verifiedAt(at: Date, broker: Broker, signed: Buffer): Promise<Verified> {
  const verified = verifySignature(signed);
  verifyChain(verified.signer, { roots: rootsOf(broker), at, purpose: OID.emailProtection });
  return verified;
}

/**
 * Reads a signed body and proves its actor. The signature is verified while the table is still asked who may take part.
 * @param asking whoever may not ask learns that, however its body is
 * @throws Fault `signature-invalid`, `malformed`: the body; `forbidden`: a mailbox that is not enrolled through this gateway or is revoked, another addressee, a clock too far off
 */
export async function authenticate<Body extends SignedHead>(
  broker: Broker,
  asking: Promise<Caller>,
  schema: z.ZodType<Body>,
  signed: Buffer,
): Promise<Actor<Body>> {
  const now = broker.now();
  const verifying = verifiedAt(now, broker, signed);
  await Promise.allSettled([asking, verifying]);
  const { gateway, registry, more } = await asking;
  const { content, signer } = await verifying;
  const [address, ...aliases] = signer.mailboxes;
  const record = await registry.findMailbox(address ?? "");
  const pairs = record?.gateway === gateway.fingerprint ? await countingPairs(registry, record) : [];
  const pair = pairs.find(({ signingCertificate }) => parseCertificate(signingCertificate).fingerprint === signer.fingerprint);
  if (address === undefined || !pair) throw new Fault("forbidden", "the signer is not a mailbox of this gateway");
  const body = parseBody(schema, content);
  if (body.broker !== broker.url || body.gateway !== gateway.fingerprint)
    throw new Fault("forbidden", "the body was signed for another broker or gateway");
  if (Math.abs(body.time.getTime() - now.getTime()) > CLOCK_TOLERANCE_MS) {
    throw new Fault("unavailable", "the clocks differ too far", {
      advice: `The broker's clock says ${now.toISOString()}; set the gateway's clock.`,
    });
  }
  return {
    gateway,
    registry,
    more,
    certificate: signer,
    mailboxes: [address, ...aliases],
    signers: pairs.map(({ signingCertificate }) => parseCertificate(signingCertificate).fingerprint),
    encryptionCertificate: parseCertificate(pair.encryptionCertificate),
    body,
  };
}
