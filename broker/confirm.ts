/** S10-S11: the recipient confirms with the next ticket; the key is erased in the same step that queues the receipt. */
import { randomBytes } from "node:crypto";
import { Fault } from "../mime/fault.ts";
import { demandProof } from "../mime/proof.ts";
import { verifyReceipt } from "../mime/receipt.ts";
import { authenticate, rootsOf, type Actor, type Broker, type Caller } from "./broker.ts";
import { confirmedFacts, demandConfirmed, demandReleased, type ConfirmedFacts } from "./facts.ts";
import { sessionGone, sessionIn } from "./release.ts";
import { namesOf, sessionHash, termsOf, type Confirmed, type Proof, type Released, type Session } from "./session.ts";
import { confirmBody, signBody, type ConfirmBody } from "./wire.ts";

/**
 * The proof of opening: a receipt signed by the recipient that only who opened the letter could make.
 * @returns the fingerprint of its signer. @throws Fault `signature-invalid`
 */
function demandReceipt(broker: Broker, { body, signers }: Actor<ConfirmBody>, declared: Session): string {
  const receipt = verifyReceipt(body.receipt, { roots: rootsOf(broker), at: broker.now() });
  if (!signers.includes(receipt.signer.fingerprint)) throw new Fault("signature-invalid", "the receipt is signed by another certificate");
  const { signing, contentId } = termsOf(declared);
  demandProof(receipt, body.openingValue, { signing, contentId, commit: declared.commit });
  return receipt.signer.fingerprint;
}

/** @returns the confirmation with the evidence's name, signed by the broker; a repetition gets the same. @throws Fault `session-gone` */
export async function confirm(broker: Broker, asking: Promise<Caller>, signed: Buffer): Promise<Buffer> {
  const actor = await authenticate(broker, asking, confirmBody, signed);
  const { body, mailboxes } = actor;
  const { sessionId, nextSessionId } = sessionIn(body.nextTicket, broker.sessionKeys);
  const session = sessionHash(sessionId);
  const given = await broker.table.givenOut(session, mailboxes);
  const certificate = given ? demandReceipt(broker, actor, given) : actor.certificate.fingerprint; // of any other row its bearer learns what everyone learns
  const proof: Proof = { receipt: body.receipt.toString("base64"), openingValue: given ? openingValueOf(body, given) : "" };
  const facts = {
    confirmedAt: broker.now().getTime(),
    evidence: randomBytes(18).toString("base64url"),
    certificate,
    proof: JSON.stringify(proof),
  };
  const row = await broker.table.confirm({
    session,
    nextSession: sessionHash(nextSessionId ?? sessionId), // the first one again only where the terms say so
    recipient: given?.recipient ?? mailboxes[0],
    at: facts.confirmedAt,
    ...facts,
    mac: macFor(broker, given, facts),
  });
  if (!row) throw sessionGone("there is nothing to confirm for this mailbox");
  demandConfirmed(broker.masterKey, row);
  broker.log.info({ event: "session.confirmed", step: "S10", ...namesOf(row) });
  if (termsOf(row).receipt !== false) broker.receiptWaits({ evidence: row.evidence, session: row.session });
  const answer = { request: body.request, evidence: row.evidence, confirmedAt: new Date(row.confirmedAt).toISOString() };
  return signBody(answer, broker.signer, broker.now());
}

/** As the evidence holds it: only where the receipt does not hold it already. */
function openingValueOf({ openingValue }: ConfirmBody, declared: Session): string {
  return termsOf(declared).signing === "outer" ? (openingValue?.toString("base64") ?? "") : "";
}

/** Over what the evidence will say; the row is as the broker wrote it, or nothing is confirmed. */
function macFor({ masterKey }: Broker, given: Released | Confirmed | undefined, facts: ConfirmedFacts): string {
  if (given?.state === "confirmed") return given.confirmedMac;
  if (given) demandReleased(masterKey, given);
  return masterKey.mac(given ? confirmedFacts({ ...given, ...facts }) : "").toString("hex");
}
