/** What a mail asks for itself, and what becomes of its recipients together: keywords and fields taken out, some sealed and one notice about the others, and the broker away. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { duration } from "../../config/units.ts";
import { decodedBody, parseEntity, splitMultipart } from "../../mime/entity.ts";
import { Fault } from "../../mime/fault.ts";
import { splitMessage, valueOf } from "../../mime/headers.ts";
import { openWithPrivateKey } from "../../mime/open.ts";
import { decodedWords } from "../../gateway/subject.ts";
import { openHouse, type House, type Member } from "../broker/house.ts";
import { startHop } from "./hop.ts";
import { certificateOf, openAs, openOffice, recipientOf, type Office, type OfficeOptions } from "./outbound-place.ts";

const BOB = "bob@b.example";
const CAROL = "carol@b.example";
const DAVE = "dave@c.example";

let house: House;
let alice: Member;
let bob: Member;
const running: (() => Promise<void>)[] = [];

beforeAll(async () => {
  house = await openHouse();
  alice = await (await house.gateway("a.example")).enrol("alice@a.example", ["a.liddell@a.example"]);
  const b = await house.gateway("b.example");
  bob = await b.enrol(BOB);
  await b.enrol(CAROL);
});
afterEach(async () => {
  for (let stop = running.pop(); stop; stop = running.pop()) await stop();
});
afterAll(() => house?.stop());

async function office(options: OfficeOptions = {}, port?: number): Promise<Office> {
  const open = await openOffice(house, alice, port, options);
  running.push(() => open.close());
  return open;
}

async function officeAndHop(options: OfficeOptions = {}) {
  const hop = await startHop();
  running.push(() => hop.close());
  return { hop, open: await office(options, hop.port) };
}

const letter = (...fields: string[]): string =>
  ["From: alice@a.example", `To: ${BOB}, ${CAROL}, ${DAVE}`, "Message-ID: <1@a.example>", ...fields, "", "The secret text.", ""].join("\n");
const valuesOf = (mail: Buffer, name: string): string[] =>
  splitMessage(mail)
    .fields.filter((item) => item.name === name)
    .map((item) => valueOf(item));
const unenrolled = (address: string) => ({ ...recipientOf(address, "pass"), standing: "none" as const });

describe("what a mail asked for is gone before anything is signed:", () => {
  test.each([
    ["a keyword", "Subject: [registered] the plan", "the plan"],
    ["a keyword behind an answer's prefix", "Subject: Re: [seal]  the plan", "Re: the plan"],
    ["both keywords", "Subject: [seal] [Registered] the plan", "the plan"],
    ["a keyword on a folded line", "Subject:\n [registered] the\n plan", "the plan"],
    ["a keyword in encoded words", "Subject: =?utf-8?B?W3JlZ2lzdGVyZWRdIOimi+epjeabuA==?=", "見積書"],
    ["a keyword in two encoded words", "Subject: =?utf-8?Q?=5Bregis?=\n =?utf-8?Q?tered=5D_=E8=A6=8B?=", "見"],
    ["a keyword in front of encoded words", "Subject: [seal] =?utf-8?B?6KaL56mN5pu4?=", "見積書"],
    ["no keyword, so not a octet of it changes", "Subject: the [registered]  plan", "the [registered]  plan"],
  ])("%s", async (_why, field, subject) => {
    const open = await office();
    await open.send(letter(field, "Kakitome-Expires: +7d", "Kakitome-Receipt: yes"), [BOB]);
    const [copy] = await open.copies();
    if (!copy) throw new Error("no copy");
    const { payload } = await openAs(house, bob, copy);
    const inside = payload.fields.filter(({ name }) => name === "subject").map((item) => decodedWords(valueOf(item)));
    expect(inside).toEqual([subject]);
    expect(payload.fields.filter(({ name }) => name.startsWith("kakitome"))).toEqual([]);
    expect(String(copy.mail)).not.toMatch(/^kakitome/imu);
    expect(valuesOf(copy.mail, "subject")).toEqual(["[...]"]);
  });

  test("also before a message is passed on unsealed", async () => {
    const { hop, open } = await officeAndHop();
    await open.send(letter("Subject: plain", "Kakitome-Receipt: yes"), [], { recipients: [unenrolled(DAVE)] });
    const [clear] = await hop.attempts.until(() => true);
    expect(String(clear?.mail)).not.toMatch(/^kakitome/imu);
  });
});

test("the words outside are the policy's, or the mail's own where no rule has them; beyond ASCII they are encoded", async () => {
  const open = await office({ rules: { rules: { [CAROL]: { subject: "書留" } } } });
  await open.send(letter("Kakitome-Subject: Registered mail"), [BOB, CAROL]);
  const copies = await open.copies();
  expect(copies.map(({ mail }) => decodedWords(valuesOf(mail, "subject").join()))).toEqual(["Registered mail", "書留"]);
  expect(String(copies[1]?.mail)).toContain("Subject: =?UTF-8?B?");
});

test("recipients whose terms differ are declared apart, each with the time and the wishes of its own", async () => {
  const rules = { [CAROL]: { expiry: "2d", warn: "1d", receipt: false }, [DAVE]: { language: "ja", confirm: "same-session" } } as const;
  const open = await office({ rules: { expiry: "10d", rules } });
  open.broker.fail = new Fault("internal", "far enough");
  for (const address of [BOB, CAROL, DAVE]) await expect(open.send(letter(), [address])).rejects.toThrow();
  const asked = open.broker.declared;
  const now = house.now().getTime();
  const days = (time: Date | undefined): number => Math.round(((time?.getTime() ?? 0) - now) / duration("1d"));
  expect(asked.map(({ expiresAt }) => days(expiresAt))).toEqual([10, 2, 10]);
  const recipients = asked.map(({ recipients: [first] }) => first);
  expect(recipients[0]).not.toHaveProperty("warnAt");
  expect(recipients[0]).not.toHaveProperty("receipt");
  expect(days(recipients[1]?.warnAt)).toBe(1);
  expect(recipients[1]).toMatchObject({ receipt: false });
  expect(asked[2]).toMatchObject({ language: "ja", confirm: "same-session" });
});

test("two recipients with different times go in two declarations, and each opens with the key of its own", async () => {
  const open = await office({ rules: { rules: { [CAROL]: { expiry: "2d" } } } });
  await open.send(letter(), [BOB, CAROL]);
  expect(open.broker.declared.map(({ recipients }) => recipients.map(({ address }) => address.key))).toEqual([[BOB], [CAROL]]);
  const [copy] = await open.copies();
  if (!copy) throw new Error("no copy");
  expect(String((await openAs(house, bob, copy)).payload.body)).toBe("The secret text.\r\n");
});

describe("a mail that asks to be sealed, to somebody enrolled and somebody who is not,", () => {
  const recipients = [recipientOf(BOB), unenrolled(DAVE)];

  test("goes sealed to the first; the sender gets one notice that names the other, and nothing goes in clear", async () => {
    const { hop, open } = await officeAndHop({ rules: { unenrolled: "pass" } });
    await open.send(letter("Subject: [seal] the secret subject"), [], { recipients: [...recipients, unenrolled("eve@c.example")] });
    const attempts = await hop.attempts.until(() => true, 2);
    const notice = attempts.find(({ from }) => from === "");
    expect(attempts.filter(({ from }) => from !== "").map(({ to }) => to)).toEqual([[BOB]]);
    expect(notice?.to).toEqual(["alice@a.example"]);
    const mail = notice?.mail ?? Buffer.alloc(0);
    const [text, status, original] = splitMultipart(parseEntity(mail)).map(String);
    expect(text).toContain(DAVE);
    expect(status?.match(/^Final-Recipient: rfc822; .*$/gmu)).toEqual([
      `Final-Recipient: rfc822; ${DAVE}`,
      "Final-Recipient: rfc822; eve@c.example",
    ]);
    expect(status).toMatch(/^Status: 5\.7\.5\r$/mu);
    expect(original).toContain("Message-ID: <1@a.example>");
    for (const { mail: any } of attempts) expect(String(any)).not.toContain("secret");
    expect([valuesOf(mail, "in-reply-to"), valuesOf(mail, "references")]).toEqual([["<1@a.example>"], ["<1@a.example>"]]);
    expect(valuesOf(mail, "auto-submitted")).toEqual(["auto-replied"]);
  });

  test("has its notice in the language of the policy", async () => {
    const { hop, open } = await officeAndHop({ rules: { unenrolled: "pass", rules: { [DAVE]: { language: "ja" } } } });
    await open.send(letter("Subject: [seal] x"), [], { recipients });
    const notice = (await hop.attempts.until(() => true, 2)).find(({ from }) => from === "");
    const [text] = splitMultipart(parseEntity(notice?.mail ?? Buffer.alloc(0)));
    expect(decodedBody(parseEntity(text ?? Buffer.alloc(0))).toString()).toContain("次の宛先には送っていません");
    expect(decodedWords(valuesOf(notice?.mail ?? Buffer.alloc(0), "subject").join())).toContain(DAVE);
  });

  test("has no notice where the client wanted none", async () => {
    const open = await office({ rules: { unenrolled: "pass" } });
    await open.send(letter("Subject: [seal] x"), [], { recipients: [recipientOf(BOB), { ...unenrolled(DAVE), notify: ["NEVER"] }] });
    expect((await open.spool.all()).map(({ entry }) => entry.sender)).toEqual(["alice@a.example"]);
  });

  test("is refused where nobody is left, and nothing is spooled", async () => {
    const open = await office({ rules: { unenrolled: "pass" } });
    const refusal = open.send(letter("Subject: [seal] x"), [], { recipients: [unenrolled(DAVE)] });
    await expect(refusal).rejects.toMatchObject({ code: "no-certificate", advice: expect.stringContaining(DAVE) });
    expect(await open.spool.all()).toEqual([]);
  });

  test("held by wish, it does not go enclosed to somebody whose certificate only we know", async () => {
    const open = await office({ known: new Map([[DAVE, certificateOf(bob)]]) });
    const known = { ...recipientOf(DAVE), standing: "known" as const };
    await expect(open.send(letter("Subject: [registered] x"), [], { recipients: [known] })).rejects.toMatchObject({
      code: "no-certificate",
    });
  });
});

test("the register knows whose key travels inside the letter, and whose the broker holds", async () => {
  const open = await office({ rules: { rules: { [BOB]: { hold: "enclosed" } } } });
  await open.send(letter(), [BOB, CAROL]);
  const [spooled] = await open.spool.all();
  expect(spooled?.entry.register?.recipients.map(({ address, isEnclosed }) => [address, isEnclosed])).toEqual([
    [BOB, true],
    [CAROL, undefined],
  ]);
});

describe("while the broker is away", () => {
  const away = new Fault("unavailable", "connect ECONNREFUSED");
  const cached = () => new Map([[BOB, certificateOf(bob)]]);
  const rules = { rules: { [BOB]: { whenBrokerDown: "enclosed" } } } as const;

  test("a letter waits where nothing says otherwise", async () => {
    const open = await office({ cached: cached() });
    open.broker.fail = away;
    await expect(open.send(letter(), [BOB])).rejects.toMatchObject({ code: "unavailable" });
    expect(await open.spool.all()).toEqual([]);
  });

  test("with whenBrokerDown: enclosed it goes signed and encrypted, never clear; log and sender are told", async () => {
    const { hop, open } = await officeAndHop({ rules, cached: cached() });
    open.broker.fail = away;
    await open.send(letter("Subject: the secret subject"), [BOB]);
    const attempts = await hop.attempts.until(() => true, 2);
    const copy = attempts.find(({ from }) => from !== "")?.mail ?? Buffer.alloc(0);
    const notice = attempts.find(({ from }) => from === "")?.mail ?? Buffer.alloc(0);
    expect(String(copy)).not.toContain("secret");
    const opened = openWithPrivateKey(decodedBody(parseEntity(copy)), bob.identity.openers);
    expect(String(opened)).toContain("The secret text.");
    expect(String(notice)).toContain(BOB);
    expect(String(notice)).toContain("No receipt will come");
    expect(valuesOf(notice, "in-reply-to")).toEqual(["<1@a.example>"]);
    expect(house.heard.lines.all.some(({ event }) => event === "letter.without-broker")).toBe(true);
    const [sent] = await open.letters.all();
    expect(sent?.recipients).toMatchObject([{ address: BOB, state: "without-broker" }]);
    expect(sent?.recipients[0]).not.toHaveProperty("ticket");
  });

  test.each([
    ["one of the recipients has to wait", [BOB, CAROL], letter()],
    ["the mail asks to be registered", [BOB], letter("Subject: [registered] x")],
  ])("all wait where %s", async (_why, recipients, mail) => {
    const open = await office({ rules, cached: cached() });
    open.broker.fail = away;
    await expect(open.send(mail, recipients)).rejects.toMatchObject({ code: "unavailable" });
    expect(await open.spool.all()).toEqual([]);
  });

  test("a recipient whose certificate was never seen waits", async () => {
    const open = await office({ rules });
    open.broker.fail = away;
    await expect(open.send(letter(), [BOB])).rejects.toMatchObject({ code: "unavailable" });
  });

  test("another refusal of the broker is no reason to go without it", async () => {
    const open = await office({ rules, cached: cached() });
    open.broker.fail = new Fault("forbidden", "revoked");
    await expect(open.send(letter(), [BOB])).rejects.toMatchObject({ code: "forbidden" });
  });
});
