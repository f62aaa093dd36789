/** Clocks that are wrong: a gateway waits until its clock is right, and nothing is lost or given up for good because of a clock. */
import { sweep } from "../../broker/sweep.ts";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { BrokerClient } from "../../broker/client.ts";
import { Outbox, smtpMailer } from "../../broker/outbox.ts";
import type { Running } from "../../config/lifecycle.ts";
import { duration } from "../../config/units.ts";
import { Letters } from "../../gateway/letters.ts";
import { ImapMailbox, type Mailbox } from "../../gateway/mailbox.ts";
import { receiveReceipt } from "../../gateway/receipts.ts";
import { heardLog, type HeardLog } from "../broker/happenings.ts";
import { DAY, MINUTE, openHouse, type House, type Member } from "../broker/house.ts";
import { startHop, type Attempt, type Hop } from "../gateway/hop.ts";
import { PASSWORD } from "../gateway/inbound-place.ts";
import type { Talk } from "../gateway/talk.ts";
import { startDovecot, type DovecotServer } from "../servers/dovecot.ts";
import { foundOf, openReceiver, type Receiver } from "./receiver.ts";
import { ALICE, BOB, letter, nameOf, prepareSender, submit, type Sender } from "./sender.ts";

const CAROL = "carol@b.example";

let house: House;
let hop: Hop;
let dovecot: DovecotServer;
let bob: Member;
let sender: Sender;
let gateway: Running & { readonly heard: HeardLog };
let talk: Talk;
/** How far each clock is ahead of the right one, milliseconds; that of the broker is the house's. */
const ahead = { sender: 0, receiver: 0 };
/** What the next hop says to letters. */
let answer: string | undefined;
const receivers: Receiver[] = [];
let count = 0;

beforeAll(async () => {
  [house, dovecot] = await Promise.all([openHouse(), startDovecot({ users: { [BOB]: PASSWORD, [CAROL]: PASSWORD } })]);
  hop = await startHop({ onMail: () => answer });
  bob = await (await house.gateway("b.example")).enrol(BOB);
  sender = await prepareSender(house, hop.port);
  gateway = await sender.runHere(() => clock(ahead.sender));
  talk = await sender.enter();
});
afterAll(async () => {
  talk?.close();
  await gateway?.stop();
  await hop?.close();
  await house?.stop();
  await dovecot?.stop();
});
afterEach(async () => {
  Object.assign(ahead, { sender: 0, receiver: 0 });
  house.pass(Date.now() - house.now().getTime());
  answer = undefined;
  for (const receiver of receivers.splice(0)) await receiver.stop();
});

const clock = (milliseconds: number): Date => new Date(Date.now() + milliseconds);
const newName = (): string => `clock-${count++}`;
const isTaken =
  (name: string) =>
  ({ mail, answer: said }: Attempt): boolean =>
    nameOf(mail) === name && said === "";

/** What the next hop took, once it did. */
async function taken(name: string): Promise<Buffer> {
  const [attempt] = await hop.attempts.until(isTaken(name));
  if (!attempt) throw new Error("no attempt");
  return attempt.mail;
}

async function watchAsBob(): Promise<Receiver> {
  const receiver = await openReceiver(house, bob, dovecot, { now: () => clock(ahead.receiver) });
  receivers.push(receiver);
  return receiver;
}

/** Sends a letter while every clock is right. @returns its sealed copy */
async function send(name: string): Promise<Buffer> {
  expect(await submit(talk, letter(name))).toMatch(/^250 /u);
  return taken(name);
}

/** Runs the broker's outbox until the receipts that wait went out. */
async function sendReceipts(): Promise<void> {
  const { lines } = house.heard;
  const before = lines.all.filter(({ event }) => event === "receipt.sent").length;
  const mailer = smtpMailer({ host: "127.0.0.1", port: hop.port, tls: "none", ca: undefined, auth: undefined });
  const outbox = new Outbox(house.broker, mailer, { retryFirst: duration("20ms"), retryLongest: duration("80ms") });
  const stopping = new AbortController();
  const waiting = (await house.table.pending()).length;
  const running = outbox.run(stopping.signal);
  await lines.until(({ event }) => event === "receipt.sent", before + waiting);
  stopping.abort();
  await running;
  mailer.close();
}

