/** One registered letter for one recipient: the states of its row and what is known in each (docs/protocol.md, section 6). */
import { hash, randomBytes } from "node:crypto";
import { letterOf } from "../config/log.ts";
import type { KeyHold, SigningOrder } from "../mime/letter.ts";
import type { Language } from "../mime/words.ts";

/** SHA-256 of a session ID in lower-case hex: how a row is named and found. The session ID itself is never stored. */
export type SessionHash = string;

/** The row as it was declared; none of this changes afterwards, and all of it is bound into the wrapped key. */
export interface Declaration {
  readonly session: SessionHash;
  /** Channel identity (certificate fingerprint, hex) of the gateway that declared it. */
  readonly gateway: string;
  /** Mailbox keys (lower case). */
  readonly sender: string;
  readonly recipient: string;
  readonly messageId: string;
  /** SHA-256 of the value that only an opener learns, hex. */
  readonly commit: string;
  /** SHA-256 of the ticket, hex: names the session in evidence and logs of the gateways. */
  readonly ticketHash: string;
  /** What was agreed on, as text: see `Terms`. */
  readonly terms: string;
  /** Milliseconds since the epoch, the broker's clock. */
  readonly declaredAt: number;
  readonly expiresAt: number;
}

/** A row as it is first written. */
export interface NewRow extends Declaration {
  readonly wrappedKey: Buffer;
  /** As it was given to the sender; a declaration that comes again is answered with it. */
  readonly ticket: Buffer;
  /** Over the declaration (facts.ts), hex. */
  readonly declaredMac: string;
}

/** The key can still be given out for the first time. `declared`: not yet known to be on its way. */
export interface Waiting extends NewRow {
  readonly state: "declared" | "dispatched";
  readonly delay?: Delay;
}

/** The key was given to the recipient's gateway; the same gateway gets the same answer until it confirms. */
export interface Released extends Declaration {
  readonly state: "released";
  readonly wrappedKey: Buffer;
  readonly releasedAt: number;
  readonly nextSession: SessionHash;
  /** The next session ID sealed to the broker's own key, as it was first given out. */
  readonly nextTicket: Buffer;
  /** Random, hex: marks the opened copy in the recipient's mailbox, so that whoever opens the letter next finds it. */
  readonly filing: string;
  /** How often the key was given out. */
  readonly releases: number;
  /** Over the declaration and over the release (facts.ts), hex. */
  readonly declaredMac: string;
  readonly releasedMac: string;
  readonly delay?: Delay;
}

/** Opened and confirmed; the key is gone. */
export interface Confirmed extends Declaration {
  readonly state: "confirmed";
  readonly releasedAt: number;
  readonly nextSession: SessionHash;
  readonly confirmedAt: number;
  /** Names the evidence and the receipt. */
  readonly evidence: string;
  /** SHA-256 of the certificate that signed the confirmation, hex. */
  readonly certificate: string;
  /** What proved the opening, as text: see `Proof`. */
  readonly proof: string;
  /** Over all of it (facts.ts), hex: what the broker signs a receipt for. */
  readonly confirmedMac: string;
}

/** Ended without being opened; the key is gone. `withdrawn`: the mail could not be handed over. `recalled`: the sender took the letter back. */
export interface Ended extends Declaration {
  readonly state: "expired" | "withdrawn" | "recalled";
  /** An expired letter's key may have been given out. */
  readonly releasedAt: number | undefined;
  readonly endedAt: number;
  /** What its report is made of; undefined where none is due: withdrawn, or ended by the restoring of a backup. */
  readonly ending: Ending | undefined;
}

/** MACs (facts.ts) in hex over what the report of an ended letter says. */
export interface Ending {
  /** Names the evidence and the report. */
  readonly evidence: string;
  readonly declaredMac: string;
  readonly endedMac: string;
  /** Where the key was given out. */
  readonly release: { readonly filing: string; readonly releasedMac: string } | undefined;
}

/** That the sender was told of a letter that nobody had opened by T1. */
export interface Delay {
  readonly delayedAt: number;
  readonly delayedEvidence: string;
  /** Over the delay (facts.ts), hex. */
  readonly delayedMac: string;
}

export type Session = Waiting | Released | Confirmed | Ended;

/** How the letter travels and is confirmed: part of the declaration. */
export interface Terms {
  readonly hold: KeyHold;
  readonly signing: SigningOrder;
  /** `next-session`: with the ticket given out at release (second embodiment). `same-session`: with the first ticket (first embodiment). */
  readonly confirm: "next-session" | "same-session";
  /** Names the content in the recipient's receipt, hex. */
  readonly contentId: string;
  /** T1 as the sender wishes it, milliseconds since the epoch. */
  readonly warnAt?: number;
  /** T1 at the latest, as the broker's limits were: milliseconds after the declaration. */
  readonly warnAfter?: number;
  /** `false`: the sender wants no mail of the delivery. */
  readonly receipt?: false;
  /** Of the mails to the sender; English where left out. */
  readonly language?: Language;
}

/** The recipient's signed receipt, and with signing `outer` the value behind the commitment; both base64. */
export interface Proof {
  readonly receipt: string;
  readonly openingValue: string;
}

/** How log lines name a letter and this copy of it: the same as at both gateways. */
export function namesOf({ messageId, ticketHash }: Pick<Declaration, "messageId" | "ticketHash">): { letter: string; session: string } {
  return { letter: letterOf(messageId), session: ticketHash.slice(0, 12) };
}

/** A row's terms; the row's fields are bound into its wrapped key, so they are as they were written. */
export function termsOf(row: Pick<Declaration, "terms">): Terms {
  return JSON.parse(row.terms) as Terms;
}

/** T1: when the sender is told that the letter was not opened; undefined where it never is. table.lua has the same rule. */
export function warnAtOf(row: Pick<Declaration, "terms" | "declaredAt" | "expiresAt">): number | undefined {
  const { warnAt, warnAfter } = termsOf(row);
  const at = Math.min(warnAt ?? Number.POSITIVE_INFINITY, warnAfter === undefined ? Number.POSITIVE_INFINITY : row.declaredAt + warnAfter);
  return at < row.expiresAt ? at : undefined;
}

/** T1 or T2, whichever the sweep has to look at first. */
export function firstLook(row: Waiting | Released | Confirmed): number {
  return ("delay" in row ? undefined : warnAtOf(row)) ?? row.expiresAt;
}

export function proofOf(row: Pick<Confirmed, "proof">): Proof {
  return JSON.parse(row.proof) as Proof;
}

export const SESSION_ID_OCTETS = 16;

/** A fresh session ID: 128 random bits. */
export function newSessionId(): Buffer {
  return randomBytes(SESSION_ID_OCTETS);
}

export function sessionHash(sessionId: Buffer): SessionHash {
  return hash("sha256", sessionId);
}
