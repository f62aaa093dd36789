/** The broker's evidence: signed statements of what happened to one registered letter, verifiable offline (S11; event names of ETSI EN 319 522-1). */
import { hash } from "node:crypto";
import type { Trust } from "./certificate.ts";
import { Fault } from "./fault.ts";
import { OID } from "./oids.ts";
import { sign, verify, type Signer, type Verified } from "./sign.ts";

/** What every statement says; every time is the broker's clock in ISO 8601 UTC. */
interface Statement {
  readonly version: 1;
  /** Unique. */
  readonly evidence: string;
  /** The statement before it about the same session. */
  readonly previous: string;
  readonly broker: string;
  readonly sender: string;
  readonly recipient: string;
  readonly messageId: string;
  readonly hold: string;
  readonly signing: string;
  /** SHA-256 of the value that only an opener learns, hex: ties the statement to one content. */
  readonly commit: string;
  /** Names the content in the recipient's receipt, hex. */
  readonly contentId: string;
  /** SHA-256 of the ticket, hex: names the session without opening it. */
  readonly session: string;
  readonly declaredAt: string;
  /** When the ticket was presented and the key given out: the letter had arrived. Not a statement that it was opened. Empty where it never was. */
  readonly releasedAt: string;
  /** SHA-256 of the newest entry in the audit log of the session when the statement was made, hex: no entry up to it can be changed afterwards. */
  readonly auditHead: string;
}

/** The letter had arrived and its key was given out. */
export interface AccessEvidence extends Statement {
  readonly event: "ContentAccessTracking";
}

/** The recipient's gateway opened, verified and filed the letter, and signed a receipt for it. */
export interface HandoverEvidence extends Statement {
  readonly event: "ContentHandover";
  /** When the confirmation came. */
  readonly confirmedAt: string;
  /** SHA-256 of the certificate that signed the confirmation, hex. */
  readonly recipientCertificate: string;
  /** SHA-256 of the recipient's signed receipt, hex. */
  readonly recipientReceipt: string;
  /** The value behind the commitment, base64: where the receipt does not hold it (signing `outer`); otherwise empty. */
  readonly openingValue: string;
}

/** The letter was not opened, or nobody confirmed that it was (`releasedAt` is not empty); its key is erased. */
export interface FailureEvidence extends Statement {
  readonly event: "ContentHandoverFailure";
  /** `recalled`: by its sender, before the key was given out. */
  readonly reason: "expired" | "recalled";
  readonly expiresAt: string;
  readonly endedAt: string;
}

/** Nobody had confirmed by then that the letter was opened; it still can be. */
export interface DelayedEvidence extends Statement {
  readonly event: "Delayed";
  readonly expiresAt: string;
  readonly delayedAt: string;
}

/** What a mail to the sender is made of. */
export type ReportEvidence = HandoverEvidence | FailureEvidence | DelayedEvidence;
export type Evidence = AccessEvidence | ReportEvidence;

const HASH = /^[0-9a-f]{64}$/u;
const TIME = /^\d{4}-\d\d-\d\dT[\d:.]+Z$/u;
const TIME_OR_NEVER = /^(?:\d{4}-\d\d-\d\dT[\d:.]+Z)?$/u;
/** As the broker took it: local parts may be quoted, and hold spaces (RFC 5321 §4.1.2). */
const ADDRESS = /^(?=.{3,254}$)[^\r\n]+@\S+$/u;
const ID = /^[\w-]{16,64}$/u;

const STATEMENT = {
  evidence: ID,
  previous: ID,
  broker: /^https:\/\/\S{1,500}$/u,
  sender: ADDRESS,
  recipient: ADDRESS,
  messageId: /^[^\r\n]{1,998}$/u,
  hold: /^(?:held|enclosed)$/u,
  signing: /^(?:inner|outer|both)$/u,
  commit: HASH,
  contentId: HASH,
  session: HASH,
  declaredAt: TIME,
  releasedAt: TIME,
  auditHead: HASH,
} as const satisfies Record<Exclude<keyof Statement, "version">, RegExp>;

