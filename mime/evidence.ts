/** The broker's evidence: a signed statement of what happened to one registered letter, verifiable offline (S11; event names of ETSI EN 319 522-1). */
import type { Trust } from "./certificate.ts";
import { Fault } from "./fault.ts";
import { OID } from "./oids.ts";
import { sign, verify, type Signer, type Verified } from "./sign.ts";

/** `ContentHandover`: opened and confirmed. `ContentHandoverFailure`: it will not be opened any more. */
type EvidenceEvent = "ContentHandover" | "ContentHandoverFailure";

/** One statement; every time is the broker's clock in ISO 8601 UTC. */
export interface Evidence {
  readonly version: 1;
  /** Unique; names the receipt as well. */
  readonly evidence: string;
  readonly event: EvidenceEvent;
  readonly broker: string;
  readonly sender: string;
  readonly recipient: string;
  readonly messageId: string;
  /** SHA-256 of the letter's signature value, hex: ties the statement to one content. */
  readonly commit: string;
  /** SHA-256 of the ticket, hex: names the session without opening it. */
  readonly session: string;
  readonly declaredAt: string;
  /** When the key was given out: the letter had arrived. Not a statement that it was opened. */
  readonly releasedAt: string;
  /** When the recipient's gateway confirmed that it had opened, verified and filed the letter. */
  readonly confirmedAt: string;
  /** SHA-256 of the certificate that signed the confirmation, hex. */
  readonly recipientCertificate: string;
}

const FIELDS = {
  evidence: /^[\w-]{16,64}$/u,
  broker: /^https:\/\/\S{1,500}$/u,
  sender: /^\S{3,254}$/u,
  recipient: /^\S{3,254}$/u,
  messageId: /^[^\r\n]{1,998}$/u,
  commit: /^[0-9a-f]{64}$/u,
  session: /^[0-9a-f]{64}$/u,
  declaredAt: /^\d{4}-\d\d-\d\dT[\d:.]+Z$/u,
  releasedAt: /^\d{4}-\d\d-\d\dT[\d:.]+Z$/u,
  confirmedAt: /^\d{4}-\d\d-\d\dT[\d:.]+Z$/u,
  recipientCertificate: /^[0-9a-f]{64}$/u,
} as const satisfies Record<Exclude<keyof Evidence, "version" | "event">, RegExp>;

/** The statement as CMS SignedData, DER, its JSON inside. */
export function signEvidence(evidence: Evidence, signer: Signer, time: Date): Buffer {
  return sign(Buffer.from(`${JSON.stringify(evidence, null, 2)}\n`), signer, { time, detached: false }).der;
}

/**
 * Verifies a statement. Mailboxes have certificates of the same authority: only the one that names the broker may speak for it.
 * @throws Fault `signature-invalid` or `malformed`.
 */
export function verifyEvidence(der: Buffer, trust: BrokerTrust): Evidence {
  const verified = verifyAsBroker(der, trust);
  const evidence = parseEvidence(verified.content);
  if (evidence.broker !== trust.broker) throw new Fault("signature-invalid", "the statement speaks for another broker");
  return evidence;
}

/** Whose word counts as the broker's. */
export interface BrokerTrust extends Omit<Trust, "purpose"> {
  /** The broker's address, as its signing certificate must name it. */
  readonly broker: string;
}

/** Verifies a signature by the broker itself. @throws Fault `signature-invalid` or `malformed`. */
export function verifyAsBroker(der: Buffer, trust: BrokerTrust, detached?: Buffer): Verified {
  const verified = verify(der, { ...trust, purpose: OID.emailProtection }, detached);
  if (!verified.signer.uris.includes(trust.broker)) throw new Fault("signature-invalid", "the signer is not the broker");
  return verified;
}

function jsonOf(content: Buffer): unknown {
  try {
    return JSON.parse(content.toString("utf8"));
  } catch (cause) {
    throw new Fault("malformed", "not JSON", { cause });
  }
}

function parseEvidence(content: Buffer): Evidence {
  const value = jsonOf(content);
  const good =
    typeof value === "object" &&
    value !== null &&
    "version" in value &&
    value.version === 1 &&
    "event" in value &&
    (value.event === "ContentHandover" || value.event === "ContentHandoverFailure") &&
    Object.entries(FIELDS).every(([name, pattern]) => {
      const text: unknown = Object.getOwnPropertyDescriptor(value, name)?.value;
      return typeof text === "string" && pattern.test(text);
    });
  if (!good) throw new Fault("malformed", "not a statement of evidence");
  return value as Evidence; // every field was checked above
}
