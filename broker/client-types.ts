/** What gateways ask the broker for and get from it, as types: the vocabulary of client.ts (S1-S10). */
import type { KeyObject } from "node:crypto";
import type { Mailbox } from "../mime/address.ts";
import type { Certificate } from "../mime/certificate.ts";
import type { RevokedSerials } from "../mime/crl.ts";
import type { ContentKey } from "../mime/key.ts";
import type { KeyHold, SigningOrder } from "../mime/letter.ts";
import type { Opener } from "../mime/open.ts";
import type { Signer } from "../mime/sign.ts";
import type { Language } from "../mime/words.ts";

/** A mailbox that acts: its signing key, and the keys that open what is sealed to it. */
export interface Identity {
  readonly signer: Signer;
  readonly openers: readonly Opener[];
}

/** What the broker gives for one recipient (S3). The key is to be wiped by who asked. */
export interface Grant {
  readonly recipient: Mailbox;
  readonly key: ContentKey;
  readonly ticket: Buffer;
  /** What the broker made of the wishes, by its limits. */
  readonly expiresAt: Date;
  /** T1; left out where the sender is not told of a delay. */
  readonly warnAt?: Date | undefined;
  /** Undefined for a recipient who is not enrolled. */
  readonly encryptionCertificate: Certificate | undefined;
}

/** What the broker gives for a ticket (S7). The key is to be wiped by who asked. */
export interface Release {
  /** Undefined for the enclosed form, whose key travels inside. */
  readonly key: ContentKey | undefined;
  readonly sender: Mailbox;
  readonly recipient: Mailbox;
  readonly messageId: string;
  readonly commit: string;
  readonly contentId: string;
  readonly hold: KeyHold;
  readonly signing: SigningOrder;
  readonly expiresAt: Date;
  /** By the broker's clock: what the sender's certificate was revoked for later does not touch the letter. */
  readonly declaredAt: Date;
  readonly nextTicket: Buffer;
  /** Marks the opened copy where it is filed, hex. */
  readonly filing: string;
  /** Whether nobody got the key before. */
  readonly isFirst: boolean;
  /** Milliseconds in which no other gateway gets the key. */
  readonly claimedFor: number;
}

/** What proves that a letter was opened. */
export interface OpeningProof {
  /** The recipient's signed receipt, DER. */
  readonly receipt: Buffer;
  /** The value behind the commitment where the receipt does not hold it (signing `outer`). */
  readonly openingValue: Buffer | undefined;
}

export interface DeclaredRecipient {
  readonly address: Mailbox;
  readonly commit: string;
  /** Names the content in the recipient's receipt, hex. */
  readonly contentId: string;
  readonly hold: KeyHold;
  readonly signing: SigningOrder;
  /** T1: when the sender wants to be told that the letter is not opened yet. */
  readonly warnAt?: Date | undefined;
  /** Whether the delivery receipt is mailed; it is where left out. */
  readonly receipt?: boolean | undefined;
}

export interface Declared {
  /** Names the declaration, 128 random bits or more in base64url; sent again with the same name it is answered as before. */
  readonly letter: string;
  readonly sender: Mailbox;
  readonly messageId: string;
  readonly expiresAt: Date;
  readonly confirm: "next-session" | "same-session";
  /** Of the mails to the sender; English where left out. */
  readonly language?: Language | undefined;
  readonly recipients: readonly DeclaredRecipient[];
}

/** The broker's roots as it names them itself: nobody trusts them for that (mime/vouch.ts). */
export interface ListedRoots {
  readonly listed: readonly Certificate[];
  /** Roots certified by each other. */
  readonly links: readonly Certificate[];
}

/** A gateway's channel to its broker. */
export interface Channel {
  readonly url: string;
  /** The broker's roots that are trusted here. */
  readonly roots: readonly Certificate[];
  readonly certificate: Certificate;
  readonly key: KeyObject;
  /** Fingerprint of the first certificate, by which the broker names the gateway; the present one's where left out. */
  readonly gateway?: string | undefined;
  /** Milliseconds for one call. */
  readonly timeout: number;
  /** Names this gateway among those that work for the same mailboxes; a random name where left out. */
  readonly holder?: string;
  /** What the broker's roots revoked, as far as it is known. */
  revoked?(): RevokedSerials;
  /** Asked where the broker signs under a root that is not trusted here. @returns whether there are others now */
  learn?(signal: AbortSignal): Promise<boolean>;
  now(): Date;
}
