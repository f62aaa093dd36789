/** The inbound hop by Dovecot's LMTP (S6-S10): opened and handed on before it is confirmed, answered 250 last, wherever the power goes. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { sessionHash } from "../../broker/session.ts";
import { openTicket, ticketHash } from "../../broker/ticket.ts";
import { Fault } from "../../mime/fault.ts";
import { forever, openHouse, type House, type Member } from "../broker/house.ts";
import { startDovecot, type DovecotServer } from "../servers/dovecot.ts";
import { mailsOf, openPost, withoutTrace, type Post, type PostOptions } from "./arrival-place.ts";
import { startHop } from "./hop.ts";
import { PASSWORD, type PowerCut } from "./inbound-place.ts";
import { openOffice, type Copy, type Office } from "./outbound-place.ts";

const ALIAS = "bob58@b.example";
const TEXT = "The secret text.";

let house: House;
let dovecot: DovecotServer;
let alice: Member;
let bob: Member;
let office: Office;
let post: Post;
let copy: Copy;
let name: string;
let count = 0;
const running: (() => Promise<void>)[] = [];

beforeAll(async () => {
  const users = Object.fromEntries(Array.from({ length: 60 }, (_, at) => [`bob${at}@b.example`, PASSWORD]));
  [house, dovecot] = await Promise.all([openHouse(), startDovecot({ users })]);
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
});
beforeEach(async () => {
  name = `bob${count++}@b.example`; // a mailbox of its own for each test
  bob = await (await house.gateway("b.example")).enrol(name);
  office = await openOffice(house, alice);
  running.push(() => office.close());
  await office.send(submitted(), [name]);
  const [first] = await office.copies();
  if (!first) throw new Error("there is none");
  copy = first;
  post = await open();
});
afterEach(async () => {
  for (let stop = running.pop(); stop; stop = running.pop()) await stop();
});
afterAll(async () => {
  await house?.stop();
  await dovecot?.stop();
});

const submitted = (): string =>
  `From: alice@a.example\r\nTo: ${name}\r\nSubject: the secret subject\r\nMessage-ID: <1@a.example>\r\nDate: Sun, 01 Mar 2026 12:00:00 +0000\r\n\r\n${TEXT}\r\n`;

async function open(changes: Partial<PostOptions> = {}): Promise<Post> {
  const opened = await openPost(house, { deliver: { port: dovecot.lmtpPort }, members: [bob], ...changes });
  running.push(() => opened.stop());
  return opened;
}

const row = () => house.table.find(sessionHash(openTicket(copy.ticket, house.broker.sessionKeys).sessionId));
const session = (): string => ticketHash(copy.ticket);
const mails = () => mailsOf(dovecot, name).map((mail) => mail.toString("latin1"));
const isOpened = (text: string): boolean => text.includes(TEXT);
const isSealed = (text: string): boolean => text.includes("registered.p7m");
/** How many mails are there, opened and sealed. */
const counted = () => [mails().filter(isOpened).length, mails().filter(isSealed).length];

test("a letter is opened, handed on below what was found out and our trace, confirmed, and answered 250", async () => {
  expect(await post.bring(name, copy.mail)).toMatch(/^250 2\.0\.0 Accepted as [0-9a-f]{32}$/u);
  const [letter = "", ...others] = mails();
  expect(others).toEqual([]);
  expect(letter).toMatch(/^Return-Path: <alice@a\.example>\r\n/u);
  expect(letter).toMatch(/\r\nReceived: by gateway\.b\.example \(Kakitome inbound\) with LMTP\r\n id [0-9a-f]{32}; /u);
  expect(withoutTrace(Buffer.from(letter, "latin1"))).toMatch(/^Authentication-Results: gateway\.b\.example; smime=pass/u);
  expect(letter).toContain(`Kakitome-Session: ${session()}`);
  expect(letter).toContain("Subject: the secret subject");
  expect(await row()).toMatchObject({ state: "confirmed" });
  expect(await post.journal.find(name, session())).toMatchObject({ stage: "confirmed", messageId: "<1@a.example>" });
});

