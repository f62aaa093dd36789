/** S6-S7: the recipient presents the ticket and gets the key, sealed to its certificate; the release is durable before the answer. */
import { Fault } from "../mime/fault.ts";
import { authenticate, type Actor, type Broker } from "./broker.ts";
import { newSessionId, sessionHash } from "./session.ts";
import type { GatewayRecord } from "./table.ts";
import { openTicket, sealTicket } from "./ticket.ts";
import { presentBody, sealAnswer } from "./wire.ts";

/** Unknown, foreign, expired, withdrawn and used tickets get this one answer. */
export function sessionGone(reason: string, cause?: unknown): Fault {
  return new Fault("session-gone", reason, { cause });
}

/** @returns the key and what the letter must agree with, sealed to the recipient and signed by the broker. @throws Fault `session-gone` */
export async function release(broker: Broker, gateway: GatewayRecord, signed: Buffer): Promise<Buffer> {
  const actor = await authenticate(broker, gateway, presentBody, signed);
  const { sessionId } = openTicket(actor.body.ticket, broker.sessionKeys);
  const [sessionKey] = broker.sessionKeys;
  if (!sessionKey) throw new Fault("internal", "the broker has no session key");
  const nextSessionId = newSessionId();
  const session = sessionHash(sessionId);
  const row = await broker.table.release({
    session,
    recipient: await recipientFor(broker, session, actor),
    at: broker.now().getTime(),
    next: { session: sessionHash(nextSessionId), ticket: sealTicket({ sessionId, nextSessionId }, sessionKey.certificate) },
  });
  if (!row) throw sessionGone("there is nothing to release to this mailbox");
  const key = broker.masterKey.unwrap(row.wrappedKey, row);
  try {
    const answer = {
      request: actor.body.request,
      key: key.lend((octets) => octets.toString("base64")),
      sender: row.sender,
      recipient: row.recipient,
      messageId: row.messageId,
      commit: row.commit,
      nextTicket: row.nextTicket.toString("base64"),
    };
    broker.log.info({ event: "session.released", step: "S7", session: row.ticketHash.slice(0, 12) });
    return sealAnswer(answer, actor.encryptionCertificate, broker.signer, broker.now());
  } finally {
    key.wipe();
  }
}

/** The row's recipient where the actor speaks for it; otherwise the actor's own address, so that the table refuses and records it. */
export async function recipientFor(broker: Broker, session: string, { mailboxes }: Actor<unknown>): Promise<string> {
  const row = await broker.table.find(session);
  return row && mailboxes.includes(row.recipient) ? row.recipient : (mailboxes[0] ?? "");
}
