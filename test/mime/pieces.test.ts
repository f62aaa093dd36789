/** Large letters: signed and sealed piece by piece, opened in place; the same letter as in one piece, and nothing left of one that does not open. */
import { createHash } from "node:crypto";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { openLetter } from "../../mime/bind.ts";
import { encodeBase64 } from "../../mime/entity.ts";
import { splitMessage } from "../../mime/headers.ts";
import { sealInPieces, signLetter } from "../../mime/letter.ts";
import { readSealed } from "../../mime/message.ts";
import { buildPayload, outerFields, payloadPieces } from "../../mime/payload.ts";
import { inPieces, isSame, madeLater, slices, whole, type Pieces } from "../../mime/pieces.ts";
import { KC, MESSAGE, NONCE, makeParties, sealedLetter, shellOf, signingBy, type Parties } from "./parties.ts";
import { ContentKey } from "../../mime/key.ts";

const LARGE_OCTETS = 3_000_000;
const pattern = (octets: number): Buffer => Buffer.alloc(octets, "The secret text, again and again.\r\n");

let parties: Parties;
beforeAll(async () => void (parties = await makeParties()));

const split = splitMessage(MESSAGE);
const body = pattern(LARGE_OCTETS);

/** A body that is made anew each time it is gone through, in pieces that fit nothing. */
function made(): Pieces {
  return madeLater(body.length, function* () {
    for (let at = 0; at < body.length; at += 100_001) {
      yield body.subarray(at, at + 100_001);
    }
  });
}

/** @param isDual whether a layer for Bob alone lies below the broker's */
function sealedInPieces(isDual = true) {
  const outer = outerFields(split, "[...]");
  const signing = signingBy(parties.alice.signer);
  const letter = signLetter(payloadPieces({ fields: split.fields, body: made() }, { outer, nonce: NONCE }), NONCE, signing);
  const dual = isDual ? parties.bob.opener.certificate : undefined;
  const order = { hold: "held" as const, key: ContentKey.adopt(Buffer.from(KC)), shell: shellOf(), dual };
  return { letter, copy: sealInPieces(letter, order, outer, parties.alice.mailbox, signing) };
}

describe("a letter in pieces", () => {
  test("is signed as the same letter in one piece is", () => {
    const { letter } = sealedInPieces();
    const { fields } = split;
    const payload = buildPayload({ fields, body }, { outer: outerFields(split, "[...]"), nonce: NONCE });
    expect(
      createHash("sha256")
        .update(whole(payloadPieces({ fields, body: made() }, { outer: outerFields(split, "[...]"), nonce: NONCE })))
        .digest("hex"),
    ).toBe(createHash("sha256").update(payload).digest("hex"));
    expect(whole(letter.entity).includes(payload)).toBe(true);
  });

  test("has as many octets as it says before it is made, and none of its pieces is large", () => {
    const { copy } = sealedInPieces();
    const sizes = [...copy.mail].map(({ length }) => length);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(copy.mail.octets);
    expect(Math.max(...sizes)).toBeLessThan(110_000);
  });

  test.each(["keep", "spend"] as const)("opens to what was sealed, its octets being to %s", (use) => {
    const { letter, copy } = sealedInPieces();
    const mail = whole(copy.mail);
    const before = Buffer.from(mail);
    const sealed = readSealed(mail, use);
    if (!sealed) throw new Error("not a sealed letter");
    const binding = { ...sealedLetter(parties).binding, commit: letter.commit };
    const secrets = { key: ContentKey.adopt(Buffer.from(KC)), openers: [parties.bob.opener] };
    const opened = openLetter(sealed, secrets, binding);
    expect(opened.payload.body.equals(body)).toBe(true);
    expect(mail.equals(before)).toBe(use === "keep");
    expect(opened.payload.body.buffer === mail.buffer).toBe(use === "spend");
  });

  test("leaves nothing readable behind where its tag does not hold, though it was opened in place", () => {
    const mail = whole(sealedInPieces(false).copy.mail);
    const at = mail.length - 200_000;
    mail[at] = mail[at] === 0x41 ? 0x42 : 0x41; // one character of the base64 far behind the first slices
    const sealed = readSealed(mail, "spend");
    if (!sealed) throw new Error("not a sealed letter");
    const secrets = { key: ContentKey.adopt(Buffer.from(KC)), openers: [parties.bob.opener] };
    expect(() => openLetter(sealed, secrets, sealedLetter(parties).binding)).toThrow(expect.objectContaining({ code: "cannot-open" }));
    expect(mail.includes("multipart/signed")).toBe(false);
    expect(mail.includes("The secret text")).toBe(false);
  });
});

test("base64 of pieces of any size is base64 of the whole", () => {
  for (const sizes of [
    [1, 1, 1],
    [56, 1, 57],
    [233_472, 1],
    [500_000, 3, 100],
  ]) {
    const parts = sizes.map((size, at) => Buffer.alloc(size, at + 1));
    expect(encodeBase64(inPieces(...parts)).equals(encodeBase64(Buffer.concat(parts)))).toBe(true);
  }
});

test("octets are the same only if all of them are", () => {
  const [one, other] = [pattern(600_000), pattern(600_000)];
  expect(isSame(inPieces(one.subarray(0, 7), one.subarray(7)), other)).toBe(true);
  expect(isSame(one, other.subarray(1))).toBe(false);
  other[599_999] = 0;
  expect(isSame(one, other)).toBe(false);
  expect([...slices(one)].every(({ length }) => length <= 64 << 10)).toBe(true);
});
