/** S11 at the sender: a receipt counts only where the broker signed it and it speaks of exactly a letter that was sent here. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { createRoot } from "../../broker/authority.ts";
import { BrokerClient, type DeclaredRecipient } from "../../broker/client.ts";
import { Letters } from "../../gateway/letters.ts";
import { ImapMailbox, type Mailbox } from "../../gateway/mailbox.ts";
import { receiveReceipt } from "../../gateway/receipts.ts";
import { serialOf, type Certificate } from "../../mime/certificate.ts";
import type { HandoverEvidence } from "../../mime/evidence.ts";
import { buildReceipt } from "../../mime/report.ts";
import type { Signer } from "../../mime/sign.ts";
import { DAY, RECEIPTS, declaredTo, openHouse, proofBy, writtenFor, type House, type Member } from "../broker/house.ts";
import { holder, releasedBefore } from "../mime/parties.ts";
import { temporaryFolder } from "../servers/process.ts";

let house: House;
let alice: Member;
let bob: Member;
let letters: Letters;

const MESSAGE_ID = "<1@a.example>";
const SESSION = "5".repeat(64);
let declared: DeclaredRecipient;
/** Bob's signed receipt. */
let bobs: Buffer;

beforeAll(async () => {
  house = await openHouse();
  const a = await house.gateway("a.example", "b.example");
  [alice, bob] = [await a.enrol("alice@a.example"), await a.enrol("bob@b.example")];
  declared = declaredTo(house, alice, "bob@b.example");
  bobs = proofBy(house, bob, declared.commit).receipt;
});
afterAll(() => house?.stop());

beforeEach(async () => {
  letters = new Letters(await temporaryFolder("receipts"));
  await letters.prepare();
  const at = house.now().toISOString();
  const original = writtenFor(declared.commit).signatureFile.toString("base64");
  const recipients = [{ address: "Bob@b.example", session: SESSION, commit: declared.commit, original, state: "accepted" as const, at }];
  await letters.add({ messageId: MESSAGE_ID, sender: "alice@a.example", acceptedAt: at, recipients });
});

const evidence = (changes: Partial<HandoverEvidence> = {}): HandoverEvidence => {
  const at = house.now().toISOString();
  return {
    version: 1,
    evidence: "evidence-0123456789abcdef",
    event: "ContentHandover",
    broker: house.url,
    sender: "alice@a.example",
    recipient: "bob@b.example",
    messageId: MESSAGE_ID,
    previous: "evidence-of-release-1",
    hold: "held",
    signing: "inner",
    commit: declared.commit,
    contentId: declared.contentId,
    session: SESSION,
    declaredAt: at,
    releasedAt: at,
    auditHead: "a0".repeat(32),
    confirmedAt: at,
    recipientCertificate: bob.identity.signer.certificate.fingerprint,
    recipientReceipt: createHash("sha256").update(bobs).digest("hex"),
    openingValue: "",
    ...changes,
  };
};
const receipt = (changes: Partial<HandoverEvidence> = {}, signer: Signer = house.broker.signer, recipientReceipt = bobs): Buffer => {
  const statement = evidence(changes);
  const order = { evidence: statement, released: releasedBefore(statement), recipientReceipt };
  return buildReceipt({ ...order, from: RECEIPTS, host: "broker.example", time: house.now() }, signer);
};

/** Has the gateway read a mail. @returns the events it logged */
async function read(mail: Buffer | undefined, broker: BrokerClient = alice.gateway.client): Promise<string[]> {
  const before = house.heard.lines.all.length;
  const mailbox = Object.assign(Object.create(ImapMailbox.prototype) as Mailbox, { fetch: async () => mail });
  const seen = { uid: 7, octets: 0, flags: [], internalDate: undefined, messageId: undefined, structure: undefined };
  await receiveReceipt({ broker, letters, log: house.heard.log, now: house.now }, mailbox, seen);
  return house.heard.lines.all.slice(before).map(({ event }) => event);
}

const recipientNow = async () => (await letters.find({ sender: "alice@a.example", messageId: MESSAGE_ID }))?.recipients[0];

test("a receipt of the broker is kept as it came, and the letter is opened", async () => {
  expect(await read(receipt())).toEqual(["receipt.verified"]);
  expect(await recipientNow()).toMatchObject({ state: "opened", evidence: "evidence-0123456789abcdef" });
  expect(existsSync(letters.pathOf("evidence-0123456789abcdef.receipt.eml"))).toBe(true);
});

test("the same receipt again changes nothing and says nothing", async () => {
  await read(receipt());
  const before = await recipientNow();
  expect(await read(receipt())).toEqual([]);
  expect(await recipientNow()).toEqual(before);
});

test("with what mail servers put above it a receipt still holds", async () => {
  expect(await read(Buffer.concat([Buffer.from("Return-Path: <>\r\nReceived: from x by y; today\r\n"), receipt()]))).toEqual([
    "receipt.verified",
  ]);
});

