/** S11, T1, T2: from a row to the mail that its sender gets: which statement is due, and what it says. */
import { hash } from "node:crypto";
import { evidenceId, type AccessEvidence, type ReportEvidence } from "../mime/evidence.ts";
import { buildReceipt } from "../mime/report.ts";
import type { Broker } from "./broker.ts";
import { demandConfirmed, demandDelayed, demandEnded, type MacKey } from "./facts.ts";
import {
  proofOf,
  termsOf,
  type Confirmed,
  type Delay,
  type Ended,
  type Ending,
  type Released,
  type Session,
  type Waiting,
} from "./session.ts";

/** A row with what is to be said of it. */
type Subject =
  | { readonly of: "opening"; readonly row: Confirmed }
  | { readonly of: "end"; readonly row: Ended & { readonly state: "expired" | "recalled" }; readonly ending: Ending }
  | { readonly of: "delay"; readonly row: Waiting | Released; readonly delay: Delay };

/** What the evidence of this name is about; `over`: a delay of a letter that is confirmed or ended by now; undefined: the row knows no such name. */
export function subjectOf(row: Session, evidence: string): Subject | "over" | undefined {
  if (row.state === "confirmed" && row.evidence === evidence) return { of: "opening", row };
  if ("ending" in row && row.ending?.evidence === evidence && row.state !== "withdrawn") {
    return { of: "end", row: { ...row, state: row.state }, ending: row.ending };
  }
  if (evidence !== evidenceId("Delayed", row.ticketHash)) return undefined;
  return "delay" in row && row.delay ? { of: "delay", row, delay: row.delay } : "over";
}

/** @throws Fault `internal`: the row was edited */
export function demandTrue(masterKey: MacKey, subject: Subject): void {
  if (subject.of === "opening") demandConfirmed(masterKey, subject.row);
  else if (subject.of === "end") demandEnded(masterKey, subject.row, subject.ending);
  else demandDelayed(masterKey, subject.row, subject.delay);
}

const iso = (milliseconds: number): string => new Date(milliseconds).toISOString();

/** What every statement about a row says. */
function statementOf(broker: Broker, row: Session, auditHead: string) {
  const { hold, signing, contentId } = termsOf(row);
  const releasedAt = "releasedAt" in row ? row.releasedAt : undefined;
  return {
    version: 1 as const,
    broker: broker.url,
    sender: row.sender,
    recipient: row.recipient,
    messageId: row.messageId,
    hold,
    signing,
    commit: row.commit,
    contentId,
    session: row.ticketHash,
    declaredAt: iso(row.declaredAt),
    releasedAt: releasedAt === undefined ? "" : iso(releasedAt),
    auditHead,
  };
}

/** Builds and signs the mail. @param auditHead as `Table.auditHead` says it now */
export function reportMail(broker: Broker, subject: Subject, auditHead: string): Buffer {
  const statement = statementOf(broker, subject.row, auditHead);
  const submission = evidenceId("SubmissionAcceptance", statement.session);
  const released: AccessEvidence | undefined =
    statement.releasedAt === ""
      ? undefined
      : {
          ...statement,
          event: "ContentAccessTracking",
          evidence: evidenceId("ContentAccessTracking", statement.session),
          previous: submission,
        };
  const chained = { ...statement, previous: released?.evidence ?? submission };
  const [evidence, recipientReceipt] = evidenceOf(chained, subject);
  const { address, domain } = broker.receiptsFrom;
  const { language } = termsOf(subject.row);
  const order = { evidence, released, recipientReceipt, language, from: address, host: domain, time: broker.now() };
  return buildReceipt(order, broker.signer);
}

/** @returns the statement, and the recipient's signed receipt where there is one */
function evidenceOf(
  statement: ReturnType<typeof statementOf> & { readonly previous: string },
  subject: Subject,
): readonly [ReportEvidence, Buffer | undefined] {
  if (subject.of === "opening") {
    const { row } = subject;
    const { receipt, openingValue } = proofOf(row);
    const recipientReceipt = Buffer.from(receipt, "base64");
    const handover = {
      ...statement,
      event: "ContentHandover" as const,
      evidence: row.evidence,
      confirmedAt: iso(row.confirmedAt),
      recipientCertificate: row.certificate,
      recipientReceipt: hash("sha256", recipientReceipt),
      openingValue,
    };
    return [handover, recipientReceipt];
  }
  const expiresAt = iso(subject.row.expiresAt);
  if (subject.of === "delay") {
    const { delayedAt, delayedEvidence } = subject.delay;
    return [{ ...statement, event: "Delayed", evidence: delayedEvidence, expiresAt, delayedAt: iso(delayedAt) }, undefined];
  }
  const { state, endedAt } = subject.row;
  const failure = { ...statement, event: "ContentHandoverFailure" as const, reason: state, expiresAt, endedAt: iso(endedAt) };
  return [{ ...failure, evidence: subject.ending.evidence }, undefined];
}
