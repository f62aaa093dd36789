/** The inbound walk in Dovecot's mailboxes (S6-S10): filed once, confirmed after it was filed, put away last, wherever the power goes. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { sessionHash } from "../../broker/session.ts";
import { openTicket, ticketHash } from "../../broker/ticket.ts";
import { Fault } from "../../mime/fault.ts";
import { openHouse, type House, type Member } from "../broker/house.ts";
import { startDovecot, type DovecotServer } from "../servers/dovecot.ts";
import { startProxy } from "../servers/proxy.ts";
import { PASSWORD, openDesk, type Desk, type PowerCut } from "./inbound-place.ts";
import { openOffice, type Copy, type Office } from "./outbound-place.ts";

const BOB = "bob@b.example";
const CAROL = "carol@b.example";
const SUBMITTED = `From: alice@a.example\r\nTo: ${BOB}\r\nSubject: the secret subject\r\nMessage-ID: <1@a.example>\r\nDate: Sun, 01 Mar 2026 12:00:00 +0000\r\n\r\nThe secret text.\r\n`;

let house: House;
let dovecot: DovecotServer;
let alice: Member;
let bob: Member;
let carol: Member;
let office: Office;
let desk: Desk;
let copy: Copy;
const desks: Desk[] = [];

beforeAll(async () => {
  [house, dovecot] = await Promise.all([openHouse(), startDovecot({ users: { [BOB]: PASSWORD, [CAROL]: PASSWORD } })]);
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  const b = await house.gateway("b.example");
  [bob, carol] = [await b.enrol(BOB), await b.enrol(CAROL)];
});
beforeEach(async () => {
  office = await openOffice(house, alice);
  await office.send(SUBMITTED, [BOB]);
  copy = firstOf(await office.copies());
  desk = await open(bob);
});
afterEach(async () => {
  for (const one of desks.splice(0)) await one.close();
  await office.close();
});
afterAll(async () => {
  await house?.stop();
  await dovecot?.stop();
});

function firstOf<T>([first]: readonly T[]): T {
  if (first === undefined) throw new Error("there is none");
  return first;
}

async function open(member: Member, changes: Parameters<typeof openDesk>[3] = {}): Promise<Desk> {
  const opened = await openDesk(house, member, dovecot, changes);
  desks.push(opened);
  return opened;
}

const row = () => house.table.find(sessionHash(openTicket(copy.ticket, house.broker.sessionKeys).sessionId));
const session = (): string => ticketHash(copy.ticket);
const isOpened = ({ text }: { text: string }): boolean => text.includes("The secret text.");
const isSealed = ({ text }: { text: string }): boolean => text.includes("registered.p7m");

test("a letter is opened, filed below what was found out, confirmed, and its sealed original removed", async () => {
  await desk.deliver(copy.mail);
  expect(await desk.look()).toEqual([]);
  const [letter, ...others] = await desk.mails();
  expect(others).toEqual([]);
  expect(letter?.text).toMatch(/^Authentication-Results: gateway\.b\.example; smime=pass/u);
  expect(letter?.text).toContain(`Kakitome-Session: ${session()}`);
  expect(letter?.text).toContain("Subject: the secret subject");
  expect(await row()).toMatchObject({ state: "confirmed" });
  expect(await desk.journal.find(BOB, session())).toMatchObject({ stage: "confirmed", mailbox: BOB, messageId: "<1@a.example>" });
});

const FORMS = (["held", "enclosed"] as const).flatMap((hold) =>
  (["inner", "outer", "both"] as const).map((signing) => ({ hold, signing })),
);

describe.each(FORMS)("a letter that is $hold and signed $signing", (form) => {
  test.each(["next-session", "same-session"] as const)("is opened, filed and confirmed, %s", async (confirm) => {
    const other = await openOffice(house, alice, undefined, { forms: { [BOB]: form }, confirm });
    await other.send(SUBMITTED, [BOB]);
    copy = firstOf(await other.copies());
    await other.close();
    expect(copy.mail.includes("secret")).toBe(false);
    await desk.deliver(copy.mail);
    expect(await desk.look()).toEqual([]);
    const letter = firstOf(await desk.mails());
    expect(letter.text).toMatch(/^Authentication-Results: gateway\.b\.example; smime=pass/u);
    expect(isOpened(letter)).toBe(true);
    expect(await row()).toMatchObject({ state: "confirmed" });
    expect(await desk.journal.find(BOB, session())).toMatchObject({ stage: "confirmed", messageId: "<1@a.example>" });
  });

  test("is, plain, exactly what was submitted below the two fields", async () => {
    const other = await openOffice(house, alice, undefined, { forms: { [BOB]: form } });
    await other.send(SUBMITTED, [BOB]);
    const plain = await open(bob, { deliver: "plain" });
    await plain.deliver(firstOf(await other.copies()).mail);
    await other.close();
    expect(await plain.look()).toEqual([]);
    const { text } = firstOf(await plain.mails());
    expect(text.slice(text.indexOf("From:"))).toBe(SUBMITTED);
  });
});

describe("while certificates are renewed", () => {
  const toCarol = async (): Promise<Copy> => {
    const other = await openOffice(house, alice);
    await other.send(SUBMITTED.replaceAll(BOB, CAROL), [CAROL]);
    const sealed = firstOf(await other.copies());
    await other.close();
    return sealed;
  };

  test("a letter to the next one waits until its key is here; one whose key is lost does not", async () => {
    const formerly = await toCarol();
    const former = carol.identity;
    const member = { ...carol };
    const renewed = await carol.gateway.enrol(CAROL); // from here on the broker gives it to senders
    carol = { ...renewed, identity: { ...renewed.identity, openers: [...renewed.identity.openers, ...former.openers] } };

    const waiting = await open(member);
    await waiting.deliver((await toCarol()).mail);
    expect(await waiting.look()).toEqual([expect.objectContaining({ code: "unavailable" })]);
    const before = await waiting.mails();
    expect(before.map(({ flags }) => flags.filter((flag) => flag !== "\\Recent"))).toEqual([[]]);
    expect(before.filter(isSealed)).toHaveLength(1);
    member.identity = carol.identity;
    expect(await waiting.look()).toEqual([]);
    expect((await waiting.mails()).map(isOpened)).toEqual([true]);

    const lost = await open(renewed);
    await lost.deliver(formerly.mail);
    expect(await lost.look()).toEqual([]);
    expect(firstOf(await lost.mails()).flags).toContain("$KakitomeNotOpened");
  });

  test("a gateway that has not the key of a letter lets go of it, and the one that renewed comes to it", async () => {
    const former = { ...carol };
    carol = await carol.gateway.enrol(CAROL);
    const letter = await toCarol();
    const [without, having] = [await open(former), await open(carol)];
    for (const one of [without, having]) await one.deliver(letter.mail);
    const waits = [expect.objectContaining({ code: "unavailable" })];
    expect(await without.look()).toEqual(waits);
    expect(await having.look()).toEqual(waits); // the claim is the other one's
    house.pass(40_000);
    expect(await without.look()).toEqual(waits);
    house.pass(40_000);
    expect(await having.look()).toEqual([]);
    expect((await having.mails()).map(isOpened)).toEqual([true]);
    expect(without.broker.calls).toEqual(["present"]);
  });
});

test("flags and date of the sealed letter are those of the opened one", async () => {
  const date = new Date("2026-01-02T03:04:05Z");
  await desk.deliver(copy.mail, ["\\Seen", "\\Flagged", "$Work"], date);
  await desk.look();
  const letter = firstOf(await desk.mails());
  expect(letter.flags).toEqual(expect.arrayContaining(["\\Seen", "\\Flagged", "$Work"]));
  expect(letter.date).toBe(date.getTime());
});

test("plain, the letter is exactly what was submitted below the two fields", async () => {
  const plain = await open(bob, { deliver: "plain" });
  await plain.deliver(copy.mail);
  await plain.look();
  const { text } = firstOf(await plain.mails());
  expect(text.slice(text.indexOf("From:"))).toBe(SUBMITTED);
});

test("folders for opened letters and sealed originals are made and used", async () => {
  const filing = await open(bob, { imap: { opened: "Registered", sealed: "Sealed" } });
  await filing.deliver(copy.mail);
  await filing.look();
  expect(await filing.mails()).toEqual([]);
  expect((await filing.mails("Registered")).filter(isOpened)).toHaveLength(1);
  expect((await filing.mails("Sealed")).filter(isSealed)).toHaveLength(1);
});

/** Each place where the power can go, and what the broker is asked in the next life. */
const CUTS: readonly (readonly [string, PowerCut, ("present" | "confirm")[]])[] = [
  ["when it was begun and nothing was asked", { stage: "begun", when: "after" }, ["present", "confirm"]],
  ["when the copy was filed and the journal did not know", { stage: "filed", when: "before" }, ["present", "confirm"]],
  ["when the journal knew it was filed", { stage: "filed", when: "after" }, ["confirm"]],
  ["when it was confirmed and the journal did not know", { stage: "confirmed", when: "before" }, ["confirm"]],
  ["when it was confirmed and only the original was left", { stage: "confirmed", when: "after" }, []],
];