/** The forged and the foreign ones; none of them may be recorded. */
const REFUSED: readonly (readonly [string, string, () => Promise<Buffer> | Buffer])[] = [
  ["signed by the recipient's own mailbox certificate", "receipt.not-valid", () => receipt({}, bob.identity.signer)],
  ["signed by the sender's", "receipt.not-valid", () => receipt({}, alice.identity.signer)],
  [
    "signed by a broker of another root that uses our broker's name",
    "receipt.not-valid",
    async () => {
      const root = await createRoot("Foreign", new Date(Date.now() - DAY), new Date(Date.now() + DAY));
      return receipt({}, await holder(root, "broker-signing", []));
    },
  ],
  ["that speaks for another broker", "receipt.not-valid", () => receipt({ broker: "https://other.example" })],
  [
    "with a word of its text altered",
    "receipt.not-valid",
    () => altered(receipt(), "Your registered letter was opened", "Your registered letter was 0pened"),
  ],
  [
    "with a recipient altered in its status",
    "receipt.not-valid",
    () => altered(receipt(), "rfc822; bob@b.example", "rfc822; eve@b.example"),
  ],
  ["with the evidence of another receipt in it", "receipt.not-valid", () => transplanted(receipt(), receipt({ commit: "d".repeat(64) }))],
  ["of an unknown letter", "receipt.not-ours", () => receipt({ messageId: "<2@a.example>" })],
  ["of another session", "receipt.not-ours", () => receipt({ session: "6".repeat(64) })],
  ["of another content", "receipt.not-ours", () => receipt({ commit: "d".repeat(64) })],
  ["of another recipient", "receipt.not-ours", () => receipt({ recipient: "carol@b.example" })],
  ["of another sender", "receipt.not-ours", () => receipt({ sender: "mallory@a.example" })],
  [
    "that only says that the key was given out",
    "receipt.not-valid",
    () => receipt({ event: "ContentAccessTracking" as "ContentHandover" }),
  ],
  ["without the recipient's own receipt", "receipt.not-valid", () => receipt({}, house.broker.signer, Buffer.alloc(0))],
  [
    "with the recipient's receipt for another letter",
    "receipt.not-valid",
    () => {
      const other = proofBy(house, bob, declaredTo(house, alice, "bob@b.example").commit).receipt;
      return receipt({ recipientReceipt: createHash("sha256").update(other).digest("hex") }, house.broker.signer, other);
    },
  ],
];

test.each(REFUSED)("a receipt %s is not recorded: %s", async (_why, event, make) => {
  expect(await read(await make())).toEqual([event]);
  expect(await recipientNow()).toMatchObject({ state: "accepted" });
  expect(existsSync(letters.pathOf("evidence-0123456789abcdef.receipt.eml"))).toBe(false);
});

describe("what the root revoked", () => {
  const revoking = (certificate: Certificate, at: Date) => {
    const known = alice.gateway.channel;
    const channel = { ...known, revoked: () => new Map([[serialOf(certificate), at]]) };
    return new BrokerClient(channel);
  };
  const soon = (milliseconds: number): Date => new Date(house.now().getTime() + milliseconds);

  test.each([
    [
      "the broker's signing certificate, however late: whoever has its key writes any date",
      () => revoking(house.broker.signer.certificate, soon(DAY)),
      ["receipt.not-valid"],
    ],
    ["the recipient's certificate before it confirmed", () => revoking(bob.identity.signer.certificate, soon(-DAY)), ["receipt.not-valid"]],
    ["the recipient's certificate after it confirmed", () => revoking(bob.identity.signer.certificate, soon(DAY)), ["receipt.verified"]],
    ["nothing of this letter", () => revoking(alice.identity.signer.certificate, soon(-DAY)), ["receipt.verified"]],
  ])("%s: the receipt counts accordingly", async (_what, make, events) => {
    const broker = make();
    expect(await read(receipt(), broker)).toEqual(events);
    await broker.close();
  });
});

test.each([
  ["has gone meanwhile", undefined],
  ["is an ordinary mail", Buffer.from("Subject: hi\r\n\r\ntext\r\n")],
  [
    "is signed, but no report",
    Buffer.from("Content-Type: multipart/signed; boundary=x\r\n\r\n--x\r\n\r\ntext\r\n--x\r\n\r\nno\r\n--x--\r\n"),
  ],
])("a mail that %s is no affair of ours", async (_why, mail) => {
  expect(await read(mail)).toEqual([]);
});

function altered(mail: Buffer, from: string, to: string): Buffer {
  const text = mail.toString("latin1");
  if (!text.includes(from)) throw new Error(`no "${from}" in the receipt`);
  return Buffer.from(text.replace(from, to), "latin1");
}

/** The first receipt with the evidence file of the second. */
function transplanted(mail: Buffer, other: Buffer): Buffer {
  const file = /filename="evidence\.p7m"\r\n\r\n([^-]*)/u;
  const [from, to] = [mail, other].map((one) => file.exec(one.toString("latin1"))?.[1] ?? "");
  return altered(mail, from ?? "", to ?? "");
}
