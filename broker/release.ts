/** S6-S7: the recipient presents the ticket and gets the key, sealed to its certificate; the release is durable before the answer. */
import { randomBytes } from "node:crypto";
import { Fault } from "../mime/fault.ts";
import type { Opener } from "../mime/open.ts";
import { authenticate, type Actor, type Broker, type Caller } from "./broker.ts";
import { demandReleased, releasedFacts } from "./facts.ts";
import { namesOf, newSessionId, sessionHash, termsOf } from "./session.ts";
import { openTicket, sealTicket, ticketHash, type TicketContent } from "./ticket.ts";
import { presentBody, sealAnswer, type PresentBody } from "./wire.ts";

/** How long a gateway that got a key has the letter for itself: if it ends meanwhile, another one goes on. */
const CLAIM_MS = 60_000;

/** Unknown, foreign, expired, withdrawn and used tickets get this one answer. */
export function sessionGone(reason: string): Fault {
  return new Fault("session-gone", reason);
}

/** The session of a ticket; of one that cannot be opened a session that does not exist, so that its refusal costs the same. */
export function sessionIn(ticket: Buffer, openers: readonly Opener[]): TicketContent {
  try {
    return openTicket(ticket, openers);
  } catch (thrown) {
    if (!(thrown instanceof Fault && thrown.code === "session-gone")) throw thrown;
    return { sessionId: newSessionId(), nextSessionId: undefined };
  }
}

/** @returns the key and what the letter must agree with, sealed to the recipient and signed by the broker. @throws Fault `session-gone`, `recalled` */
export async function release(broker: Broker, asking: Promise<Caller>, signed: Buffer): Promise<Buffer> {
  const actor = await authenticate(broker, asking, presentBody, signed);
  try {
    return await releaseTo(broker, actor);
  } catch (thrown) {
    const session = ticketHash(actor.body.ticket).slice(0, 12); // of what letter is not looked up: every refusal costs the same
    broker.log.warn({ event: "session.refused", step: "S7", session, fault: Fault.from(thrown).code });
    throw thrown;
  }
}

async function releaseTo(broker: Broker, actor: Actor<PresentBody>): Promise<Buffer> {
  const { ticket, holder, request } = actor.body;
  const { sessionId } = sessionIn(ticket, broker.sessionKeys);
  const [sessionKey] = broker.sessionKeys;
  if (!sessionKey) throw new Fault("internal", "the broker has no session key");
  const [session, at, filing, nextSessionId] = [
    sessionHash(sessionId),
    broker.now().getTime(),
    randomBytes(16).toString("hex"),
    newSessionId(),
  ];
  const released = await broker.table.release({
    session,
    mailboxes: actor.mailboxes,
    at,
    next: { session: sessionHash(nextSessionId), ticket: sealTicket({ sessionId, nextSessionId }, sessionKey.certificate) },
    ticket,
    filing,
    claim: { holder, until: at + CLAIM_MS },
    mac: broker.masterKey.mac(releasedFacts({ session, releasedAt: at, filing })).toString("hex"),
  });
  if (released === "claimed") throw new Fault("unavailable", "another gateway is opening this letter");
  if (released === "recalled") throw new Fault("recalled", "its sender took the letter back");
  if (!released) throw sessionGone("there is nothing to release to this mailbox");
  demandReleased(broker.masterKey, released);
  const { hold, signing, contentId } = termsOf(released);
  const key = hold === "held" ? broker.masterKey.unwrap(released.wrappedKey, released) : undefined;
  try {
    const answer = {
      request,
      ...(key && { key: key.lend((octets) => octets.toString("base64")) }),
      sender: released.sender,
      recipient: released.recipient,
      messageId: released.messageId,
      commit: released.commit,
      contentId,
      hold,
      signing,
      expiresAt: new Date(released.expiresAt).toISOString(),
      declaredAt: new Date(released.declaredAt).toISOString(),
      nextTicket: released.nextTicket.toString("base64"),
      filing: released.filing,
      isFirst: released.releases === 1,
      claimedFor: CLAIM_MS,
    };
    broker.log.info({ event: "session.released", step: "S7", isFirst: released.releases === 1, ...namesOf(released) });
    return sealAnswer(answer, actor.encryptionCertificate, broker.signer, broker.now());
  } finally {
    key?.wipe();
  }
}