describe("the power goes", () => {
  test.each(CUTS)("%s: one opened letter, one confirmation, no original", async (_when, cut, calls) => {
    await desk.deliver(copy.mail);
    desk.journal.cut = cut;
    expect(await desk.look()).toHaveLength(1);
    expect((await desk.mails()).filter(isSealed)).toHaveLength(1); // the only copy is never taken
    desk.journal.cut = undefined;
    desk.broker.calls.length = 0;
    expect(await desk.look()).toEqual([]);
    expect(desk.broker.calls).toEqual(calls);
    const mails = await desk.mails();
    expect([mails.filter(isOpened).length, mails.filter(isSealed).length]).toEqual([1, 0]);
    expect(await row()).toMatchObject({ state: "confirmed" });
    expect(await desk.journal.find(BOB, session())).toMatchObject({ stage: "confirmed", messageId: "<1@a.example>" });
  });

  test("a receipt never speaks of a letter that is not in the mailbox: nothing is confirmed before it is filed", async () => {
    await desk.deliver(copy.mail);
    desk.journal.cut = { stage: "filed", when: "before" };
    await desk.look();
    expect(await row()).toMatchObject({ state: "released" });
    expect(await house.table.pending()).not.toContainEqual(expect.objectContaining({ session: (await row())?.session }));
  });
});

