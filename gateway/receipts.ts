/** Receipts that came back (S11): verified, matched with the letter they speak of, and kept; the mail itself stays where it is. */
import type { BrokerClient } from "../broker/client.ts";
import { haltAt } from "../config/halt.ts";
import { letterOf, reasonOf, type Log } from "../config/log.ts";
import { Fault } from "../mime/fault.ts";
import { verifyProof } from "../mime/proof.ts";
import { readReceipt, type ReadReceipt } from "../mime/report.ts";
import type { Letters } from "./letters.ts";
import type { Letterbox, Seen } from "./mailbox.ts";

export interface ReceiptParts {
  readonly broker: BrokerClient;
  readonly letters: Letters;
  readonly log: Log;
  now(): Date;
}

/** What the broker's signed statement says, whatever happened. */
export interface Told {
  readonly evidence: string;
  readonly event: string;
  readonly sender: string;
  readonly recipient: string;
  readonly messageId: string;
  readonly session: string;
  readonly commit: string;
  /** Empty where the key was never given out. */
  readonly releasedAt: string;
  readonly confirmedAt?: string;
  /** Of `ContentHandoverFailure`: why, and when. */
  readonly reason?: string;
  readonly endedAt?: string;
  /** Of `Delayed`. */
  readonly delayedAt?: string;
}

const namesOf = ({ messageId, session }: Told) => ({ letter: letterOf(messageId), session: session.slice(0, 12) });

/** Reads one mail that may be a receipt. @throws Fault with retry `later` where the mailbox does not answer */
export async function receiveReceipt(
  { broker, letters, log, now }: ReceiptParts,
  mailbox: Pick<Letterbox, "fetch">,
  { uid }: Seen,
): Promise<void> {
  const mail = await mailbox.fetch(uid);
  if (!mail) return;
  let receipt: ReadReceipt | undefined;
  try {
    receipt = readReceipt(mail, broker.trust);
  } catch (thrown) {
    if (Fault.from(thrown).retry === "later") throw thrown; // our clock may be wrong
    log.warn({ event: "receipt.not-valid", uid, reason: reasonOf(thrown) });
    return;
  }
  if (!receipt) return;
  const evidence: Told = receipt.evidence;
  const { messageId, session, recipient, commit } = evidence;
  const name = { sender: evidence.sender, messageId };
  const letter = await letters.find(name);
  const known = letter?.recipients.find((one) => one.session === session);
  if (known?.address.toLowerCase() !== recipient || known.commit !== commit) {
    log.warn({ event: "receipt.not-ours", uid, evidence: evidence.evidence, ...namesOf(evidence) });
    return;
  }
  if (known.state === "opened") return; // the same receipt again
  if (evidence.event !== "ContentHandover") return recordNotice({ letters, log }, evidence, mail);
  const original = known.original === undefined ? undefined : Buffer.from(known.original, "base64");
  const { holds, links } = verifyProof({ receipt: mail, original, payload: undefined }, broker.trust);
  const wrong = links.find(({ state, link }) => state === "bad" || (state === "missing" && link !== "payload")); // the payload is not kept
  if (!holds && wrong) {
    log.warn({ event: "receipt.not-valid", uid, ...namesOf(evidence), reason: `${wrong.link}: ${wrong.detail}` });
    return;
  }
  haltAt("a11");
  await letters.keepReceipt(evidence.evidence, mail, original && { session, original });
  await letters.change(name, session, { state: "opened", at: evidence.confirmedAt ?? "", evidence: evidence.evidence });
  const since = Date.parse(letter?.acceptedAt ?? "");
  log.info({
    event: "receipt.verified",
    step: "S11",
    ...namesOf(evidence),
    evidence: evidence.evidence,
    recipient,
    openedAfterMs: Date.parse(evidence.confirmedAt ?? "") - since, // the broker's clock less ours
    afterMs: now().getTime() - since,
  });
}

/** Records that a letter waits, or that nobody can open it any more; the statement was verified and matched with the letter. */
export async function recordNotice({ letters, log }: Pick<ReceiptParts, "letters" | "log">, told: Told, mail: Buffer): Promise<void> {
  const { evidence, session, recipient, messageId, sender, releasedAt } = told;
  const isOver = told.event === "ContentHandoverFailure" && (told.reason === "expired" || told.reason === "recalled");
  if (!isOver && told.event !== "Delayed") {
    log.warn({ event: "receipt.not-valid", evidence, ...namesOf(told), reason: `an event that is not known: ${told.event}` });
    return;
  }
  const state = !isOver ? "delayed" : told.reason === "recalled" ? "recalled" : "expired";
  const reason = releasedAt === "" ? "the key was never given out" : `the key was given out at ${releasedAt}`;
  const at = (isOver ? told.endedAt : told.delayedAt) ?? "";
  const name = { sender, messageId };
  const before = (await letters.find(name))?.recipients.find((one) => one.session === session);
  if (before?.evidence === evidence) return; // the same again
  await letters.keepReceipt(evidence, mail);
  await letters.change(name, session, { state, at, evidence, reason });
  log.info({ event: `receipt.${state}`, ...namesOf(told), evidence, recipient });
}
