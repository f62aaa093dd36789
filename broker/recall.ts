/** What a sender does with a letter that is on its way: takes it back before its key is given out, and asks how it stands. */
import { Fault } from "../mime/fault.ts";
import { evidenceId } from "../mime/evidence.ts";
import { authenticate, type Broker, type Caller } from "./broker.ts";
import { demandConfirmed, demandEnded, demandReleased, endedFacts } from "./facts.ts";
import { sessionIn } from "./release.ts";
import { namesOf, sessionHash, type Session, type SessionHash } from "./session.ts";
import { ticketHash } from "./ticket.ts";
import { recallBody, signBody, statusBody, type RecallOutcome, type SessionStatus } from "./wire.ts";

type Mailboxes = readonly [string, ...string[]];

/** @returns what came of each ticket, signed by the broker: a key is either given out or recalled. A repetition gets the same */
export async function recall(broker: Broker, asking: Promise<Caller>, signed: Buffer): Promise<Buffer> {
  const { body, mailboxes, more } = await authenticate(broker, asking, recallBody, signed);
  more(body.tickets.length - 1); // each that is refused stands in the audit log, for good
  const outcomes: RecallOutcome[] = [];
  for (const ticket of body.tickets) outcomes.push(await recallOne(broker, ticket, mailboxes));
  return signBody({ request: body.request, outcomes }, broker.signer, broker.now());
}

async function recallOne(broker: Broker, ticket: Buffer, mailboxes: Mailboxes): Promise<RecallOutcome> {
  const { table, masterKey, log } = broker;
  const session = sessionHash(sessionIn(ticket, broker.sessionKeys).sessionId);
  const known = await table.sent(session, mailboxes);
  const endedAt = broker.now().getTime();
  const row = await table.recall({
    session,
    mailboxes,
    at: endedAt,
    evidence: evidenceId("ContentHandoverFailure", known?.ticketHash ?? session), // of an unknown row none is written
    mac: masterKey.mac(endedFacts({ session, state: "recalled", endedAt, isReleased: false })).toString("hex"),
  });
  const outcome = row ? outcomeOf(broker, row) : ({ outcome: "gone" } as const);
  log.info({
    event: "session.recall",
    outcome: outcome.outcome,
    ...(known ? namesOf(known) : { session: ticketHash(ticket).slice(0, 12) }),
  });
  if (row?.state === "recalled" && row.ending) broker.receiptWaits({ evidence: row.ending.evidence, session });
  return outcome;
}

/** The broker signs it, so the row must be as the broker wrote it. @throws Fault `internal` */
function outcomeOf(broker: Broker, row: Session): RecallOutcome {
  demandTrue(broker, row);
  if (row.state === "recalled") return { outcome: "recalled", at: new Date(row.endedAt) };
  if (row.state === "declared" || row.state === "dispatched") throw new Fault("internal", "a recall that changed nothing");
  if (!("releasedAt" in row) || row.releasedAt === undefined) return { outcome: "gone" };
  const confirmed = row.state === "confirmed" ? { confirmedAt: new Date(row.confirmedAt) } : {};
  return { outcome: "too-late", releasedAt: new Date(row.releasedAt), ...confirmed };
}

/** @returns how each ticket's letter stands, signed by the broker; whoever did not send it learns `gone`, as of one that never was */
export async function status(broker: Broker, asking: Promise<Caller>, signed: Buffer): Promise<Buffer> {
  const { body, mailboxes } = await authenticate(broker, asking, statusBody, signed);
  const sessions: SessionStatus[] = [];
  for (const ticket of body.tickets) {
    const session: SessionHash = sessionHash(sessionIn(ticket, broker.sessionKeys).sessionId);
    const row = await broker.table.sent(session, mailboxes);
    if (row) demandTrue(broker, row);
    sessions.push(row ? statusOf(row) : { state: "gone" });
  }
  return signBody({ request: body.request, sessions }, broker.signer, broker.now());
}

function statusOf(row: Session): SessionStatus {
  const { state, declaredAt, expiresAt } = row;
  const releasedAt = "releasedAt" in row ? row.releasedAt : undefined;
  return {
    state,
    declaredAt: new Date(declaredAt),
    expiresAt: new Date(expiresAt),
    ...(releasedAt !== undefined && { releasedAt: new Date(releasedAt) }),
    ...(row.state === "confirmed" && { confirmedAt: new Date(row.confirmedAt) }),
    ...("endedAt" in row && { endedAt: new Date(row.endedAt) }),
  };
}

/** @throws Fault `internal`: the row was edited */
function demandTrue({ masterKey }: Broker, row: Session): void {
  if (row.state === "released") demandReleased(masterKey, row);
  else if (row.state === "confirmed") demandConfirmed(masterKey, row);
  else if ("ending" in row && row.ending) demandEnded(masterKey, row, row.ending);
}
