/** The bodies of every step on the wire, shared by broker and client: what is signed, what is sealed, what is plain (docs/protocol.md, section 6). */
import { z } from "zod";
import { parseMailbox } from "../mime/address.ts";
import type { Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { isSealedTo, openWithPrivateKey, type Opener } from "../mime/open.ts";
import { sealToCertificate } from "../mime/seal.ts";
import { sign, type Signer, type Verified } from "../mime/sign.ts";
import { LANGUAGES } from "../mime/words.ts";

/** Calls and the room they have; a declaration of 1,000 recipients stays below. */
export const LARGEST_BODY_OCTETS = 1 << 20;
/** One in ten years, and two links for each. */
const MOST_ROOTS = 32;
/** RFC 2585 §4.2. */
export const CRL_TYPE = "application/pkix-crl";
export const SIGNED_TYPE = "application/pkcs7-mime; smime-type=signed-data";

const address = z.string().transform((text, context) => {
  try {
    return parseMailbox(text);
  } catch {
    context.addIssue({ code: "custom", message: "not a mail address" });
    return z.NEVER;
  }
});
const hex = z.string().regex(/^[0-9a-f]{64}$/u);
const base64 = z
  .string()
  .max(16_384)
  .regex(/^[A-Za-z0-9+/]+={0,2}$/u)
  .transform((text) => Buffer.from(text, "base64"));
const messageId = z.string().regex(/^[\x21-\x7E\u0080-\uFFFF]{1,900}$/u);
const instant = z.iso.datetime().transform((text) => new Date(text));

/** 128 random bits or more. */
const id = z.string().regex(/^[\w-]{22,64}$/u);

/** What every signed body carries, so that it says who asked whom for what and cannot be replayed elsewhere. */
const signedHead = {
  /** The broker's address. */
  broker: z.string(),
  /** Fingerprint of the channel certificate of the gateway that asks. */
  gateway: hex,
  request: id,
  time: instant,
};

export const declareBody = z.strictObject({
  step: z.literal("declare"),
  ...signedHead,
  /** Names this declaration; sent again with the same name it is answered as before. */
  letter: id,
  sender: address,
  messageId,
  expiresAt: instant,
  confirm: z.enum(["next-session", "same-session"]),
  /** Of the mails that the sender gets. */
  language: z.enum(LANGUAGES).default("en"),
  recipients: z
    .array(
      z.strictObject({
        address,
        commit: hex,
        contentId: hex,
        hold: z.enum(["held", "enclosed"]),
        signing: z.enum(["inner", "outer", "both"]),
        /** T1: when the sender wants to be told that the letter is not opened yet. */
        warnAt: instant.optional(),
        /** Whether the delivery receipt is mailed. */
        receipt: z.boolean().default(true),
      }),
    )
    .min(1)
    .max(1_000),
});

export const grantsBody = z.strictObject({
  request: z.string(),
  grants: z.array(
    z.strictObject({
      recipient: address,
      key: base64,
      ticket: base64,
      /** What the broker made of the wishes. */
      expiresAt: instant,
      warnAt: instant.optional(),
      /** Absent for a recipient who is not enrolled and gets the enclosed form. */
      encryptionCertificate: z.string().max(16_384).optional(),
    }),
  ),
});

export const presentBody = z.strictObject({
  step: z.literal("present"),
  ...signedHead,
  ticket: base64,
  /** Names the working gateway: of several that watch one mailbox, one opens a letter. */
  holder: id,
});
export type PresentBody = z.output<typeof presentBody>;

export const releaseBody = z.strictObject({
  request: z.string(),
  /** Absent for the enclosed form, whose key travels inside. */
  key: base64.optional(),
  sender: address,
  recipient: address,
  messageId,
  commit: hex,
  contentId: hex,
  hold: z.enum(["held", "enclosed"]),
  signing: z.enum(["inner", "outer", "both"]),
  /** What a held envelope must name as its expiry. */
  expiresAt: instant,
  /** The broker's clock. */
  declaredAt: instant,
  /** What the confirmation is made with; the same ticket again where the terms say so. */
  nextTicket: base64,
  /** Marks the opened copy where it is filed, so that it is found again and filed once. */
  filing: z.string().regex(/^[0-9a-f]{32}$/u),
  /** Whether the key was given out for the first time; if not, the letter may be filed already. */
  isFirst: z.boolean(),
  /** Milliseconds in which no other gateway gets the key. */
  claimedFor: z.int().positive(),
});

export const confirmBody = z.strictObject({
  step: z.literal("confirm"),
  ...signedHead,
  nextTicket: base64,
  result: z.literal("opened"),
  /** The recipient's signed receipt, DER. */
  receipt: base64,
  /** The value behind the commitment where the receipt does not hold it (signing `outer`). */
  openingValue: base64.optional(),
});

export const confirmedBody = z.strictObject({ request: z.string(), evidence: z.string(), confirmedAt: instant });

const signedTickets = z.array(base64).min(1).max(1_000);

export const recallBody = z.strictObject({ step: z.literal("recall"), ...signedHead, tickets: signedTickets });

export const recalledBody = z.strictObject({
  request: z.string(),
  outcomes: z.array(
    z.discriminatedUnion("outcome", [
      z.strictObject({ outcome: z.literal("recalled"), at: instant }),
      z.strictObject({ outcome: z.literal("too-late"), releasedAt: instant, confirmedAt: instant.optional() }),
      z.strictObject({ outcome: z.literal("gone") }),
    ]),
  ),
});

export const statusBody = z.strictObject({ step: z.literal("status"), ...signedHead, tickets: signedTickets });

export const statusesBody = z.strictObject({
  request: z.string(),
  sessions: z.array(
    z.strictObject({
      state: z.enum(["declared", "dispatched", "released", "confirmed", "expired", "recalled", "withdrawn", "gone"]),
      declaredAt: instant.optional(),
      releasedAt: instant.optional(),
      confirmedAt: instant.optional(),
      endedAt: instant.optional(),
      expiresAt: instant.optional(),
    }),
  ),
});

/** Places of tickets whose letters nobody can open any more. */
export const dispatchedBody = z.strictObject({ lost: z.array(z.int().min(0)) });

export const ticketsBody = z.strictObject({ tickets: z.array(base64).min(1).max(1_000) });

export const enrolBody = z.strictObject({ token: z.string().max(200), name: z.string().min(1).max(64), request: base64 });
export const enrolledBody = z.strictObject({ certificate: z.string() });

/** Over a channel that counts. */
export const renewBody = z.strictObject({ request: base64 });

export const mailboxBody = z.strictObject({ address, aliases: z.array(address).max(50), signing: base64, encryption: base64 });
export const mailboxEnrolledBody = z.strictObject({ signingCertificate: z.string(), encryptionCertificate: z.string() });

export const directoryBody = z.strictObject({ address, signingCertificate: z.string(), encryptionCertificate: z.string() });

/** Anyone may read it; it is trusted only as far as the root's fingerprint was compared. */
export const authorityBody = z.strictObject({
  broker: z.string(),
  /** The one that issues; its fingerprint is what a new gateway compares. */
  root: z.string(),
  /** All whose certificates count, and the links between them (docs/protocol.md, section 6). */
  roots: z.array(z.string()).max(MOST_ROOTS).default([]),
  links: z.array(z.string()).max(MOST_ROOTS).default([]),
});

/** Reads a body. @throws Fault `malformed`. */
export function parseBody<T>(schema: z.ZodType<T>, json: Buffer | string): T {
  let value: unknown;
  try {
    value = JSON.parse(json.toString());
  } catch (cause) {
    throw new Fault("malformed", "the body is not JSON", { cause });
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [first] = result.error.issues;
  throw new Fault("malformed", `the body is not what this step needs: ${first?.path.join(".")} ${first?.message}`);
}

/** A body signed by a mailbox or by the broker, attached SignedData. */
export function signBody(body: object, signer: Signer, time: Date): Buffer {
  return sign(Buffer.from(JSON.stringify(body)), signer, { time, detached: false }).der;
}

/** An answer with a key in it: sealed to the mailbox's certificate, then signed by the broker (S3, S7; claims 3, 8, 9). */
export function sealAnswer(answer: object, recipient: Certificate, broker: Signer, time: Date): Buffer {
  const plain = Buffer.from(JSON.stringify(answer));
  try {
    return sign(sealToCertificate(plain, recipient), broker, { time, detached: false }).der;
  } finally {
    plain.fill(0);
  }
}

/**
 * The inverse for the party it was sealed to, once the broker's signature was verified.
 * @throws Fault `cannot-open`, `malformed`; `unavailable`: it is sealed to a certificate that the party does not hold, or not yet. While
 * certificates are renewed the broker knows the next one a moment before the gateway has it in place; that must not cost a letter.
 */
export function openAnswer<T>(schema: z.ZodType<T>, { content }: Verified, openers: readonly Opener[]): T {
  if (!isSealedTo(content, openers)) {
    throw new Fault("unavailable", "the broker sealed its answer to a certificate that is not here", {
      advice: "The gateway's certificates are being renewed; try again later.",
    });
  }
  const plain = openWithPrivateKey(content, openers);
  try {
    return parseBody(schema, plain);
  } finally {
    plain.fill(0);
  }
}

export type DeclareBody = z.output<typeof declareBody>;
export type ConfirmBody = z.output<typeof confirmBody>;
/** The wire form of an outcome, before it is read back. */
export type RecallOutcome = z.output<typeof recalledBody>["outcomes"][number];
export type SessionStatus = z.output<typeof statusesBody>["sessions"][number];
