/** The proof of opening, of its failure or of a recall, link by link: what a stranger can verify without broker or gateway (S10-S11, T1, T2; docs/verify.md). */
import { hash } from "node:crypto";
import type { Certificate } from "./certificate.ts";
import { readSignedData } from "./cms.ts";
import {
  evidenceId,
  verifyEvidence,
  type BrokerTrust,
  type DelayedEvidence,
  type FailureEvidence,
  type HandoverEvidence,
  type ReportEvidence,
} from "./evidence.ts";
import { Fault } from "./fault.ts";
import { commitOf } from "./letter.ts";
import { DIGESTS, OID } from "./oids.ts";
import { refersTo, requestedContentId, verifyReceipt, type SignedReceipt } from "./receipt.ts";
import { readReceipt, type ReadReceipt } from "./report.ts";
import { verify, type Verified } from "./sign.ts";

const sha256 = (octets: Buffer): string => hash("sha256", octets);

/** The row that a confirmation has to prove. */
export interface Claim {
  readonly signing: string;
  readonly commit: string;
  readonly contentId: string;
}

/**
 * Whether a signed receipt proves the opening of what was declared.
 * @param openingValue the nonce with `outer`; otherwise the receipt itself holds the value behind the commitment
 * @throws Fault `signature-invalid` with the reason
 */
export function demandProof(receipt: SignedReceipt, openingValue: Buffer | undefined, claim: Claim): void {
  const value = claim.signing === "outer" ? (openingValue ?? Buffer.alloc(0)) : receipt.originatorSignature;
  if (commitOf(value) !== claim.commit) throw new Fault("signature-invalid", "the receipt does not prove that this content was opened");
  if (receipt.contentId.toString("hex") !== claim.contentId) throw new Fault("signature-invalid", "the receipt names another content");
}

/** One link of the chain. `missing`: the file that it needs was not there. */
interface Link {
  readonly link: string;
  readonly state: "good" | "bad" | "missing";
  readonly detail: string;
}

export interface Verdict {
  /** Every link is good. */
  readonly holds: boolean;
  readonly links: readonly Link[];
  readonly evidence: ReportEvidence | undefined;
}

export interface ProofFiles {
  /** The receipt as it was mailed. */
  readonly receipt: Buffer;
  /** The detached signature of the letter, DER. */
  readonly original: Buffer | undefined;
  /** What that signature is over: the payload, or with signing `outer` the sealed entity. */
  readonly payload: Buffer | undefined;
}

/** Verifies everything that is there and names what is not; never throws for what the files hold. */
export function verifyProof(files: ProofFiles, trust: BrokerTrust): Verdict {
  const links: Link[] = [];
  const check = <T>(link: string, what: string, step: () => T): T | undefined => {
    try {
      const result = step();
      links.push({ link, state: "good", detail: what });
      return result;
    } catch (thrown) {
      const detail = thrown instanceof Fault ? thrown.message : "cannot be read";
      links.push({ link, state: "bad", detail });
      return undefined;
    }
  };
  const missing = (link: string, detail: string): undefined => void links.push({ link, state: "missing", detail });

  const read = check("broker's receipt and evidence", "signed by the broker", () => {
    const found = readReceipt(files.receipt, trust);
    if (!found) throw new Fault("malformed", "the file is no signed report");
    return found;
  });
  if (read) {
    if (read.released)
      check("statement of release", "signed by the broker, the one before the evidence", () => demandPrevious(read, trust));
    else if (read.evidence.releasedAt !== "") missing("statement of release", "released.p7m is not in the receipt");
    const { evidence } = read;
    if (evidence.event === "ContentHandover") checkOpening({ ...read, evidence });
    else checkNoOpening(evidence);
  }

  function checkOpening(found: ReadReceipt & { evidence: HandoverEvidence }): void {
    const receipt = found.recipientReceipt
      ? check("recipient's receipt", `signed by ${found.evidence.recipient}, proves the content that was declared`, () =>
          demandReceipt(found, trust),
        )
      : missing("recipient's receipt", "recipient-receipt.p7m is not in the receipt");
    const { original, payload } = files;
    if (!original) missing("original signature", "give it with --original");
    else if (receipt) {
      check("original signature", "the receipt speaks of exactly this signature", () => demandOriginal(original, receipt));
      if (!payload) missing("payload", "give it with --payload");
      else check("payload", `signed by ${found.evidence.sender}, unaltered`, () => demandPayload(original, payload, found.evidence, trust));
    }
  }

  /** The broker's word stands for itself; which content it is about is looked at where the files are given. */
  function checkNoOpening(evidence: FailureEvidence | DelayedEvidence): void {
    check("statement", "in itself and with its times consistent", () => demandConsistent(evidence, read));
    const { original, payload } = files;
    if (original) check("original signature", "the evidence speaks of this signature", () => demandDeclared(original, evidence));
    if (original && payload)
      check("payload", `signed by ${evidence.sender}, unaltered`, () => demandPayload(original, payload, evidence, trust));
  }
  return { holds: links.length > 0 && links.every(({ state }) => state === "good") && read !== undefined, links, evidence: read?.evidence };
}

