/** Plain S/MIME that a gateway wrote while the broker was away: its reader's gateway opens it without the broker, once, wherever the power goes. */
import { createHash } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { plainCopy } from "../../gateway/plain.ts";
import type { ToSeal } from "../../gateway/settle.ts";
import { parseMailbox } from "../../mime/address.ts";
import { base64Entity, decodedBody, parseEntity } from "../../mime/entity.ts";
import { Fault } from "../../mime/fault.ts";
import { field, splitMessage } from "../../mime/headers.ts";
import { sealToCertificate } from "../../mime/seal.ts";
import { whole } from "../../mime/pieces.ts";
import { openHouse, type House, type Member } from "../broker/house.ts";
import { startDovecot, type DovecotServer } from "../servers/dovecot.ts";
import { PASSWORD, openDesk, type Desk, type PowerCut } from "./inbound-place.ts";
import { certificateOf } from "./outbound-place.ts";

const BOB = "bob@b.example";
const TEXT = "The secret text.";
const SEALED = "application/pkcs7-mime; smime-type=authEnveloped-data";

let house: House;
let dovecot: DovecotServer;
let alice: Member;
let bob: Member;
let carol: Member;
let stranger: Member;
let desk: Desk;
const desks: Desk[] = [];

beforeAll(async () => {
  [house, dovecot] = await Promise.all([openHouse(), startDovecot({ users: { [BOB]: PASSWORD } })]);
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  const b = await house.gateway("b.example");
  [bob, carol] = [await b.enrol(BOB), await b.enrol("carol@b.example")];
  const elsewhere = await openHouse();
  stranger = await (await elsewhere.gateway("a.example")).enrol("alice@a.example");
  await elsewhere.stop();
});
beforeEach(async () => void (desk = await open()));
afterEach(async () => {
  for (const one of desks.splice(0)) await one.close();
});
afterAll(async () => {
  await house?.stop();
  await dovecot?.stop();
});

async function open(changes: Parameters<typeof openDesk>[3] = {}): Promise<Desk> {
  const opened = await openDesk(house, bob, dovecot, changes);
  desks.push(opened);
  opened.broker.fail = new Fault("unavailable", "the broker is away");
  return opened;
}

/** What a gateway writes for these. */
function written(author: Member, reader: Member, { from = author.mailbox.address, to = reader.mailbox.address } = {}): Buffer {
  const submitted = `From: ${from}\r\nTo: ${to}\r\nSubject: the secret subject\r\nMessage-ID: <1@a.example>\r\nDate: Sun, 01 Mar 2026 12:00:00 +0000\r\n\r\n${TEXT}\r\n`;
  const recipient = { mailbox: parseMailbox(to) };
  const order = { recipient, form: { subject: "[...]" } } as unknown as ToSeal;
  const more = { signer: author.identity.signer, time: house.now(), trace: field("Received", "by gateway.a.example; now") };
  return whole(plainCopy(splitMessage(Buffer.from(submitted)), order, certificateOf(reader), more).mail);
}

const nameOf = (mail: Buffer): string =>
  createHash("sha256")
    .update(decodedBody(parseEntity(mail)))
    .digest("hex");

test("is opened with the mailbox's key, filed signed below what was found out, and its original removed; nothing is confirmed", async () => {
  const mail = written(alice, bob);
  await desk.deliver(mail);
  expect(await desk.look()).toEqual([]);
  const [letter, ...others] = await desk.mails();
  expect(others).toEqual([]);
  expect(letter?.text).toMatch(/^Authentication-Results: gateway\.b\.example; smime=pass/u);
  expect(letter?.text).toContain(TEXT);
  expect(letter?.text).toContain("Subject: the secret subject");
  expect(letter?.text).not.toContain("Kakitome-Session");
  expect(desk.broker.calls).toEqual([]);
  expect(await desk.journal.find(BOB, nameOf(mail))).toMatchObject({ stage: "opened", messageId: "<1@a.example>" });
});

test("that a server delivered twice is filed once, and so is one that two gateways of the mailbox find", async () => {
  const mail = written(alice, bob);
  await desk.deliver(mail);
  await desk.deliver(mail);
  expect(await desk.look({ atOnce: true })).toEqual([]);
  expect((await desk.mails()).map(({ text }) => text.includes(TEXT))).toEqual([true]);
});

describe.each<PowerCut>([
  { stage: "begun", when: "before" },
  { stage: "begun", when: "after" },
  { stage: "opened", when: "before" },
  { stage: "opened", when: "after" },
])("where the power goes $when it is known as $stage", (cut) => {
  test("it is in the mailbox once when the gateway is back", async () => {
    await desk.deliver(written(alice, bob));
    desk.journal.cut = cut;
    expect(await desk.look()).toHaveLength(1);
    desk.journal.cut = undefined;
    expect(await desk.look()).toEqual([]);
    expect((await desk.mails()).map(({ text }) => text.includes(TEXT))).toEqual([true]);
  });
});

describe("is left where it is and flagged, with nothing of its text shown,", () => {
  const relaid = (mail: Buffer, envelope: Buffer): Buffer =>
    base64Entity(SEALED, envelope, "attachment", splitMessage(mail).fields.slice(0, 1));

  test.each<[string, () => Buffer]>([
    ["where another authority's Alice wrote it", () => written(stranger, bob)],
    ["where the author is not who signed", () => written(carol, bob, { from: "alice@a.example" })],
    ["where it is for somebody else", () => written(alice, bob, { to: "carol@b.example" })],
    [
      "where it is not signed",
      () => relaid(written(alice, bob), sealToCertificate(Buffer.from("Content-Type: text/plain\r\n\r\nbare\r\n"), certificateOf(bob))),
    ],
    [
      "where one bit of the text was changed",
      () => {
        const mail = written(alice, bob);
        const envelope = decodedBody(parseEntity(mail));
        envelope[envelope.length - 40] = (envelope.at(-40) ?? 0) ^ 1;
        return relaid(mail, envelope);
      },
    ],
  ])("%s", async (_where, mail) => {
    await desk.deliver(mail());
    expect(await desk.look()).toEqual([]);
    const [left, ...others] = await desk.mails();
    expect(others).toEqual([]);
    expect(left?.flags).toContain("$KakitomeNotOpened");
    expect(left?.text).not.toContain(TEXT);
    expect(await desk.look()).toEqual([]);
    expect(await desk.mails()).toHaveLength(1);
  });
});

test("to another certificate is not ours and is never touched", async () => {
  const mail = written(alice, carol, { to: BOB });
  await desk.deliver(mail);
  expect(await desk.look()).toEqual([]);
  expect(await desk.mails()).toMatchObject([{ text: mail.toString(), flags: expect.not.arrayContaining(["$KakitomeNotOpened"]) }]);
});
