/** `steps.ts declare|present`: the signatures, seals and MACs that the broker makes and checks for one request, again and again, and nothing else of it. */
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { declaredFacts, releasedFacts } from "../../broker/facts.ts";
import { localMasterKey } from "../../broker/master-key.ts";
import { newSessionId, sessionHash, type Declaration } from "../../broker/session.ts";
import { openTicket, sealTicket } from "../../broker/ticket.ts";
import { sealAnswer, signBody } from "../../broker/wire.ts";
import { verifyChain } from "../../mime/certificate.ts";
import { ContentKey } from "../../mime/key.ts";
import { OID } from "../../mime/oids.ts";
import { verify } from "../../mime/sign.ts";
import { BROKER, holder, makeParties, NOW } from "../../test/mime/parties.ts";
import { printRate } from "./rate.ts";

const folder = mkdtempSync(join(tmpdir(), "kakitome-bench-"));
const master = randomBytes(32);
const masterKey = localMasterKey(() => [master], folder);
const { root, alice, bob, broker } = await makeParties();
const [channel, session] = [await holder(root, "channel", []), await holder(root, "session", [])];
const roots = [root.certificate];
const hash = (): string => randomBytes(32).toString("hex");
const name = (): string => randomBytes(18).toString("base64url");
const base64 = (octets: Buffer): string => octets.toString("base64");
const head = { broker: BROKER, gateway: channel.certificate.fingerprint, request: name(), time: NOW.toISOString() };
const recipient = { address: bob.mailbox.address, commit: hash(), contentId: hash(), hold: "held", signing: "inner" };

/** Who asks: the channel, then the body's signature and its signer. */
function authenticate(signed: Buffer): void {
  verifyChain(channel.certificate, { roots, at: NOW, purpose: OID.clientAuth });
  verify(signed, { roots, at: NOW, purpose: OID.emailProtection });
}

function rowOf(sessionId: Buffer, ticket: Buffer): Declaration {
  return {
    session: sessionHash(sessionId),
    gateway: channel.certificate.fingerprint,
    sender: alice.mailbox.key,
    recipient: bob.mailbox.key,
    messageId: `<${name()}@a.example>`,
    commit: recipient.commit,
    ticketHash: createHash("sha256").update(ticket).digest("hex"),
    terms: JSON.stringify({ hold: "held", signing: "inner", confirm: "next-session", contentId: recipient.contentId }),
    declaredAt: NOW.getTime(),
    expiresAt: NOW.getTime() + 86_400_000,
  };
}

function declaring(): () => void {
  const order = { letter: name(), sender: alice.mailbox.address, messageId: `<${name()}@a.example>`, expiresAt: NOW.toISOString() };
  const body = { step: "declare", ...head, ...order, confirm: "next-session", language: "en", recipients: [recipient] };
  const signed = signBody(body, alice.signer, NOW);
  return () => {
    authenticate(signed);
    const sessionId = masterKey.mac(JSON.stringify(["session", head.gateway, alice.mailbox.key, name(), bob.mailbox.key])).subarray(0, 16);
    const ticket = sealTicket({ sessionId, nextSessionId: undefined }, session.certificate);
    const row = rowOf(sessionId, ticket);
    masterKey.mac(declaredFacts(row));
    const key = ContentKey.generate();
    masterKey.wrap(key, row);
    const grant = {
      recipient: bob.mailbox.key,
      key: key.lend(base64),
      ticket: base64(ticket),
      expiresAt: NOW.toISOString(),
      encryptionCertificate: bob.opener.certificate.pem,
    };
    key.wipe();
    sealAnswer({ request: head.request, grants: [grant] }, alice.opener.certificate, broker, NOW);
  };
}

function presenting(): () => void {
  const sessionId = newSessionId();
  const ticket = sealTicket({ sessionId, nextSessionId: undefined }, session.certificate);
  const row = rowOf(sessionId, ticket);
  const [wrapped, declaredMac] = [masterKey.wrap(ContentKey.generate(), row), masterKey.mac(declaredFacts(row))];
  const signed = signBody({ step: "present", ...head, ticket: base64(ticket), holder: name() }, bob.signer, NOW);
  return () => {
    authenticate(signed);
    const opened = openTicket(ticket, [session]);
    const next = sealTicket({ ...opened, nextSessionId: newSessionId() }, session.certificate);
    const released = releasedFacts({ session: row.session, releasedAt: NOW.getTime(), filing: randomBytes(16).toString("hex") });
    const releasedMac = masterKey.mac(released);
    if (!masterKey.holds(declaredFacts(row), declaredMac) || !masterKey.holds(released, releasedMac)) throw new Error("edited");
    const key = masterKey.unwrap(wrapped, row);
    const answer = {
      request: head.request,
      key: key.lend(base64),
      sender: row.sender,
      recipient: row.recipient,
      messageId: row.messageId,
      commit: row.commit,
      contentId: recipient.contentId,
      hold: "held",
      signing: "inner",
      expiresAt: NOW.toISOString(),
      declaredAt: NOW.toISOString(),
      nextTicket: base64(next),
      filing: "0".repeat(32),
      isFirst: true,
      claimedFor: 60_000,
    };
    key.wipe();
    sealAnswer(answer, bob.opener.certificate, broker, NOW);
  };
}

const step = process.argv[2] === "present" ? presenting() : declaring();
step();
await printRate(step);
rmSync(folder, { recursive: true });