test("a copy that the mail server delivers twice is filed once, and both originals go", async () => {
  await desk.deliver(copy.mail);
  await desk.deliver(copy.mail);
  expect(await desk.look()).toEqual([]);
  const mails = await desk.mails();
  expect([mails.filter(isOpened).length, mails.filter(isSealed).length]).toEqual([1, 0]);
});

test("two copies that are looked at at the same time are one letter", async () => {
  await desk.deliver(copy.mail);
  await desk.deliver(copy.mail);
  expect(await desk.look({ atOnce: true })).toEqual([]);
  const mails = await desk.mails();
  expect([mails.filter(isOpened).length, mails.filter(isSealed).length]).toEqual([1, 0]);
  expect(desk.broker.calls).toEqual(["present", "confirm"]);
});

test("with the broker away the letter waits as it is, and is opened when it is back", async () => {
  await desk.deliver(copy.mail);
  desk.broker.fail = new Fault("unavailable", "away");
  expect(await desk.look()).toEqual([expect.objectContaining({ code: "unavailable" })]);
  expect((await desk.mails())[0]?.flags).not.toContain("$KakitomeNotOpened");
  desk.broker.fail = undefined;
  expect(await desk.look()).toEqual([]);
  expect((await desk.mails()).filter(isOpened)).toHaveLength(1);
});

test("a mail that claims to be the opened copy does not stand for it: who knows a ticket cannot make a letter vanish with a receipt", async () => {
  await desk.deliver(Buffer.from(`From: alice@a.example\r\nKakitome-Session: ${session()}\r\n\r\nI am the letter.\r\n`));
  await desk.deliver(copy.mail);
  desk.broker.fail = new Fault("unavailable", "away for a moment, as a crash would be");
  await desk.look();
  desk.broker.fail = undefined;
  await desk.look();
  const mails = await desk.mails();
  expect(mails.filter(isOpened)).toHaveLength(1);
});

test("a letter that came to another mailbox of this gateway first is still opened for its recipient", async () => {
  const other = await open(carol, { journal: desk.journal });
  await other.deliver(copy.mail); // a list, a forward, or somebody who wants it lost
  await other.look();
  expect((await other.mails())[0]?.flags).toContain("$KakitomeNotOpened");
  await desk.deliver(copy.mail);
  await desk.look();
  expect((await desk.mails()).filter(isOpened)).toHaveLength(1);
});

