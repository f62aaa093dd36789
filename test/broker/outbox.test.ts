/** S11: a receipt is signed once, kept before it is sent, and handed to a real next hop with the same octets at every attempt. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { Outbox, smtpMailer, type ReceiptMailer } from "../../broker/outbox.ts";
import { duration } from "../../config/units.ts";
import { verifyProof } from "../../mime/proof.ts";
import { readReceipt } from "../../mime/report.ts";
import { startHop, type Hop, type HopOptions } from "../gateway/hop.ts";
import { confirmAs, declaredTo, forever, openHouse, ticketOf, writtenFor, type House, type Member } from "./house.ts";

let house: House;
let alice: Member;
let bob: Member;
const running: (() => Promise<void>)[] = [];

beforeAll(async () => {
  house = await openHouse();
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  bob = await (await house.gateway("b.example")).enrol("bob@b.example");
});
afterEach(async () => {
  for (let stop = running.pop(); stop; stop = running.pop()) await stop();
  for (const entry of await house.table.pending()) await house.table.done(entry);
});
afterAll(() => house?.stop());

/** An opened letter. @returns the name of its evidence */
async function openedLetter(): Promise<string> {
  const ticket = await ticketOf(house, alice, "bob@b.example");
  const release = await bob.gateway.client.present(ticket, bob.identity, forever);
  release.key?.wipe();
  return (await confirmAs(house, bob, release)).evidence;
}

async function hop(options: HopOptions = {}): Promise<Hop> {
  const started = await startHop(options);
  running.push(() => started.close());
  return started;
}

const mailerTo = (port: number, auth?: { user: string; pass: string }): ReceiptMailer =>
  smtpMailer({ host: "127.0.0.1", port, tls: "none", ca: undefined, auth });

/** Runs an outbox until the test ends or it is stopped. */
function start(mailer: ReceiptMailer, holder = "this broker"): { outbox: Outbox; stop(): Promise<void> } {
  const stopping = new AbortController();
  const outbox = new Outbox(house.broker, mailer, { retryFirst: duration("20ms"), retryLongest: duration("80ms") }, holder);
  const done = outbox.run(stopping.signal);
  const stop = async (): Promise<void> => {
    stopping.abort();
    await done;
    mailer.close();
  };
  running.push(stop);
  return { outbox, stop };
}

const sent = (evidence: string) => house.heard.lines.until((line) => line.event === "receipt.sent" && line["evidence"] === evidence);
const isPending = async (evidence: string): Promise<boolean> => (await house.table.pending()).some((entry) => entry.evidence === evidence);

test("a receipt reaches the sender with the empty reverse-path, verifies, and is threaded under the letter", async () => {
  const { port, attempts } = await hop();
  start(mailerTo(port));
  const evidence = await openedLetter();
  await sent(evidence);
  const [taken] = attempts.all;
  expect([taken?.from, taken?.to]).toEqual(["", ["alice@a.example"]]);
  const read = readReceipt(taken?.mail ?? Buffer.alloc(0), alice.gateway.client.trust);
  expect(read?.evidence).toMatchObject({ evidence, event: "ContentHandover", sender: "alice@a.example", recipient: "bob@b.example" });
  expect(String(taken?.mail)).toContain(`In-Reply-To: ${read?.evidence.messageId}`);
  expect(await isPending(evidence)).toBe(false);
});

