/** The binding (docs/protocol.md, section 3): each row of its table, broken alone, keeps a letter shut with one and the same answer. */
import { beforeAll, describe, expect, test } from "@jest/globals";
import { createRoot } from "../../broker/authority.ts";
import { base64Entity, multipart, parseEntity, splitMultipart } from "../../mime/entity.ts";
import { whole } from "../../mime/pieces.ts";
import type { Fault } from "../../mime/fault.ts";
import { ContentKey } from "../../mime/key.ts";
import type { Binding, OpenedLetter } from "../../mime/bind.ts";
import type { SignedLetter } from "../../mime/letter.ts";
import { oid, octetString, sequence } from "../../mime/der.ts";
import type { Signer } from "../../mime/sign.ts";
import { faceOf, faultOf } from "./faults.ts";
import { openSsl } from "./openssl.ts";
import {
  FROM,
  MESSAGE,
  MESSAGE_ID,
  UNTIL,
  holder,
  mail,
  makeParties,
  party,
  payloadOf,
  pem,
  sealedLetter,
  type Parties,
  type SealedLetter,
  openEnvelope,
  signedBy,
} from "./parties.ts";
import { AT, edit } from "./tree.ts";

const REFUSAL = JSON.stringify(["cannot-open", "the letter does not open or is not what was registered", undefined, "never"]);

let parties: Parties;
beforeAll(async () => {
  parties = await makeParties();
});

/** Opens as Bob; what is changed in the binding is what the broker's row says otherwise. */
const open = ({ envelope, key, binding }: SealedLetter, changes: Partial<Binding> = {}): OpenedLetter =>
  openEnvelope(envelope, { key, openers: [parties.bob.opener] }, { ...binding, ...changes });

/** It is refused like everything else, and our own log says why. */
function refused(run: () => unknown, why: RegExp): void {
  const fault = faultOf(run);
  expect(faceOf(fault)).toBe(REFUSAL);
  expect((fault.cause as Fault).message).toMatch(why);
}

const signed = (payload: Buffer, signer: Signer = parties.alice.signer): SignedLetter => signedBy(payload, signer);
const sealedOf = (payload: Buffer, signer?: Signer): SealedLetter => sealedLetter(parties, { letter: signed(payload, signer) });
const written = (from: string, to = "bob@b.example", id = MESSAGE_ID): Buffer =>
  payloadOf(mail(`From: ${from}\nTo: ${to}\nMessage-ID: ${id}\nSubject: x\n\nThe secret text.\n`));
/** The letter with other parts in its multipart/signed, and the commitment that fits. */
const withParts = (letter: SignedLetter, change: (parts: Buffer[]) => Buffer[], subtype = "signed"): SignedLetter => ({
  ...letter,
  entity: multipart(subtype, change(splitMultipart(parseEntity(whole(letter.entity)))), {
    parameters: 'protocol="application/pkcs7-signature"',
  }),
});

describe("a letter opens where everything holds", () => {
  test("and gives payload, entity and signer", () => {
    const sealed = sealedLetter(parties);
    const { payload, entity, signer } = open(sealed);
    expect(payload.from.key).toBe("alice@a.example");
    expect(payload.body.toString()).toBe("The secret text.\r\n");
    expect(entity?.equals(whole(sealed.letter.entity))).toBe(true);
    expect(signer).toBe(parties.alice.signer.certificate);
  });

  test("without the recipient's own layer, which is an option of the sender", () => {
    expect(open(sealedLetter(parties, { dual: undefined })).payload.messageId).toBe(MESSAGE_ID);
  });

  test.each([
    ["in To among others", "carol@c.example, Bob <BOB@b.example>"],
    ["in a group", "friends: carol@c.example, bob@b.example;"],
  ])("where Bob is named %s", (_why, to) => {
    expect(open(sealedOf(written("alice@a.example", to))).payload.recipients.map(({ key }) => key)).toContain("bob@b.example");
  });

  test("where Bob is named by his alias, and where he is a blind recipient", () => {
    expect(
      open(sealedOf(written("alice@a.example", "robert@b.example")), { recipients: ["bob@b.example", "robert@b.example"] }).payload,
    ).toBeDefined();
    const blind = payloadOf(mail(`From: alice@a.example\nTo: carol@c.example\nMessage-ID: ${MESSAGE_ID}\n\nx`), {
      bcc: parties.bob.mailbox,
    });
    expect(open(sealedOf(blind)).payload).toBeDefined();
  });
});

