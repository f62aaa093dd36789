/** S1-S3: a sender declares recipients; per recipient one row, one session ID, one Kc, one ticket; rows are durable before the answer. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { inScope } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import { ContentKey } from "../mime/key.ts";
import { authenticate, type Actor, type Broker, type Caller } from "./broker.ts";
import { findCurrent } from "./enrol.ts";
import { declaredFacts } from "./facts.ts";
import { namesOf, SESSION_ID_OCTETS, sessionHash, termsOf, warnAtOf, type Declaration, type Terms, type Waiting } from "./session.ts";
import type { GatewayRecord } from "./table.ts";
import { openTicket, sealTicket, ticketHash } from "./ticket.ts";
import { declareBody, sealAnswer, type DeclareBody } from "./wire.ts";

/** With the enclosed form Kc travels inside the letter; the broker forgets it with its answer. */
const NO_KEY = Buffer.from("none");

interface Grant {
  readonly row: Declaration;
  readonly key: ContentKey;
  readonly ticket: Buffer;
  readonly encryptionCertificate: string | undefined;
}

/** @returns the grants, sealed to the sender's mailbox and signed by the broker. @throws Fault `no-certificate`, `forbidden`, as `authenticate` */
export async function declare(broker: Broker, asking: Promise<Caller>, signed: Buffer): Promise<Buffer> {
  const actor = await authenticate(broker, asking, declareBody, signed);
  demandSender(actor);
  demandEachOnce(actor.body);
  actor.more(actor.body.recipients.length - 1); // each gets a row and stands in the audit log
  const grants = await Promise.all(actor.body.recipients.map((recipient) => grantFor(broker, actor, recipient)));
  const keys = grants.map(({ key }) => key);
  try {
    const rows = grants.map(({ row, key, ticket }) => ({
      ...row,
      ticket,
      declaredMac: broker.masterKey.mac(declaredFacts(row)).toString("hex"),
      wrappedKey: termsOf(row).hold === "held" ? broker.masterKey.wrap(key, row) : NO_KEY,
    }));
    const writing = broker.table.declare(rows, broker.now().getTime() + broker.limits.vanishAfter);
    // Sealed while the table writes, given out once it has written.
    const sealing = nextTurn().then(() => answerOf(broker, actor, grants));
    const [kept, answer] = await Promise.all([writing, sealing]);
    for (const row of kept) broker.log.info({ event: "session.declared", step: "S2", ...namesOf(row) });
    if (kept.every(({ ticketHash }, at) => ticketHash === grants[at]?.row.ticketHash)) return answer;
    const first = kept.map((row, at) => {
      const grant = firstGrant(broker, row, grants[at]);
      keys.push(grant.key);
      return grant;
    });
    return answerOf(broker, actor, first);
  } finally {
    for (const key of keys) key.wipe();
  }
}

/** S3: what the sender's gateway gets. */
function answerOf(broker: Broker, { body, encryptionCertificate }: Actor<DeclareBody>, grants: readonly Grant[]): Buffer {
  const answer = {
    request: body.request,
    grants: grants.map(({ row, key, ticket, encryptionCertificate: certificate }) => {
      const warnAt = warnAtOf(row);
      return {
        recipient: row.recipient,
        key: key.lend((octets) => octets.toString("base64")),
        ticket: ticket.toString("base64"),
        expiresAt: new Date(row.expiresAt).toISOString(),
        ...(warnAt !== undefined && { warnAt: new Date(warnAt).toISOString() }),
        ...(certificate !== undefined && { encryptionCertificate: certificate }),
      };
    }),
  };
  return sealAnswer(answer, encryptionCertificate, broker.signer, broker.now());
}

/** What the row holds: a declaration that comes again, its first answer having been lost, gets the first key and ticket. */
function firstGrant(broker: Broker, row: Waiting, asked: Grant | undefined): Grant {
  if (!asked) throw new Fault("internal", "a row without its grant");
  const isAsked = row.ticketHash === asked.row.ticketHash || termsOf(row).hold === "enclosed";
  return { ...asked, row, ticket: row.ticket, key: isAsked ? asked.key : broker.masterKey.unwrap(row.wrappedKey, row) };
}