test.each(["inner", "outer", "both"] as const)(
  "signed %s, the receipt that is mailed proves the opening without the broker",
  async (signing) => {
    const { port, attempts } = await hop();
    start(mailerTo(port));
    const recipient = declaredTo(house, alice, "bob@b.example", { signing });
    const ticket = await ticketOf(house, alice, "bob@b.example", { recipients: [recipient] });
    const { evidence } = await confirmAs(house, bob, await bob.gateway.client.present(ticket, bob.identity, forever));
    await sent(evidence);
    const receipt = attempts.all[0]?.mail ?? Buffer.alloc(0);
    const { payload, signatureFile } = writtenFor(recipient.commit);
    const { trust } = alice.gateway.client;
    const verdict = verifyProof({ receipt, original: signatureFile, payload }, trust);
    expect(verdict.links.filter(({ state }) => state !== "good")).toEqual([]);
    expect(verdict).toMatchObject({ holds: true, evidence: { evidence, signing, contentId: recipient.contentId } });
    const other = declaredTo(house, alice, "bob@b.example", { signing });
    expect(verifyProof({ receipt, original: writtenFor(other.commit).signatureFile, payload }, trust).holds).toBe(false);
  },
);

test("an outbox that is told of an entry mails it at once", async () => {
  const { port, attempts } = await hop();
  const mailer = mailerTo(port);
  const outbox = new Outbox(house.broker, mailer, { retryFirst: duration("1h"), retryLongest: duration("1h") });
  const stopping = new AbortController();
  const done = outbox.run(stopping.signal);
  const evidence = await openedLetter();
  outbox.wake((await house.table.pending()).find((entry) => entry.evidence === evidence));
  await sent(evidence);
  expect(attempts.all).toHaveLength(1);
  stopping.abort();
  await done;
  mailer.close();
});

test("a hundred and thirty thousand receipts that wait at once do not end the outbox", async () => {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => (open = resolve));
  const claim = async (): Promise<boolean> => opened.then(() => false);
  const table = Object.assign(Object.create(house.table) as typeof house.table, { claim });
  const mailer = mailerTo(1);
  const outbox = new Outbox({ ...house.broker, table }, mailer, { retryFirst: duration("1h"), retryLongest: duration("1h") });
  for (let count = 0; count < 130_000; count++) outbox.wake({ evidence: `evidence ${count}`, session: "0".repeat(64) });
  const stopping = new AbortController();
  const done = outbox.run(stopping.signal);
  stopping.abort();
  open();
  await expect(done).resolves.toBeUndefined();
  mailer.close();
});

test("a next hop that answers 451 twice and then 250 gets the same octets each time", async () => {
  const { port, attempts } = await hop({ onMail: (_mail, attempt) => (attempt <= 2 ? "451 4.2.1 Later" : undefined) });
  start(mailerTo(port));
  const evidence = await openedLetter();
  await sent(evidence);
  expect(attempts.all.map(({ answer }) => answer)).toEqual(["451 4.2.1 Later", "451 4.2.1 Later", ""]);
  expect(new Set(attempts.all.map(({ mail }) => mail.toString("latin1"))).size).toBe(1);
});

test("a next hop that is not there is asked again until it is", async () => {
  const first = await startHop();
  await first.close();
  start(mailerTo(first.port));
  const evidence = await openedLetter();
  await house.heard.lines.until((line) => line.event === "receipt.waits" && line["evidence"] === evidence, 2);
  await hop({ port: first.port });
  await sent(evidence);
});

test.each([
  ["the mail", { onMail: () => "550 5.1.1 No such mailbox" }],
  ["the recipient", { onRecipient: () => "550 5.1.1 No such mailbox" }],
] as const)("a next hop that refuses %s for good is asked once; the receipt stays in the table", async (_why, options) => {
  const { port } = await hop(options);
  start(mailerTo(port));
  const evidence = await openedLetter();
  const [refused] = await house.heard.lines.until((line) => line.event === "receipt.refused" && line["evidence"] === evidence);
  expect(refused?.["reason"]).toMatch(/5\.1\.1 No such mailbox/u);
  const [next] = [await openedLetter()];
  await house.heard.lines.until((line) => line.event === "receipt.refused" && line["evidence"] === next); // it went on to the next one
  expect(await isPending(evidence)).toBe(false);
});

