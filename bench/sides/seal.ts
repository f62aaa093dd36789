/** `seal.ts seal|open OCTETS`: the held letter with both layers, signed and sealed, or opened and verified, again and again in one process. */
import { randomBytes } from "node:crypto";
import { openLetter, type Binding } from "../../mime/bind.ts";
import { splitMessage } from "../../mime/headers.ts";
import { ContentKey } from "../../mime/key.ts";
import { sealLetter, signLetter, type Signing } from "../../mime/letter.ts";
import { readSealed } from "../../mime/message.ts";
import { outerFields, payloadPieces } from "../../mime/payload.ts";
import { NOW } from "../../test/mime/parties.ts";
import { orderOf } from "./letter.ts";
import { printRate } from "./rate.ts";

const [what, octets = "2048"] = process.argv.slice(2);
const { message, parties, ticket, brokerUrl, expiresAt } = await orderOf(Number(octets));
const { alice, bob, root } = parties;

function seal() {
  const split = splitMessage(message);
  const outer = outerFields(split, "[...]");
  const random = randomBytes(56);
  const [nonce, contentId] = [random.subarray(0, 24), random.subarray(24)];
  const signing: Signing = { order: "inner", signer: alice.signer, time: NOW, contentId, brokerUrl };
  const letter = signLetter(payloadPieces(split, { outer, nonce }), nonce, signing);
  const key = ContentKey.generate();
  const shell = { ticket, brokerUrl, expiresAt };
  const { mail } = sealLetter(letter, { hold: "held", key, shell, dual: bob.opener.certificate }, outer, alice.mailbox, signing);
  return { mail, key, letter, signing };
}

function opener(): () => void {
  const { mail, key, letter, signing } = seal();
  const binding: Binding = {
    hold: "held",
    signing: "inner",
    sender: alice.mailbox,
    recipients: [bob.mailbox.key],
    messageId: "<letter-1@a.example>",
    commit: letter.commit,
    contentId: signing.contentId.toString("hex"),
    expiresAt,
    trust: { roots: [root.certificate], at: NOW },
  };
  return () => {
    const sealed = readSealed(mail);
    if (!sealed) throw new Error("not a sealed letter");
    openLetter(sealed, { key, openers: [bob.opener] }, binding);
  };
}

const operation = what === "open" ? opener() : seal;
await printRate(operation);
