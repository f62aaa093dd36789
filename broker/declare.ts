/** S1-S3: a sender declares recipients; per recipient one row, one session ID, one Kc, one ticket; rows are durable before the answer. */
import { inScope } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import { ContentKey } from "../mime/key.ts";
import { authenticate, type Actor, type Broker } from "./broker.ts";
import { newSessionId, sessionHash, termsOf, type Declaration, type Terms } from "./session.ts";
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
export async function declare(broker: Broker, gateway: GatewayRecord, signed: Buffer): Promise<Buffer> {
  const actor = await authenticate(broker, gateway, declareBody, signed);
  demandSender(actor);
  const grants = await Promise.all(actor.body.recipients.map((recipient) => grantFor(broker, actor, recipient)));
  try {
    const rows = grants.map(({ row, key }) => ({
      ...row,
      wrappedKey: termsOf(row).hold === "held" ? broker.masterKey.wrap(key, row) : NO_KEY,
    }));
    await broker.table.declare(rows, broker.now().getTime() + broker.limits.vanishAfter);
    const answer = {
      request: actor.body.request,
      grants: grants.map(({ row, key, ticket, encryptionCertificate }) => ({
        recipient: row.recipient,
        key: key.lend((octets) => octets.toString("base64")),
        ticket: ticket.toString("base64"),
        expiresAt: new Date(row.expiresAt).toISOString(),
        ...(encryptionCertificate !== undefined && { encryptionCertificate }),
      })),
    };
    for (const { row } of grants) broker.log.info({ event: "session.declared", step: "S2", session: row.ticketHash.slice(0, 12) });
    return sealAnswer(answer, actor.encryptionCertificate, broker.signer, broker.now());
  } finally {
    for (const { key } of grants) key.wipe();
  }
}

function demandSender({ body, mailboxes, gateway }: Actor<DeclareBody>): void {
  if (!mailboxes.includes(body.sender.key) || !inScope(body.sender, gateway.scope)) {
    throw new Fault("forbidden", "the sender is not the mailbox that signed");
  }
}

async function grantFor(broker: Broker, actor: Actor<DeclareBody>, recipient: DeclareBody["recipients"][number]): Promise<Grant> {
  const { body } = actor;
  const record = await broker.table.findMailbox(recipient.address.key);
  if (!record && recipient.hold === "held") {
    throw new Fault("no-certificate", "a recipient is not enrolled", {
      advice: `${recipient.address.address} is not enrolled with this broker.`,
    });
  }
  const [sessionKey] = broker.sessionKeys;
  if (!sessionKey) throw new Fault("internal", "the broker has no session key");
  const now = broker.now().getTime();
  const sessionId = newSessionId();
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
    } satisfies Terms),
    declaredAt: now,
    expiresAt: Math.floor(wanted / 1_000) * 1_000, // GeneralizedTime in the envelope has whole seconds
  };
  if (row.expiresAt <= now) throw new Fault("malformed", "the expiry lies in the past");
  return { row, key: ContentKey.generate(), ticket, encryptionCertificate: record?.encryptionCertificate };
}

/** The sender's gateway reports that the next hop took these letters. */
export async function markDispatched(broker: Broker, gateway: GatewayRecord, tickets: readonly Buffer[]): Promise<void> {
  const sessions = tickets.map((ticket) => sessionHash(openTicket(ticket, broker.sessionKeys).sessionId));
  await broker.table.dispatched(sessions, gateway.fingerprint, broker.now().getTime());
}

/** The sender's gateway takes back letters that no next hop took; their keys are erased. */
export async function withdraw(broker: Broker, gateway: GatewayRecord, tickets: readonly Buffer[]): Promise<void> {
  for (const ticket of tickets) {
    const session = sessionHash(openTicket(ticket, broker.sessionKeys).sessionId);
    const done = await broker.table.withdraw(session, gateway.fingerprint, broker.now().getTime());
    broker.log.info({ event: done ? "session.withdrawn" : "session.withdraw-refused", session: ticketHash(ticket).slice(0, 12) });
  }
}