describe("what is wrong with us and not with the receipt is no reason to give it up", () => {
  test.each([
    ["a password that the next hop refuses", "wrong-password"],
    ["no password where the next hop wants one", undefined],
  ])("%s: the receipt waits until it is right", async (_why, pass) => {
    const user = { name: "broker", password: "right-password" };
    const { port, attempts } = await hop({ user });
    const wrong = start(mailerTo(port, pass === undefined ? undefined : { user: user.name, pass }));
    const evidence = await openedLetter();
    await house.heard.lines.until(({ event, ...line }) => event.startsWith("receipt.") && line["evidence"] === evidence);
    await wrong.stop();
    expect(await isPending(evidence)).toBe(true);
    start(mailerTo(port, { user: user.name, pass: user.password }));
    await sent(evidence);
    expect(attempts.all).toHaveLength(1);
  });
});

test("one receipt that has to wait does not hold the others up", async () => {
  let held = "";
  const { port } = await hop({ onMail: (mail) => (held !== "" && mail.includes(held) ? "451 4.2.1 Later" : undefined) });
  held = await openedLetter();
  const other = await openedLetter();
  start(mailerTo(port));
  await sent(other);
  expect(await isPending(held)).toBe(true);
});

test("a broker that was ended between keeping and sending sends the kept octets in its next life", async () => {
  const { port, attempts } = await hop();
  const evidence = await openedLetter();
  let kept: Buffer | undefined;
  const ended = start({
    send: async (_recipient, mail) => {
      kept = mail;
      throw new Error("the power went");
    },
    close: () => undefined,
  });
  await house.heard.lines.until((line) => line.event === "receipt.waits" && line["evidence"] === evidence);
  await ended.stop();
  expect(await isPending(evidence)).toBe(true);
  house.pass(1_000); // another time, which would make another receipt
  start(mailerTo(port));
  await sent(evidence);
  expect(attempts.all[0]?.mail.equals(kept ?? Buffer.alloc(0))).toBe(true);
});

test("a broker that was ended between sending and noting it sends the same octets again, with the same Message-ID", async () => {
  const { port, attempts } = await hop();
  const evidence = await openedLetter();
  const smtp = mailerTo(port);
  const ended = start({
    send: async (recipient, mail) => {
      await smtp.send(recipient, mail);
      throw new Error("the power went");
    },
    close: () => smtp.close(),
  });
  await house.heard.lines.until((line) => line.event === "receipt.waits" && line["evidence"] === evidence);
  await ended.stop();
  start(mailerTo(port));
  await sent(evidence);
  const mails = attempts.all.map(({ mail }) => mail.toString("latin1"));
  expect(mails.length).toBeGreaterThanOrEqual(2);
  expect(new Set(mails).size).toBe(1);
});

test("of two brokers on one table each receipt is mailed by one", async () => {
  const { port, attempts } = await hop();
  start(mailerTo(port), "one broker");
  start(mailerTo(port), "another broker");
  const names = await Promise.all(Array.from({ length: 12 }, () => openedLetter()));
  for (const evidence of names) await sent(evidence);
  const mails = attempts.all.map(({ mail }) => /^Message-ID: (.*)$/mu.exec(mail.toString("latin1"))?.[1]);
  expect(mails).toHaveLength(12);
  expect(new Set(mails).size).toBe(12);
});

test("a receipt that a broker claimed and then died over is mailed by another one when the claim has ended", async () => {
  const { port, attempts } = await hop();
  const evidence = await openedLetter();
  const session = (await house.table.pending()).find((entry) => entry.evidence === evidence)?.session ?? "";
  const at = house.now().getTime();
  expect(await house.table.claim({ evidence, session }, { holder: "the dead broker", until: at + 60_000 }, at)).toBe(true);
  start(mailerTo(port), "another broker");
  const other = await openedLetter();
  await sent(other);
  expect(attempts.all).toHaveLength(1);
  house.pass(61_000);
  await sent(evidence);
  expect(attempts.all).toHaveLength(2);
});