test("plain, the letter is exactly what was submitted below the two fields; an alias is as good as the address", async () => {
  const plain = await open({ mailbox: { deliver: "plain", aliases: [ALIAS] } });
  expect(await plain.bring(ALIAS, copy.mail)).toMatch(/^250 /u);
  const text = mailsOf(dovecot, ALIAS).at(-1)?.toString("latin1") ?? "";
  expect(text.slice(text.indexOf("From:"))).toBe(submitted());
});

test("a letter that comes again after it was confirmed is answered 250 and not handed on", async () => {
  await post.bring(name, copy.mail);
  await post.restart();
  post.broker.calls.length = 0;
  expect(await post.bring(name, copy.mail)).toMatch(/^250 /u);
  expect(post.broker.calls).toEqual([]);
  expect(counted()).toEqual([1, 0]);
});

test("two copies that are brought at the same time are one letter", async () => {
  const replies = await Promise.all([post.bring(name, copy.mail), post.bring(name, copy.mail)]);
  expect(replies.map((reply) => reply.slice(0, 3))).toEqual(["250", "250"]);
  expect(counted()).toEqual([1, 0]);
  expect(post.broker.calls).toEqual(["present", "confirm"]);
});

test("with the broker away the letter is put off and nothing is handed on; when it is back it is opened", async () => {
  post.broker.fail = new Fault("unavailable", "away");
  expect(await post.bring(name, copy.mail)).toMatch(/^451 4\.4\.1 The broker cannot be reached/u);
  expect(mails()).toEqual([]);
  post.broker.fail = undefined;
  expect(await post.bring(name, copy.mail)).toMatch(/^250 /u);
  expect(counted()).toEqual([1, 0]);
});

test("with a broker that does not take our certificate the letter is put off, and does not come back to its sender", async () => {
  post.broker.fail = new Fault("unauthenticated", "unknown channel");
  expect(await post.bring(name, copy.mail)).toMatch(/^451 /u);
  expect(mails()).toEqual([]);
});

test("with the delivery server away the letter is put off and nothing is confirmed; when it is back it is opened once", async () => {
  await dovecot.kill();
  expect(await post.bring(name, copy.mail)).toMatch(/^451 4\.\S+ The delivery server cannot be reached/u);
  expect(await row()).toMatchObject({ state: "released" });
  await dovecot.restart();
  expect(await post.bring(name, copy.mail)).toMatch(/^250 /u);
  expect(counted()).toEqual([1, 0]);
  expect(await row()).toMatchObject({ state: "confirmed" });
});

/** Each place where the power can go, what the broker is asked in the next life, and how many opened letters there are then. */
const CUTS: readonly (readonly [string, PowerCut, ("present" | "confirm")[], number])[] = [
  ["when it was begun and nothing was asked", { stage: "begun", when: "after" }, ["present", "confirm"], 1],
  [
    "when it was handed on and the journal did not know: twice, as with any relay",
    { stage: "filed", when: "before" },
    ["present", "confirm"],
    2,
  ],
  ["when the journal knew it was handed on", { stage: "filed", when: "after" }, ["confirm"], 1],
  ["when it was confirmed and the journal did not know", { stage: "confirmed", when: "before" }, ["confirm"], 1],
  ["when it was confirmed and only the 250 was not said", { stage: "confirmed", when: "after" }, [], 1],
];

describe("the power goes", () => {
  test.each(CUTS)("%s", async (_when, cut, calls, opened) => {
    post.journal.cut = cut;
    expect(await post.bring(name, copy.mail)).toMatch(/^451 /u);
    post.journal.cut = undefined;
    post.broker.calls.length = 0;
    await post.restart();
    expect(await post.bring(name, copy.mail)).toMatch(/^250 /u);
    expect(post.broker.calls).toEqual(calls);
    expect(counted()).toEqual([opened, 0]);
    expect(await row()).toMatchObject({ state: "confirmed" });
  });

  test("a disk that stays full behind the delivery does not hand the letter on at each attempt", async () => {
    post.journal.cut = { stage: "filed", when: "before" };
    for (let attempt = 0; attempt < 3; attempt++) expect(await post.bring(name, copy.mail)).toMatch(/^451 /u);
    post.journal.cut = undefined;
    expect(await post.bring(name, copy.mail)).toMatch(/^250 /u);
    expect(counted()).toEqual([1, 0]);
  });
});