describe("a letter stays shut where one row of the binding does not hold", () => {
  test("wrong sender: the row names another than the protected From", () => {
    refused(() => open(sealedLetter(parties), { sender: parties.carol.mailbox }), /signer is not the declared sender/u);
  });

  test("spoofed author: Carol signs a letter that says it is from Alice (threat 6)", () => {
    const sealed = sealedOf(written("alice@a.example"), parties.carol.signer);
    refused(() => open(sealed), /signer is not the declared sender/u);
    refused(() => open(sealed, { sender: parties.carol.mailbox }), /From is not the declared sender/u);
  });

  test("a display name that says Alice is not Alice", () => {
    const sealed = sealedOf(written('"alice@a.example" <carol@c.example>'), parties.carol.signer);
    refused(() => open(sealed), /signer is not the declared sender/u);
  });

  test("wrong recipient: Bob is not named inside (re-addressing)", () => {
    refused(() => open(sealedOf(written("alice@a.example", "carol@c.example"))), /not addressed to this mailbox/u);
    refused(() => open(sealedLetter(parties), { recipients: ["carol@c.example"] }), /not addressed to this mailbox/u);
    refused(() => open(sealedLetter(parties), { recipients: [] }), /not addressed to this mailbox/u);
  });

  test("a name beside an address, and an address in the text, address nobody", () => {
    refused(() => open(sealedOf(written("alice@a.example", '"bob@b.example" <carol@c.example> (bob@b.example)'))), /not addressed/u);
  });

  test("other Message-ID", () => {
    refused(() => open(sealedLetter(parties), { messageId: "<letter-2@a.example>" }), /another Message-ID/u);
    refused(() => open(sealedOf(written("alice@a.example", undefined, "<letter-2@a.example>"))), /another Message-ID/u);
  });

  test("swapped commit: another letter of Alice to Bob, genuine in everything else", () => {
    const [one, two] = [sealedLetter(parties), sealedLetter(parties)];
    refused(() => open(one, { commit: two.letter.commit }), /not the content that was declared/u);
    refused(() => open(one, { commit: "" }), /not the content that was declared/u);
  });

  test("the same text signed once more is not what was declared", () => {
    const one = sealedLetter(parties);
    refused(() => open(sealedLetter(parties, { letter: signed(payloadOf(MESSAGE)) }), { commit: one.letter.commit }), /not the content/u);
  });

  test("surreptitious forwarding: Bob seals what Alice signed for him to Carol (threat 7)", () => {
    const forwarded = sealedLetter(parties, { letter: sealedLetter(parties).letter, dual: parties.carol });
    const asCarol = (sender: Binding["sender"]) => (): OpenedLetter =>
      openEnvelope(
        forwarded.envelope,
        { key: forwarded.key, openers: [parties.carol.opener] },
        { ...forwarded.binding, sender, recipients: ["carol@c.example"] },
      );
    refused(asCarol(parties.bob.mailbox), /signer is not the declared sender/u);
    refused(asCarol(parties.alice.mailbox), /not addressed to this mailbox/u);
  });

  test("stripped and signed again: the thief's name stands on Alice's text (threat 8)", () => {
    const stolen = splitMultipart(parseEntity(whole(sealedLetter(parties).letter.entity)))[0] ?? Buffer.alloc(0);
    refused(() => open(sealedOf(stolen, parties.carol.signer), { sender: parties.carol.mailbox }), /From is not the declared sender/u);
  });

  test("two signers", async () => {
    const ssl = await openSsl("two-signers");
    const payload = payloadOf(MESSAGE);
    ssl.put("payload", payload);
    const names = [["a", parties.alice.signer] as const, ["c", parties.carol.signer] as const];
    for (const [name, { key, certificate }] of names) ssl.put(`${name}.pem`, pem(key) + certificate.pem);
    const der = ssl.run(["cms", "-sign", "-binary", "-outform", "DER", "-in", "payload", "-signer", "a.pem", "-signer", "c.pem"]);
    const letter = withParts(signed(payload), ([one = Buffer.alloc(0)]) => [one, base64Entity("application/pkcs7-signature", der)]);
    refused(() => open(sealedLetter(parties, { letter })), /exactly one signer/u);
  });

  test.each<[string, (parts: Buffer[]) => Buffer[], string, RegExp]>([
    ["a foreign part behind the signature", (parts) => [...parts, Buffer.from("\r\nfoot")], "signed", /not a payload with its signature/u],
    ["a foreign part in front", (parts) => [Buffer.from("\r\nhead"), ...parts], "signed", /not a payload with its signature/u],
    ["no signature", (parts) => parts.slice(0, 1), "signed", /not a payload with its signature/u],
    ["signature and payload swapped", (parts) => parts.toReversed(), "signed", /./u],
    ["a multipart/mixed of the same parts", (parts) => parts, "mixed", /not signed/u],
    [
      "another text",
      ([one = Buffer.alloc(0), ...rest]) => [Buffer.from(one.toString().replace("secret", "public")), ...rest],
      "signed",
      /not the one that was signed/u,
    ],
    [
      "a line end more",
      ([one = Buffer.alloc(0), ...rest]) => [Buffer.concat([one, Buffer.from("\r\n")]), ...rest],
      "signed",
      /not the one that was signed/u,
    ],
  ])("foreign parts: %s", (_why, change, subtype, why) => {
    refused(() => open(sealedLetter(parties, { letter: withParts(sealedLetter(parties).letter, change, subtype) })), why);
  });

  test("a bare payload without any signature", () => {
    refused(() => open(sealedLetter(parties, { letter: { ...sealedLetter(parties).letter, entity: payloadOf(MESSAGE) } })), /not signed/u);
  });

  test("payload without hp, as any S/MIME client writes it: its header could be anybody's", () => {
    refused(() => open(sealedOf(MESSAGE)), /header is not protected/u);
  });

  test.each<[string, string]>([
    ["two authors", "alice@a.example, carol@c.example"],
    ["a second author in a group", "us: alice@a.example, carol@c.example;"],
  ])("a payload of %s", (_why, from) => {
    refused(() => open(sealedOf(written(from))), /one author/u);
  });

  test.each<[string, Date]>([
    ["expired", new Date(UNTIL.getTime() + 1_000)],
    ["not yet valid", new Date(FROM.getTime() - 1_000)],
  ])("a signer whose certificate is %s", (_why, at) => {
    const sealed = sealedLetter(parties);
    refused(() => open(sealed, { trust: { ...sealed.binding.trust, at } }), /not valid|the clock says/u);
  });

  test("a signer of a foreign authority, with Alice's name in his certificate", async () => {
    const foreign = await party(await createRoot("Test root", FROM, UNTIL), "alice@a.example");
    refused(() => open(sealedOf(payloadOf(MESSAGE), foreign.signer)), /trusted root/u);
  });

  test("a signer with a certificate of the same authority that is for TLS, or for no mailbox", async () => {
    const channel = await holder(parties.root, "channel", [parties.alice.mailbox]);
    refused(() => open(sealedOf(payloadOf(MESSAGE), channel)), /not meant for this use/u);
    refused(() => open(sealedOf(payloadOf(MESSAGE), parties.broker)), /signer is not the declared sender/u);
  });
});

