/** The other forms of a letter hold the same binding: signed outside, signed twice, enclosed; who strips, re-signs or alters them opens nothing. */
import { beforeAll, describe, expect, test } from "@jest/globals";
import { openLetter, type Binding } from "../../mime/bind.ts";
import { base64Entity, encodeBase64, multipart, parseEntity, splitMultipart } from "../../mime/entity.ts";
import { field, joinMessage, splitMessage } from "../../mime/headers.ts";
import { ContentKey } from "../../mime/key.ts";
import type { KeyHold, SigningOrder } from "../../mime/letter.ts";
import { readSealed } from "../../mime/message.ts";
import { sign, type Signer } from "../../mime/sign.ts";
import { faultOf } from "./faults.ts";
import { KC, NONCE, NOW, letterIn, makeParties, type Parties } from "./parties.ts";

let parties: Parties;
beforeAll(async () => {
  parties = await makeParties();
});

const made = (hold: KeyHold, order: SigningOrder) => letterIn(parties, hold, order);

function open(mail: Buffer, binding: Binding) {
  const sealed = readSealed(mail);
  if (!sealed) throw new Error("no registered letter");
  const key = binding.hold === "held" ? ContentKey.adopt(Buffer.from(KC)) : undefined;
  return openLetter(sealed, { key, openers: [parties.bob.opener] }, binding);
}

/** The sealed entity in a letter that is signed outside. */
const inside = (mail: Buffer): Buffer => splitMultipart(parseEntity(mail))[0] ?? Buffer.alloc(0);

/** The same entity, signed by somebody else. */
function resigned(mail: Buffer, signer: Signer): Buffer {
  const { der } = sign(inside(mail), signer, { time: NOW, detached: true });
  return multipart("signed", [inside(mail), base64Entity("application/pkcs7-signature", der)]);
}

const FORMS = (["held", "enclosed"] as const).flatMap((hold) =>
  (["inner", "outer", "both"] as const).map((order) => [hold, order] as const),
);

test.each(FORMS)("%s and signed %s it opens, and is the message that was sent", (hold, order) => {
  const { mail, binding } = made(hold, order);
  const { payload, openingValue } = open(mail, binding);
  expect(payload.body.toString()).toBe("The secret text.\r\n");
  expect(openingValue.equals(NONCE)).toBe(order === "outer");
});

describe.each(FORMS)("%s and signed %s it stays shut", (hold, order) => {
  const shut = (mail: Buffer, binding: Binding): void => expect(faultOf(() => open(mail, binding)).code).toBe("cannot-open");

  test("where the row speaks of another order or form", () => {
    const { mail, binding } = made(hold, order);
    for (const signing of (["inner", "outer", "both"] as const).filter((one) => one !== order)) shut(mail, { ...binding, signing });
    const sealed = readSealed(mail);
    const other = { ...binding, hold: hold === "held" ? ("enclosed" as const) : ("held" as const) };
    const secrets = { key: ContentKey.adopt(Buffer.from(KC)), openers: [parties.bob.opener] };
    expect(faultOf(() => sealed && openLetter(sealed, secrets, other)).code).toBe("cannot-open");
  });

  test("for another recipient, sender, Message-ID, commitment or content", () => {
    const { mail, binding } = made(hold, order);
    const changes: Partial<Binding>[] = [
      { recipients: ["carol@c.example"] },
      { sender: parties.carol.mailbox },
      { messageId: "<2@a.example>" },
      { commit: "0".repeat(64) },
      { contentId: "0".repeat(64) },
      ...(hold === "held" ? [{ expiresAt: new Date(binding.expiresAt.getTime() + 1_000) }] : []),
    ];
    for (const change of changes) shut(mail, { ...binding, ...change });
  });

  test("where one octet of the envelope is another", () => {
    const { mail, binding } = made(hold, order);
    const { envelope } = readSealed(mail) ?? { envelope: Buffer.alloc(0) };
    const altered = Buffer.from(envelope);
    const at = altered.length - (hold === "held" ? 40 : 400);
    altered[at] = (altered[at] ?? 0) ^ 1;
    const from = encodeBase64(envelope).toString();
    const to = encodeBase64(altered).toString();
    shut(Buffer.from(mail.toString("latin1").replace(from, to), "latin1"), binding);
  });
});

describe.each(FORMS.filter(([, order]) => order !== "inner"))("%s, its outer signature (%s)", (hold, order) => {
  test("cannot be stripped, nor replaced by a thief's or by the recipient's own", () => {
    const { mail, binding } = made(hold, order);
    const entity = splitMessage(inside(mail));
    const stripped = joinMessage([field("MIME-Version", "1.0"), ...entity.fields], entity.body);
    const thieves = [parties.carol.signer, parties.bob.signer, parties.broker];
    for (const forged of [stripped, ...thieves.map((thief) => resigned(mail, thief))]) {
      expect(faultOf(() => open(forged, binding)).code).toBe("cannot-open");
    }
  });
});
