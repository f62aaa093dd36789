/** What else passes the inbound hop for a mailbox of ours: receipts, signed mail and plain S/MIME, looked at as in a mailbox and handed on. */
import { randomBytes } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { gatewaySchema } from "../../config/schema.ts";
import { Learned } from "../../gateway/main.ts";
import type { Seen } from "../../gateway/mailbox.ts";
import { SEALED_TYPE, signLetter, signedPieces } from "../../mime/letter.ts";
import { whole } from "../../mime/pieces.ts";
import { base64Entity } from "../../mime/entity.ts";
import { Fault } from "../../mime/fault.ts";
import { field, splitMessage } from "../../mime/headers.ts";
import { buildPayload, outerFields } from "../../mime/payload.ts";
import { sealToCertificate } from "../../mime/seal.ts";
import { sign } from "../../mime/sign.ts";
import { openHouse, type House, type Member } from "../broker/house.ts";
import { temporaryFolder } from "../servers/process.ts";
import { openPost, withoutTrace, type Post, type PostOptions } from "./arrival-place.ts";
import { startHop, type Hop } from "./hop.ts";
import { certificateOf } from "./outbound-place.ts";

const BOB = "bob@b.example";
const CAROL = "carol@b.example";
const REPORT = `From: receipts@broker.example\r\nTo: ${BOB}\r\nMIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=s\r\n\r\n--s\r\nContent-Type: multipart/report; boundary=r\r\n\r\n--r\r\n\r\nx\r\n--r--\r\n--s\r\nContent-Type: application/pkcs7-signature\r\n\r\nx\r\n--s--\r\n`;

let house: House;
let alice: Member;
let bob: Member;
let carol: Member;
let server: Hop;
const running: (() => Promise<void>)[] = [];

beforeAll(async () => {
  house = await openHouse();
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  const b = await house.gateway("b.example");
  [bob, carol] = [await b.enrol(BOB), await b.enrol(CAROL)];
});
beforeEach(async () => {
  server = await startHop({ lmtp: true });
  running.push(() => server.close());
});
afterEach(async () => {
  for (let stop = running.pop(); stop; stop = running.pop()) await stop();
});
afterAll(() => house?.stop());

async function open(changes: Partial<PostOptions> = {}): Promise<Post> {
  const post = await openPost(house, { deliver: { port: server.port }, members: [bob, carol], ...changes });
  running.push(() => post.stop());
  return post;
}

/** What the delivery server has. */
const handedOn = () => server.attempts.all.map(({ to, mail }) => [to[0], withoutTrace(mail)]);

test("a receipt is read before it is handed on; where it cannot be kept it waits in the queue that it came from", async () => {
  const read: Seen[] = [];
  let isFull = true;
  const post = await open({
    async onReport(passage, seen) {
      if (isFull) throw new Fault("storage-full", "no room");
      expect(String(await passage.fetch())).toBe(REPORT);
      read.push(seen);
    },
  });
  expect(await post.bring(BOB, REPORT, { from: "" })).toMatch(/^452 4\.3\.1 /u);
  expect(handedOn()).toEqual([]);
  isFull = false;
  expect(await post.bring(BOB, REPORT, { from: "" })).toMatch(/^250 /u);
  expect(await post.bring("dave@b.example", REPORT, { from: "" })).toMatch(/^250 /u); // no mailbox of ours
  expect(read).toHaveLength(1);
  expect(handedOn()).toEqual([
    [BOB, REPORT],
    ["dave@b.example", REPORT],
  ]);
});

test("the certificate of whoever signed a mail waits for approval, and the mail is handed on as it is", async () => {
  const data = await temporaryFolder("learned");
  const config = gatewaySchema.parse({
    name: "gateway.b.example",
    data,
    broker: { url: house.url },
    mailboxes: [{ address: BOB }],
    policy: { certificates: data },
  });
  const learned = new Learned(config, house.heard.log);
  const post = await open({ onSigned: (passage, seen) => learned.receive(passage, seen) });
  const payload = Buffer.from("Content-Type: text/plain\r\n\r\nsigned\r\n");
  const order = {
    order: "inner" as const,
    signer: alice.identity.signer,
    time: house.now(),
    contentId: randomBytes(32),
    brokerUrl: house.url,
  };
  const { entity } = signLetter(payload, randomBytes(24), order);
  const mail = Buffer.concat([Buffer.from(`From: alice@a.example\r\nTo: ${BOB}\r\nMIME-Version: 1.0\r\n`), whole(entity)]);
  expect(await post.bring(BOB, mail)).toMatch(/^250 /u);
  expect((await learned.waiting()).map(({ fingerprint }) => fingerprint)).toEqual([alice.identity.signer.certificate.fingerprint]);
  expect(handedOn()).toEqual([[BOB, mail.toString("latin1")]]);
});

test("plain S/MIME with one signature for two mailboxes is opened for each of them, once", async () => {
  const message = splitMessage(
    Buffer.from(
      `From: alice@a.example\r\nTo: ${BOB}, ${CAROL}\r\nSubject: secret\r\nMessage-ID: <p@a.example>\r\n\r\nThe secret text.\r\n`,
    ),
  );
  const outer = outerFields(message, "[...]");
  const payload = buildPayload(message, { outer, nonce: randomBytes(24), legacyDisplay: true });
  const { der } = sign(payload, alice.identity.signer, { time: house.now(), detached: true });
  const sealedFor = (reader: Member): Buffer =>
    base64Entity(
      `${SEALED_TYPE}; smime-type=authEnveloped-data; name="smime.p7m"`,
      sealToCertificate(signedPieces(payload, der), certificateOf(reader)),
      "attachment",
      [...outer, field("MIME-Version", "1.0")],
    );
  const post = await open();
  for (const reader of [bob, carol, bob]) {
    const mail = sealedFor(reader); // an envelope of its own each time
    expect(await post.bring(reader.mailbox.address, mail)).toMatch(/^250 /u);
    expect(await post.bring(reader.mailbox.address, mail)).toMatch(/^250 /u);
  }
  expect(handedOn().map(([to, text]) => [to, text?.includes("The secret text.")])).toEqual([
    [BOB, true],
    [CAROL, true],
  ]);
});
