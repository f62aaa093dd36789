/** The session table: a port with two homes, Redis and an embedded store, which pass one and the same suite (test/broker/table.test.ts). */
import type { Confirmed, Declaration, NewRow, Released, Session, SessionHash, Waiting } from "./session.ts";
import type { RevocationReason } from "../mime/crl.ts";
import type { Copyable } from "./table-copy.ts";
import type { TableWitness } from "./witness.ts";

/**
 * Rows of registered letters. Every method is one atomic, durable step: when its promise resolves, the step survives kill -9, and
 * the row, its audit entry and its outbox entry were written together or not at all. A home that does not answer throws Fault `unavailable`.
 */
interface SessionTable {
  /**
   * Writes new rows in state `declared`, each row in a step of its own. A row that is never dispatched vanishes at `vanishAt` (ms since
   * the epoch). A declaration that comes again changes nothing.
   * @returns the rows as they are kept: of a repeated declaration those of the first one
   * @throws Fault `forbidden`: another declaration has the name of one of the sessions, or this one has gone further
   */
  declare(rows: readonly NewRow[], vanishAt: number): Promise<Waiting[]>;

  /**
   * Marks declared rows of this gateway as on their way, so that they do not vanish; rows in any other state stay as they are.
   * @returns the sessions that are not there for this gateway, or ended without being opened
   */
  dispatched(sessions: readonly SessionHash[], gateway: string, at: number): Promise<SessionHash[]>;

  /** Erases the key of a row of this gateway that was not released. @returns whether it did, now or earlier */
  withdraw(session: SessionHash, gateway: string, at: number): Promise<boolean>;

  /**
   * Gives the key out (S7): the first time it stores `next` (or, where the terms say so, the first session and `ticket` again), `filing`
   * and `mac`; afterwards it returns what was stored.
   * @returns undefined where there is nothing to give to these mailboxes: unknown, foreign, expired, ended, confirmed; each refusal is
   * recorded, and costs the same. `recalled` to its own recipient of a letter that the sender took back. `claimed` where another holder
   * got the key and its claim still runs
   */
  release(order: ReleaseOrder): Promise<Released | "claimed" | "recalled" | undefined>;

  /**
   * Takes a letter back for its sender: from `declared` and `dispatched` on, the key is erased, and the report queued in the same step.
   * In any other state nothing changes.
   * @returns the row as it is now; undefined where none of the mailboxes sent it, which is recorded
   */
  recall(order: RecallOrder): Promise<Session | undefined>;

  /** The row where one of these mailboxes sent the letter; for every other one it costs the same to say undefined. */
  sent(session: SessionHash, mailboxes: readonly string[]): Promise<Session | undefined>;

  /** The row where its key was given out to one of these mailboxes; for every other one it costs the same to say undefined. */
  givenOut(session: SessionHash, mailboxes: readonly string[]): Promise<Released | Confirmed | undefined>;

  /**
   * Erases the key, and queues the receipt in the same step (S10-S11), unless the terms want none. Repeated with the same next session it returns what was stored.
   * Taken past the expiry too, until the sweep has erased the row: the letter was opened.
   * @returns undefined where there is nothing to confirm for this recipient with this next session; each refusal is recorded
   */
  confirm(order: ConfirmOrder): Promise<Confirmed | undefined>;

  find(session: SessionHash): Promise<Session | undefined>;

  /** The days (as `dayOf` counts them) on which letters were declared whose keys are still kept. */
  daysInUse(): Promise<ReadonlySet<number>>;

  /** Sees to it that what was erased is nowhere in the home's own files any more, as far as that takes a step of its own. */
  compact(): Promise<void>;

  /**
   * Erases the keys of rows past their expiry (state `expired`) and queues the report in the same step, queues once the notice of rows
   * that are on their way and not confirmed by T1, removes rows that were never dispatched and rows that ended longer than the
   * retention ago, but none whose receipt or report is not mailed. @returns how many rows changed
   * @throws Fault `internal`: a row is broken, which is put aside for an hour; all others are swept
   */
  sweep(at: number, outcomes: Outcomes): Promise<number>;
}

/** What the sweep may have to write into a row, made before it is known whether it has to. */
export interface Outcome {
  /** Names of the evidence that it expired, and that it was delayed. */
  readonly expired: string;
  readonly delayed: string;
  /** MACs over these facts at the time of the sweep (facts.ts), hex. */
  readonly expiredMac: string;
  readonly expiredReleasedMac: string;
  readonly delayedMac: string;
}

export type Outcomes = (row: Pick<Declaration, "session" | "ticketHash">) => Outcome;

export interface RecallOrder {
  readonly session: SessionHash;
  /** For whom the caller speaks; the first one is recorded where it is refused. */
  readonly mailboxes: readonly [string, ...string[]];
  readonly at: number;
  readonly evidence: string;
  /** Over `session`, `at` and the state `recalled` (facts.ts), hex. */
  readonly mac: string;
}

export interface ReleaseOrder {
  readonly session: SessionHash;
  /** For whom the presenter speaks; the first one is recorded where it is refused. */
  readonly mailboxes: readonly [string, ...string[]];
  readonly at: number;
  readonly next: { readonly session: SessionHash; readonly ticket: Buffer };
  /** As it was presented. */
  readonly ticket: Buffer;
  readonly filing: string;
  readonly claim: Claim;
  /** Over `session`, `at` and `filing` (facts.ts), hex. */
  readonly mac: string;
}

