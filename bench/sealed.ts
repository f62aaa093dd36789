/** Sealed letters without a gateway that seals: declared with the broker for real, made by our own functions. */
import { randomBytes } from "node:crypto";
import { field, splitMessage } from "../mime/headers.ts";
import { sealLetter, signLetter, type Signing } from "../mime/letter.ts";
import { outerFields, payloadPieces } from "../mime/payload.ts";
import type { Enrolled, Member } from "./enrolled.ts";

const signal = new AbortController().signal;
const DAY_MS = 86_400_000;
/** Declarations under way. */
const IN_FLIGHT = 4;

export interface Sealed {
  readonly messageId: string;
  readonly mail: Buffer;
}

const line = `${randomBytes(57).toString("base64")}\r\n`;

/** Letters of so many octets, each with an id of its own. */
export async function sealedLetters(
  { broker, client }: Enrolled,
  from: Member,
  to: Pick<Member, "mailbox">,
  { count, octets }: { count: number; octets: number },
): Promise<Sealed[]> {
  const [sender, recipient] = [from.mailbox, to.mailbox];
  const one = async (): Promise<Sealed> => {
    const messageId = `<${randomBytes(12).toString("hex")}@a.example>`;
    const names = `From: ${sender.address}\r\nTo: ${recipient.address}\r\nSubject: a letter\r\nMessage-ID: ${messageId}\r\n`;
    const head = `${names}Date: ${new Date().toUTCString().replace("GMT", "+0000")}\r\nMIME-Version: 1.0\r\n\r\n`;
    const message = splitMessage(Buffer.from(head + line.repeat(Math.max(1, Math.round((octets - head.length) / line.length)))));
    const [time, nonce, contentId, outer] = [new Date(), randomBytes(24), randomBytes(32), outerFields(message, "[...]")];
    const signing: Signing = { order: "inner", signer: from.identity.signer, time, contentId, brokerUrl: broker.url };
    const letter = signLetter(payloadPieces(message, { outer, nonce }), nonce, signing);
    const declared = {
      address: recipient,
      commit: letter.commit,
      contentId: contentId.toString("hex"),
      hold: "held",
      signing: "inner",
    } as const;
    const order = { letter: randomBytes(18).toString("base64url"), sender, messageId, confirm: "next-session" } as const;
    const expiresAt = new Date(time.getTime() + DAY_MS);
    const [grant] = await client.declare({ ...order, expiresAt, recipients: [declared] }, from.identity, signal);
    if (!grant) throw new Error("a declaration without a grant");
    const shell = { ticket: grant.ticket, brokerUrl: broker.url, expiresAt: grant.expiresAt };
    const sealing = { hold: "held", key: grant.key, shell, dual: grant.encryptionCertificate } as const;
    const { mail } = sealLetter(letter, sealing, [field("Received", "by bench"), ...outer], sender, signing);
    grant.key.wipe();
    return { messageId, mail };
  };
  const made: Sealed[] = [];
  let left = count;
  const work = async (): Promise<void> => {
    while (left-- > 0) made.push(await one());
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, work));
  return made;
}