function demandPrevious({ evidence, released }: ReadReceipt, trust: BrokerTrust): void {
  const before = verifyEvidence(released ?? Buffer.alloc(0), trust);
  const same = (
    ["broker", "sender", "recipient", "messageId", "hold", "signing", "commit", "contentId", "session", "declaredAt", "releasedAt"] as const
  ).every((name) => before[name] === evidence[name]);
  if (before.event !== "ContentAccessTracking" || before.evidence !== evidence.previous || !same) {
    throw new Fault("signature-invalid", "the statement of release is not the one before this evidence");
  }
}

/** Names, order of the times and parts that a statement without an opening must have. @throws Fault `signature-invalid` */
function demandConsistent(evidence: FailureEvidence | DelayedEvidence, read: ReadReceipt | undefined): void {
  const { session, releasedAt } = evidence;
  const time = (text: string): number => new Date(text).getTime();
  const previous = evidenceId(releasedAt === "" ? "SubmissionAcceptance" : "ContentAccessTracking", session);
  const isNamed = evidence.evidence === evidenceId(evidence.event, session) && evidence.previous === previous;
  if (!isNamed) throw new Fault("signature-invalid", "the evidence has not the name of its session and event");
  const end = time(evidence.event === "Delayed" ? evidence.delayedAt : evidence.endedAt);
  const released = releasedAt === "" ? time(evidence.declaredAt) : time(releasedAt);
  const isExpired = evidence.event === "ContentHandoverFailure" && evidence.reason === "expired";
  const inOrder =
    time(evidence.declaredAt) <= released && released <= end && (isExpired ? time(evidence.expiresAt) <= end : true) && !Number.isNaN(end);
  if (!inOrder) throw new Fault("signature-invalid", "the times of the evidence contradict each other");
  if (read?.recipientReceipt || (read?.released && releasedAt === ""))
    throw new Fault("signature-invalid", "a part is attached that the evidence speaks against");
}

/** Whether a letter's signature is the one that was declared; with `outer` only by the content's name. */
function demandDeclared(der: Buffer, { signing, commit, contentId }: ReportEvidence): void {
  const [info, ...others] = readSignedData(der).signers;
  if (!info || others.length > 0) throw new Fault("malformed", "not a signature by one signer");
  const request = info.attributes.find(({ type }) => type === OID.receiptRequest)?.values[0];
  const named = request && requestedContentId(request).toString("hex") === contentId;
  if (!named || (signing !== "outer" && commitOf(info.signature) !== commit))
    throw new Fault("signature-invalid", "the evidence speaks of another signature");
}

function demandReceipt({ evidence, recipientReceipt }: ReadReceipt & { evidence: HandoverEvidence }, trust: BrokerTrust): SignedReceipt {
  const der = recipientReceipt ?? Buffer.alloc(0);
  const receipt = verifyReceipt(der, { ...trust, metAt: new Date(evidence.confirmedAt) }); // by the broker, whose word the evidence is
  if (sha256(der) !== evidence.recipientReceipt) throw new Fault("signature-invalid", "the evidence speaks of another recipient's receipt");
  if (receipt.signer.fingerprint !== evidence.recipientCertificate)
    throw new Fault("signature-invalid", "the receipt was signed with another certificate than the evidence says");
  demandMailbox(receipt.signer, evidence.recipient);
  demandProof(receipt, Buffer.from(evidence.openingValue, "base64"), evidence);
  return receipt;
}

function demandMailbox(certificate: Certificate, address: string): void {
  if (!certificate.mailboxes.includes(address)) throw new Fault("signature-invalid", `the signer is not ${address}`);
}

/** The tie alone, which needs no payload: signature value, signed attributes, content identifier. */
function demandOriginal(der: Buffer, receipt: SignedReceipt): void {
  const [info, ...others] = readSignedData(der).signers;
  const digest = info && DIGESTS[info.digest];
  if (!info || others.length > 0 || !digest) throw new Fault("malformed", "not a signature by one signer");
  const request = info.attributes.find(({ type }) => type === OID.receiptRequest)?.values[0];
  const named = request && requestedContentId(request).equals(receipt.contentId);
  if (!named || !refersTo(receipt, { signature: info.signature, signedOctets: info.signedOctets, digest })) {
    throw new Fault("signature-invalid", "the recipient's receipt speaks of another signature");
  }
}

/** Closes the trap of a detached body: the receipt alone verifies although the text beside it was altered. */
function demandPayload(original: Buffer, payload: Buffer, evidence: ReportEvidence, trust: BrokerTrust): Verified {
  const verified = verify(original, { ...trust, metAt: new Date(evidence.declaredAt), purpose: OID.emailProtection }, payload);
  demandMailbox(verified.signer, evidence.sender);
  return verified;
}
