/** S10-S11: the recipient confirms with the next ticket; the key is erased in the same step that queues the receipt. */
import { randomBytes } from "node:crypto";
import { authenticate, type Broker } from "./broker.ts";
import { recipientFor, sessionGone } from "./release.ts";
import { sessionHash } from "./session.ts";
import type { GatewayRecord } from "./table.ts";
import { openTicket } from "./ticket.ts";
import { confirmBody, signBody } from "./wire.ts";

/** @returns the confirmation with the evidence's name, signed by the broker; a repetition gets the same. @throws Fault `session-gone` */
export async function confirm(broker: Broker, gateway: GatewayRecord, signed: Buffer): Promise<Buffer> {
  const actor = await authenticate(broker, gateway, confirmBody, signed);
  const { sessionId, nextSessionId } = openTicket(actor.body.nextTicket, broker.sessionKeys);
  if (!nextSessionId) throw sessionGone("a first ticket does not confirm");
  const session = sessionHash(sessionId);
  const row = await broker.table.confirm({
    session,
    nextSession: sessionHash(nextSessionId),
    recipient: await recipientFor(broker, session, actor),
    at: broker.now().getTime(),
    evidence: randomBytes(18).toString("base64url"),
    certificate: actor.certificate.fingerprint,
  });
  if (!row) throw sessionGone("there is nothing to confirm for this mailbox");
  broker.log.info({ event: "session.confirmed", step: "S10", session: row.ticketHash.slice(0, 12) });
  broker.receiptWaits();
  const answer = { request: actor.body.request, evidence: row.evidence, confirmedAt: new Date(row.confirmedAt).toISOString() };
  return signBody(answer, broker.signer, broker.now());
}