export interface ConfirmOrder {
  readonly session: SessionHash;
  readonly nextSession: SessionHash;
  readonly recipient: string;
  readonly at: number;
  readonly evidence: string;
  readonly certificate: string;
  readonly proof: string;
  /** Over everything the confirmed row says (facts.ts), hex. */
  readonly mac: string;
}

/** Who works on something, and until when nobody else does; a holder may renew its claim. */
export interface Claim {
  /** Without spaces. */
  readonly holder: string;
  /** Milliseconds since the epoch. */
  readonly until: number;
}

/** A receipt that has to be mailed. */
export interface OutboxEntry {
  readonly evidence: string;
  readonly session: SessionHash;
}

interface Outbox {
  /** Every entry that is not done, oldest first where the home knows an order. */
  pending(): Promise<OutboxEntry[]>;

  /** Takes an entry to work on it. @returns false where it is done, or another holder's claim still runs */
  claim(entry: OutboxEntry, claim: Claim, at: number): Promise<boolean>;

  /** Keeps the bytes of a receipt; the first ones win. @returns the bytes that are kept */
  keepReceipt(entry: OutboxEntry, bytes: Buffer): Promise<Buffer>;

  /** The bytes kept for an entry. */
  receipt(entry: OutboxEntry): Promise<Buffer | undefined>;

  /** Takes the entry out of the outbox; the receipt's bytes stay as long as its row. */
  done(entry: OutboxEntry): Promise<void>;
}

/** A gateway that was enrolled. */
export interface GatewayRecord {
  /** SHA-256 of its channel certificate, hex. */
  readonly fingerprint: string;
  readonly name: string;
  /** Addresses and domains it may act for, lower case. */
  readonly scope: readonly string[];
  /** Serial number of its channel certificate, lower-case hex. */
  readonly serial: string;
  readonly enrolledAt: number;
  /** Fingerprint of the root that issued its channel certificate, and when that ends, milliseconds; absent in records of older versions. */
  readonly root?: string;
  readonly endsAt?: number;
  /** The fingerprint of its first certificate, by which rows and mailboxes name it, where this one came by renewal. */
  readonly renews?: string;
}

/** Certificates of one mailbox, PEM. */
export interface CertificatePair {
  readonly signingCertificate: string;
  readonly encryptionCertificate: string;
}

/** A mailbox that was enrolled, with its certificates as PEM. */
export interface MailboxRecord extends CertificatePair {
  /** Mailbox key (lower case). */
  readonly address: string;
  /** Fingerprint of the gateway that enrolled it. */
  readonly gateway: string;
  readonly enrolledAt: number;
  /** Pairs before it, newest first, which still count for what is under way: until they end, or are revoked. */
  readonly former?: readonly CertificatePair[];
}

/** A one-time permission to enrol a gateway; the token itself is never stored. */
export interface Invite {
  /** SHA-256 of the token, hex. */
  readonly token: string;
  readonly scope: readonly string[];
  readonly expiresAt: number;
}

/** What an invite was used for. */
export interface InviteUse {
  /** SHA-256 of the public key that was certified, hex. */
  readonly key: string;
  /** PEM. */
  readonly certificate: string;
}

/** A certificate, or a gateway as a whole, that counts no more. */
export interface Revocation {
  /** Serial number of a certificate, or fingerprint of a gateway, lower-case hex. */
  readonly name: string;
  readonly reason: RevocationReason;
  /** Whose it was, for people. */
  readonly subject: string;
  /** Milliseconds since the epoch, the broker's clock. */
  readonly at: number;
}

/** Who may take part, as it is when it is asked for or later. */
export type RegistryView = Pick<Registry, "findGateway" | "findMailbox" | "isRevoked">;

export interface Registry {
  /** What a request looks up, of which each home asks as little as it must. */
  view(): Promise<RegistryView>;
  addInvite(invite: Invite): Promise<void>;
  /** An invite that is neither unknown nor expired; it may be used. */
  findInvite(token: string, at: number): Promise<Invite | undefined>;
  /**
   * Uses an invite up, for one key. @returns what it was used for, first of all: the same key gets the same certificate again; undefined
   * where it is unknown, expired or used for another key
   */
  takeInvite(token: string, at: number, use: InviteUse): Promise<{ invite: Invite; use: InviteUse } | undefined>;
  putGateway(gateway: GatewayRecord): Promise<void>;
  findGateway(fingerprint: string): Promise<GatewayRecord | undefined>;
  gateways(): Promise<GatewayRecord[]>;
  /** @param before as it was read; undefined where there was none @returns false where it has other certificates by now: nothing is written then */
  putMailbox(mailbox: MailboxRecord, before?: MailboxRecord): Promise<boolean>;
  findMailbox(address: string): Promise<MailboxRecord | undefined>;
  mailboxes(): Promise<MailboxRecord[]>;
  /** @param who says so, for the audit @returns the revocation that counts: the first one of this name */
  revoke(revocation: Revocation, who: string): Promise<Revocation>;
  /** Whether one of these names is revoked. */
  isRevoked(names: readonly string[]): Promise<boolean>;
  revocations(): Promise<Revocation[]>;
}

export interface Table extends SessionTable, Outbox, Registry, Copyable {
  /** Resolves when the home answers and is set up so that it cannot lose what it acknowledged. @throws Fault `unavailable` with what to mend */
  ready(): Promise<void>;
  close(): Promise<void>;
}

/** What every home needs to know. */
export interface TableOptions {
  /** How long ended rows and receipts are kept, in milliseconds. */
  readonly retention: number;
  /** Remembers outside the table how far it was; without one a table that went back in time is not noticed. */
  readonly witness?: TableWitness;
}