describe("an envelope stays shut", () => {
  const shut = (envelope: Buffer, key: ContentKey, opener = parties.bob.opener): void =>
    refused(() => openEnvelope(envelope, { key, openers: [opener] }, sealedLetter(parties).binding), /content key or content refused/u);

  test("envelope 1 with key 2: no ticket of one letter opens another (threats 15 and 22)", () => {
    const [one, two] = [sealedLetter(parties), sealedLetter(parties)];
    shut(one.envelope, two.key);
    shut(two.envelope, one.key);
    shut(one.envelope, ContentKey.generate());
  });

  test("with the key of the broker's table but not Bob's own: two of two are needed", () => {
    const { envelope, key } = sealedLetter(parties);
    shut(envelope, key, parties.carol.opener);
  });

  test("relabelled as EnvelopedData with AES-256-CBC at its top (EFAIL, RFC 9709)", () => {
    const { envelope, key } = sealedLetter(parties);
    const relabelled = edit(
      edit(envelope, AT.type, () => [oid("1.2.840.113549.1.7.3")]),
      AT.algorithm,
      () => [sequence(oid("2.16.840.1.101.3.4.1.42"), octetString(Buffer.alloc(16)))],
    );
    shut(relabelled, key);
    shut(
      edit(envelope, AT.cipher, () => [oid("2.16.840.1.101.3.4.1.42")]),
      key,
    );
  });

  test("and every refusal of this page has the one face: word, message, advice and retry", () => {
    const { envelope, key, binding } = sealedLetter(parties);
    const faces = [
      () => openEnvelope(envelope, { key: ContentKey.generate(), openers: [parties.bob.opener] }, binding),
      () => openEnvelope(envelope, { key, openers: [] }, binding),
      () => openEnvelope(envelope, { key, openers: [parties.bob.opener] }, { ...binding, commit: "x" }),
      () => openEnvelope(Buffer.alloc(0), { key, openers: [parties.bob.opener] }, binding),
      () => openEnvelope(Buffer.from("3080".repeat(50_000), "hex"), { key, openers: [parties.bob.opener] }, binding),
    ].map((run) => faceOf(faultOf(run)));
    expect(new Set(faces)).toEqual(new Set([REFUSAL]));
  });
});