/** Has Alice's gateway look at the newest receipt. @returns the events it logged, and what it knows of the letter now */
async function readReceipt(name: string): Promise<{ events: string[]; state: string | undefined }> {
  const mail = hop.attempts.all.filter(({ to }) => to[0] === ALICE).at(-1)?.mail;
  const mailbox = Object.assign(Object.create(ImapMailbox.prototype) as Mailbox, { fetch: async () => mail });
  const broker = new BrokerClient({ ...bob.gateway.channel, now: () => clock(ahead.sender) });
  const letters = new Letters(join(sender.data, "letters"));
  const { log, lines } = heardLog();
  const seen = { uid: 1, octets: 0, flags: [], internalDate: undefined, messageId: undefined, structure: undefined };
  try {
    await receiveReceipt({ broker, letters, log, now: () => new Date() }, mailbox, seen);
  } finally {
    await broker.close();
  }
  const known = await letters.find({ sender: ALICE, messageId: `<${name}@a.example>` });
  return { events: lines.all.map(({ event }) => event), state: known?.recipients[0]?.state };
}

const TOLERATED = [
  ["nine minutes ahead", 9 * MINUTE],
  ["nine minutes behind", -9 * MINUTE],
] as const;
const WRONG = [
  ["eleven minutes ahead", 11 * MINUTE],
  ["eleven minutes behind", -11 * MINUTE],
  ["a day ahead", DAY],
  ["a day behind", -DAY],
] as const;

describe("a sending gateway whose clock is", () => {
  test.each(TOLERATED)("%s has its letter accepted, and the recipient opens it", async (_how, off) => {
    const name = newName();
    ahead.sender = off;
    const receiver = await watchAsBob();
    await receiver.desk.deliver(await send(name));
    await receiver.settled.until(() => true);
    expect(await foundOf(receiver.desk, name)).toEqual({ opened: 1, sealed: 0 });
  });

  test.each(WRONG)("%s says 451 and how to mend it, and accepts once the clock is right", async (_how, off) => {
    const name = newName();
    ahead.sender = off;
    expect(await submit(talk, letter(name))).toMatch(/^451 4\.\d\.\d The broker's clock says \S+; set the gateway's clock\.$/u);
    await sender.untilSpool((names) => names.length === 0);
    ahead.sender = 0;
    await send(name);
    expect(hop.attempts.all.filter(isTaken(name))).toHaveLength(1);
  });

  test.each(WRONG)("%s neither loses nor gives up what it accepted before", async (_how, off) => {
    const name = newName();
    answer = "451 4.3.0 Not now";
    expect(await submit(talk, letter(name))).toMatch(/^250 /u);
    ahead.sender = off;
    const refused = hop.attempts.all.length;
    await hop.attempts.until(({ mail }) => nameOf(mail) === name, hop.attempts.all.filter(({ mail }) => nameOf(mail) === name).length + 2);
    ahead.sender = 0;
    answer = undefined;
    await taken(name);
    await sender.untilSpool((names) => names.length === 0);
    expect(hop.attempts.all.slice(refused).filter(({ from }) => from === "")).toEqual([]);
    expect(hop.attempts.all.filter(isTaken(name))).toHaveLength(1);
  });
});