function demandEachOnce({ recipients }: DeclareBody): void {
  if (new Set(recipients.map(({ address }) => address.key)).size < recipients.length) {
    throw new Fault("malformed", "a recipient is declared twice");
  }
}

/** The same for a declaration that comes again, and for nobody else to foresee. */
function sessionIdFor(broker: Broker, { gateway, body }: Actor<DeclareBody>, recipient: string): Buffer {
  const name = JSON.stringify(["session", gateway.fingerprint, body.sender.key, body.letter, recipient]);
  return broker.masterKey.mac(name).subarray(0, SESSION_ID_OCTETS);
}

function demandSender({ body, mailboxes, gateway }: Actor<DeclareBody>): void {
  if (!mailboxes.includes(body.sender.key) || !inScope(body.sender, gateway.scope)) {
    throw new Fault("forbidden", "the sender is not the mailbox that signed");
  }
}

async function grantFor(broker: Broker, actor: Actor<DeclareBody>, recipient: DeclareBody["recipients"][number]): Promise<Grant> {
  const { body } = actor;
  const record = await findCurrent(actor.registry, recipient.address.key);
  if (!record && recipient.hold === "held") {
    throw new Fault("no-certificate", "a recipient is not enrolled", {
      advice: `${recipient.address.address} is not enrolled with this broker.`,
    });
  }
  const [sessionKey] = broker.sessionKeys;
  if (!sessionKey) throw new Fault("internal", "the broker has no session key");
  const now = broker.now().getTime();
  const { warnAfter } = broker.limits;
  const sessionId = sessionIdFor(broker, actor, recipient.address.key);
  const ticket = sealTicket({ sessionId, nextSessionId: undefined }, sessionKey.certificate);
  const wanted = Math.min(body.expiresAt.getTime(), now + broker.limits.longestExpiry);
  const row: Declaration = {
    session: sessionHash(sessionId),
    gateway: actor.gateway.fingerprint,
    sender: body.sender.key,
    recipient: recipient.address.key,
    messageId: body.messageId,
    commit: recipient.commit,
    ticketHash: ticketHash(ticket),
    terms: JSON.stringify({
      hold: recipient.hold,
      signing: recipient.signing,
      confirm: body.confirm,
      contentId: recipient.contentId,
      ...(recipient.warnAt && { warnAt: recipient.warnAt.getTime() }),
      ...(warnAfter !== undefined && { warnAfter }),
      ...(!recipient.receipt && { receipt: false as const }),
      ...(body.language !== "en" && { language: body.language }),
    } satisfies Terms),
    declaredAt: now,
    expiresAt: Math.floor(wanted / 1_000) * 1_000, // GeneralizedTime in the envelope has whole seconds
  };
  if (row.expiresAt <= now) throw new Fault("malformed", "the expiry lies in the past");
  return { row, key: ContentKey.generate(), ticket, encryptionCertificate: record?.encryptionCertificate };
}

/** The sender's gateway reports that these letters are on their way. @returns which of them nobody can open any more, by their place */
export async function markDispatched(broker: Broker, gateway: GatewayRecord, tickets: readonly Buffer[]): Promise<number[]> {
  const sessions = tickets.map((ticket) => sessionHash(openTicket(ticket, broker.sessionKeys).sessionId));
  const lost = new Set(await broker.table.dispatched(sessions, gateway.fingerprint, broker.now().getTime()));
  return sessions.flatMap((session, at) => (lost.has(session) ? [at] : []));
}

/** The sender's gateway takes back letters that no next hop took; their keys are erased. */
export async function withdraw(broker: Broker, gateway: GatewayRecord, tickets: readonly Buffer[]): Promise<void> {
  for (const ticket of tickets) {
    const session = sessionHash(openTicket(ticket, broker.sessionKeys).sessionId);
    const done = await broker.table.withdraw(session, gateway.fingerprint, broker.now().getTime());
    const row = done ? await broker.table.find(session) : undefined;
    const names = row ? namesOf(row) : { session: ticketHash(ticket).slice(0, 12) };
    broker.log.info({ event: done ? "session.withdrawn" : "session.withdraw-refused", ...names });
  }
}