const HANDOVER = {
  ...STATEMENT,
  confirmedAt: TIME,
  recipientCertificate: HASH,
  recipientReceipt: HASH,
  openingValue: /^[A-Za-z0-9+/=]{0,1000}$/u,
} as const satisfies Record<Exclude<keyof HandoverEvidence, "version" | "event">, RegExp>;

const FAILURE = {
  ...STATEMENT,
  reason: /^(?:expired|recalled)$/u,
  releasedAt: TIME_OR_NEVER,
  expiresAt: TIME,
  endedAt: TIME,
} as const satisfies Record<Exclude<keyof FailureEvidence, "version" | "event">, RegExp>;

const DELAYED = { ...STATEMENT, releasedAt: TIME_OR_NEVER, expiresAt: TIME, delayedAt: TIME } as const satisfies Record<
  Exclude<keyof DelayedEvidence, "version" | "event">,
  RegExp
>;

const PATTERNS: ReadonlyMap<unknown, Readonly<Record<string, RegExp>>> = new Map<Evidence["event"], Readonly<Record<string, RegExp>>>([
  ["ContentAccessTracking", STATEMENT],
  ["ContentHandover", HANDOVER],
  ["ContentHandoverFailure", FAILURE],
  ["Delayed", DELAYED],
]);

/** The name of the statement that a session's event has by its nature, so that a later one can refer to it. @param session SHA-256 of the ticket, hex */
export function evidenceId(
  event: "SubmissionAcceptance" | "ContentAccessTracking" | "ContentHandoverFailure" | "Delayed",
  session: string,
): string {
  return hash("sha256", `${event}\0${session}`, "base64url").slice(0, 24);
}

/** The statement as CMS SignedData, DER, its JSON inside. */
export function signEvidence(evidence: Evidence, signer: Signer, time: Date): Buffer {
  return sign(Buffer.from(`${JSON.stringify(evidence, null, 2)}\n`), signer, { time, detached: false }).der;
}

/** Whose word counts as the broker's. */
export interface BrokerTrust extends Omit<Trust, "purpose"> {
  /** The broker's address, as its signing certificate must name it; undefined accepts the broker that the statement names. */
  readonly broker: string | undefined;
}

/**
 * Verifies a statement. Mailboxes have certificates of the same authority: only the one that names the broker may speak for it.
 * @throws Fault `signature-invalid` or `malformed`.
 */
export function verifyEvidence(der: Buffer, trust: BrokerTrust): Evidence {
  const verified = verifyAsBroker(der, trust);
  const evidence = parseEvidence(verified.content);
  const { uris } = verified.signer;
  if (!uris.includes(evidence.broker)) throw new Fault("signature-invalid", "the statement speaks for another broker");
  return evidence;
}

/** Verifies a signature by the broker itself. @throws Fault `signature-invalid` or `malformed`. */
export function verifyAsBroker(der: Buffer, trust: BrokerTrust, detached?: Buffer): Verified {
  const verified = verify(der, { ...trust, purpose: OID.emailProtection }, detached);
  const { uris } = verified.signer;
  if (trust.broker === undefined ? uris.length === 0 : !uris.includes(trust.broker))
    throw new Fault("signature-invalid", "the signer is not the broker");
  return verified;
}

function parseEvidence(content: Buffer): Evidence {
  let value: unknown;
  try {
    value = JSON.parse(content.toString("utf8"));
  } catch (cause) {
    throw new Fault("malformed", "not JSON", { cause });
  }
  const field = (name: string): unknown =>
    typeof value === "object" && value !== null ? Object.getOwnPropertyDescriptor(value, name)?.value : undefined;
  const patterns = PATTERNS.get(field("event"));
  const fits = ([name, pattern]: [string, RegExp]): boolean => {
    const text = field(name);
    return typeof text === "string" && pattern.test(text);
  };
  if (field("version") !== 1 || !patterns || !Object.entries(patterns).every(fits))
    throw new Fault("malformed", "not a statement of evidence");
  if (field("reason") === "recalled" && field("releasedAt") !== "")
    throw new Fault("malformed", "a letter whose key was given out cannot be recalled");
  return value as Evidence; // every field was checked above
}