describe("a receiving gateway whose clock is", () => {
  test.each(TOLERATED)("%s opens a letter", async (_how, off) => {
    const name = newName();
    ahead.receiver = off;
    const receiver = await watchAsBob();
    await receiver.desk.deliver(await send(name));
    await receiver.settled.until(() => true);
    expect(await foundOf(receiver.desk, name)).toEqual({ opened: 1, sealed: 0 });
  });

  test.each(WRONG)("%s lets the letter wait, and opens it once the clock is right", async (_how, off) => {
    const name = newName();
    ahead.receiver = off;
    const receiver = await watchAsBob();
    await receiver.desk.deliver(await send(name));
    await receiver.heard.lines.until(({ event }) => event === "letter.waits");
    expect(await foundOf(receiver.desk, name)).toEqual({ opened: 0, sealed: 1 });
    ahead.receiver = 0;
    await receiver.settled.until(() => true);
    expect(await foundOf(receiver.desk, name)).toEqual({ opened: 1, sealed: 0 });
  });
});

describe("a broker whose clock is", () => {
  const putsOff = async (_how: string, off: number): Promise<void> => {
    const name = newName();
    house.pass(off);
    expect(await submit(talk, letter(name))).toMatch(/^451 /u);
    house.pass(-off);
    await send(name);
  };
  test.each(WRONG)("%s puts letters off that are submitted", putsOff);

  test.each(WRONG)("%s lets letters wait that came in, and nothing is gone once it is right", async (_how, off) => {
    const name = newName();
    const sealed = await send(name);
    house.pass(off);
    const receiver = await watchAsBob();
    await receiver.desk.deliver(sealed);
    await receiver.heard.lines.until(({ event }) => event === "letter.waits" || event === "mailbox.waits");
    await sweep(house.broker);
    house.pass(-off);
    await receiver.settled.until(() => true);
    expect(await foundOf(receiver.desk, name)).toEqual({ opened: 1, sealed: 0 });
  });

  test.each(WRONG)("%s after an opening sends the receipt, and the sender's gateway takes it", async (_how, off) => {
    const name = newName();
    const receiver = await watchAsBob();
    await receiver.desk.deliver(await send(name));
    await receiver.settled.until(() => true);
    house.pass(off);
    await sendReceipts();
    expect(await readReceipt(name)).toEqual({ events: ["receipt.verified"], state: "opened" });
  });
});

test("a sending gateway whose clock is a day behind takes a receipt once its clock is right", async () => {
  const name = newName();
  const receiver = await watchAsBob();
  await receiver.desk.deliver(await send(name));
  await receiver.settled.until(() => true);
  await sendReceipts();
  ahead.sender = -DAY;
  await expect(readReceipt(name)).rejects.toMatchObject({ retry: "later" }); // so that the watcher comes back to it
});

test("a letter that waited longer than a day for its next hop can be opened", async () => {
  const name = newName();
  answer = "451 4.3.0 Not now";
  const [, id] = /^250 .* as ([0-9a-f]+)/u.exec(await submit(talk, letter(name))) ?? [];
  await gateway.heard.lines.until((line) => line.event === "letter.announced" && line["accepted"] === id);
  house.pass(DAY + MINUTE);
  [ahead.sender, ahead.receiver] = [DAY + MINUTE, DAY + MINUTE];
  await sweep(house.broker);
  answer = undefined;
  const receiver = await watchAsBob();
  await receiver.desk.deliver(await taken(name));
  await receiver.settled.until(() => true);
  expect(await foundOf(receiver.desk, name)).toEqual({ opened: 1, sealed: 0 });
});

test("a broker whose clock fell back behind the enrolment of a mailbox lets its letter wait", async () => {
  house.pass(2 * DAY);
  [ahead.sender, ahead.receiver] = [2 * DAY, 2 * DAY];
  const carol = await bob.gateway.enrol(CAROL);
  const name = newName();
  expect(await submit(talk, letter(name), CAROL)).toMatch(/^250 /u);
  const receiver = await openReceiver(house, carol, dovecot, { now: () => clock(ahead.receiver) });
  receivers.push(receiver);
  house.pass(-DAY);
  await receiver.desk.deliver(await taken(name));
  const [line] = await receiver.heard.lines.until(({ event }) => /letter\.(?:waits|not-opened)|mailbox\.waits/u.test(event));
  expect(line?.event).not.toBe("letter.not-opened");
});