describe("a letter that does not open stays, flagged, and no key is asked for again", () => {
  const altered = (mail: Buffer): Buffer => {
    const text = mail.toString("latin1");
    const end = text.lastIndexOf("=\r\n") > 0 ? text.lastIndexOf("\r\n--") - 60 : text.lastIndexOf("\r\n--") - 60;
    return Buffer.from(text.slice(0, end) + (text[end] === "A" ? "B" : "A") + text.slice(end + 1), "latin1");
  };

  test("altered on its way", async () => {
    await desk.deliver(altered(copy.mail));
    expect(await desk.look()).toEqual([]);
    const [mail, ...others] = await desk.mails();
    expect(others).toEqual([]);
    expect(mail?.flags).toContain("$KakitomeNotOpened");
    expect(mail?.flags).not.toContain("\\Seen");
    expect(await desk.journal.find(BOB, session())).toMatchObject({ stage: "failed", fault: "cannot-open" });
    expect((await row())?.state).toBe("released"); // and never confirmed
    desk.broker.calls.length = 0;
    await desk.look();
    expect(desk.broker.calls).toEqual([]);
  });

  test("and does not stand in the way of the true one: who knows a ticket cannot make a letter unreadable by being first", async () => {
    await desk.deliver(altered(copy.mail));
    await desk.look();
    await desk.deliver(Buffer.concat([Buffer.from("Received: on another way\r\n"), altered(copy.mail)]));
    await desk.look();
    expect(desk.broker.calls).toEqual(["present"]); // the same once more
    await desk.deliver(copy.mail);
    expect(await desk.look()).toEqual([]);
    expect((await desk.mails()).filter(isOpened)).toHaveLength(1);
    expect(await row()).toMatchObject({ state: "confirmed" });
  });

  test("on a server that keeps no keywords: the journal knows", async () => {
    const proxy = await startProxy(dovecot.imapPort, (text) => text.replaceAll(/(PERMANENTFLAGS [^)]*) \\\*\)/gu, "$1)"));
    const poor = await open(bob, { imap: { port: proxy.port } });
    await poor.deliver(altered(copy.mail));
    expect(await poor.look()).toEqual([]);
    expect((await poor.mails())[0]?.flags).not.toContain("$KakitomeNotOpened");
    expect(await poor.journal.find(BOB, session())).toMatchObject({ stage: "failed", fault: "cannot-open" });
    expect(await poor.look()).toEqual([]);
    expect(poor.broker.calls).toEqual(["present"]);
    await proxy.close();
  });

  test("with the power cut before it is flagged", async () => {
    await desk.deliver(altered(copy.mail));
    desk.journal.cut = { stage: "failed", when: "after" };
    expect(await desk.look()).toHaveLength(1);
    desk.journal.cut = undefined;
    expect(await desk.look()).toEqual([]);
    expect((await desk.mails()).map(isSealed)).toEqual([true]);
    expect(desk.broker.calls).toEqual(["present"]);
  });

  test.each<[string, () => Promise<void>, string]>([
    ["withdrawn", () => office.broker.withdraw([copy.ticket], new AbortController().signal), "session-gone"],
    ["kept by another broker", async () => void Object.assign(desk.parts, { brokerUrl: "https://other.example" }), "forbidden"],
  ])("%s", async (_why, prepare, fault) => {
    await prepare();
    await desk.deliver(copy.mail);
    expect(await desk.look()).toEqual([]);
    expect((await desk.mails())[0]?.flags).toContain("$KakitomeNotOpened");
    expect(await desk.journal.find(BOB, session())).toMatchObject({ stage: "failed", fault });
  });

  test("with an envelope that cannot be read", async () => {
    await desk.deliver(Buffer.from(copy.mail.toString("latin1").replace(/\r\nMII/u, "\r\nAAA"), "latin1"));
    expect(await desk.look()).toEqual([]);
    expect((await desk.mails())[0]?.flags).toContain("$KakitomeNotOpened");
    expect(desk.broker.calls).toEqual([]);
  });
});

test.each([
  ["an ordinary mail", "From: x@y.example\r\nSubject: hi\r\n\r\ntext\r\n"],
  ["an S/MIME mail of somebody else", 'Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name="smime.p7m"\r\n\r\nMII\r\n'],
])("%s is never touched", async (_why, mail) => {
  await desk.deliver(Buffer.from(mail));
  expect(await desk.look()).toEqual([]);
  const [kept] = await desk.mails();
  expect([kept?.text, kept?.flags.filter((flag) => flag !== "\\Recent")]).toEqual([mail, []]);
});