describe("a letter that does not open is handed on sealed as it came, and no key is asked for again", () => {
  const altered = (mail: Buffer): Buffer => {
    const text = mail.toString("latin1");
    const at = text.lastIndexOf("\r\n--") - 60;
    return Buffer.from(text.slice(0, at) + (text[at] === "A" ? "B" : "A") + text.slice(at + 1), "latin1");
  };

  test.each<[string, () => Promise<Buffer>, string]>([
    ["altered on its way", async () => altered(copy.mail), "cannot-open"],
    ["withdrawn", async () => office.broker.withdraw([copy.ticket], forever).then(() => copy.mail), "session-gone"],
  ])("%s", async (_why, prepare, fault) => {
    const mail = await prepare();
    expect(await post.bring(name, mail)).toMatch(/^250 /u);
    expect(mailsOf(dovecot, name).map(withoutTrace)).toEqual([withoutTrace(mail)]);
    expect(await post.journal.find(name, session())).toMatchObject({ stage: "failed", fault });
    post.broker.calls.length = 0;
    await post.bring(name, mail);
    expect([post.broker.calls, counted()]).toEqual([[], [0, 2]]); // brought twice
  });

  test("with an envelope that cannot be read", async () => {
    const mail = Buffer.from(copy.mail.toString("latin1").replace(/\r\nMII/u, "\r\nAAA"), "latin1");
    expect(await post.bring(name, mail)).toMatch(/^250 /u);
    expect(mailsOf(dovecot, name).map(withoutTrace)).toEqual([withoutTrace(mail)]);
  });

  test("not where it was handed on before and only its confirmation is refused: its reader has it", async () => {
    post.journal.cut = { stage: "filed", when: "after" };
    await post.bring(name, copy.mail);
    post.journal.cut = undefined;
    post.broker.fail = new Fault("session-gone", "expired meanwhile");
    expect(await post.bring(name, copy.mail)).toMatch(/^250 /u);
    expect(counted()).toEqual([1, 0]);
  });
});

test("what the delivery server refuses for good is refused with its words, is not confirmed, and can come again", async () => {
  let full = true;
  const server = await startHop({ lmtp: true, onMail: () => (full ? "552 5.2.2 <bob> Quota exceeded" : undefined) });
  const other = await open({ deliver: { port: server.port } });
  running.push(() => server.close());
  expect(await other.bring(name, copy.mail)).toBe("552 5.2.2 The delivery server says: <bob> Quota exceeded");
  expect(server.attempts.all.map(({ mail }) => isOpened(String(mail)))).toEqual([true]); // and not once more, sealed
  expect(await row()).toMatchObject({ state: "released" });
  full = false;
  expect(await other.bring(name, copy.mail)).toMatch(/^250 /u);
  expect(await row()).toMatchObject({ state: "confirmed" });
});

test("in place of a letter that its sender recalled a note is handed on, once", async () => {
  await office.broker.recall([copy.ticket], alice.identity, forever);
  expect(await post.bring(name, copy.mail)).toMatch(/^250 /u);
  expect(await post.bring(name, copy.mail)).toMatch(/^250 /u);
  const [note = "", ...others] = mails();
  expect([isOpened(note), isSealed(note), others]).toEqual([false, false, []]);
  expect(note).toContain("<1@a.example>");
  expect(await post.journal.find(name, session())).toMatchObject({ stage: "recalled" });
});

test("a letter to somebody whose mailbox is not ours, or is watched, goes on sealed", async () => {
  const imap = { host: "127.0.0.1", port: dovecot.imapPort, tls: "none", user: name, passwordFile: "none" };
  const watched = await open({ mailbox: { imap } });
  expect(await watched.bring(name, copy.mail)).toMatch(/^250 /u);
  expect(counted()).toEqual([0, 1]);
  const stranger = "bob59@b.example";
  expect(await post.bring(stranger, copy.mail)).toMatch(/^250 /u);
  expect(mailsOf(dovecot, stranger).map(withoutTrace)).toEqual([withoutTrace(copy.mail)]);
  expect(post.broker.calls).toEqual([]);
});
