/** The outbound walk: one common letter for To and Cc, one of its own for each blind recipient; sealed, spooled and recorded before the 250 (S1-S5). */
import { createHash } from "node:crypto";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { Fault } from "../../mime/fault.ts";
import { splitMessage, valueOf } from "../../mime/headers.ts";
import { openHouse, type House, type Member } from "../broker/house.ts";
import { startHop, type HopOptions } from "./hop.ts";
import { openAs, openOffice, recipientOf, type Office } from "./outbound-place.ts";

const BOB = "bob@b.example";
const CAROL = "carol@b.example";
const DAVE = "dave@b.example";
const EVE = "eve@b.example";

let house: House;
let alice: Member;
let office: Office;
const members = new Map<string, Member>();
const running: (() => Promise<void>)[] = [];

beforeAll(async () => {
  house = await openHouse();
  alice = await (await house.gateway("a.example")).enrol("alice@a.example", ["a.liddell@a.example"]);
  const b = await house.gateway("b.example");
  for (const address of [BOB, CAROL, DAVE, EVE]) members.set(address, await b.enrol(address));
});
beforeEach(async () => {
  office = await openOffice(house, alice);
});
afterEach(async () => {
  for (let stop = running.pop(); stop; stop = running.pop()) await stop();
  await office.close();
});
afterAll(() => house?.stop());

const HEAD = ["From: Alice <alice@a.example>", `To: Bob <${BOB}>`, `Cc: ${CAROL}`, "Subject: the secret subject"];
const LETTER = [...HEAD, "Message-ID: <1@a.example>", "Date: Sun, 01 Mar 2026 12:00:00 +0000", "", "The secret text.", ""].join("\n");
const fieldsOf = (mail: Buffer): string[][] => splitMessage(mail).fields.map((item) => [item.name, valueOf(item)]);

test("what is spooled shows From, To, Cc, Date and Message-ID, a Received on top, and neither subject nor text", async () => {
  const id = await office.send(LETTER, [BOB]);
  const [copy] = await office.copies();
  const [trace, ...rest] = fieldsOf(copy?.mail ?? Buffer.alloc(0));
  expect(trace?.[0]).toBe("received");
  expect(trace?.[1]).toContain(`by gateway.a.example (Kakitome) with ESMTPSA id ${id};`);
  expect(rest.map(([name]) => name)).toEqual(["from", "to", "cc", "message-id", "date", "subject", "mime-version", "content-type"]);
  expect(copy?.mail.includes("secret")).toBe(false);
  expect(rest).toContainEqual(["subject", "[...]"]);
});

test("To and Cc share one signed letter; each blind recipient gets one that names nobody else blind", async () => {
  const message = LETTER.replace("Subject", `Bcc: ${DAVE}, ${EVE}\nSubject`);
  await office.send(message, [BOB, CAROL, DAVE, EVE]);
  const { declared } = office.broker;
  const commits = declared[0]?.recipients.map(({ commit }) => commit) ?? [];
  expect(commits[0]).toBe(commits[1]);
  expect(new Set(commits).size).toBe(3);
  for (const copy of await office.copies()) {
    const member = members.get(copy.recipient);
    if (!member) throw new Error(`no ${copy.recipient}`);
    const { payload } = await openAs(house, member, copy);
    const blind = payload.fields.filter(({ name }) => name === "bcc").map((item) => valueOf(item));
    expect(blind).toEqual([DAVE, EVE].includes(copy.recipient) ? [copy.recipient] : []);
    const inside = Buffer.concat(payload.fields.map(({ raw }) => raw)).toString();
    for (const other of [DAVE, EVE]) if (other !== copy.recipient) expect(inside + String(copy.mail)).not.toContain(other);
    expect(String(payload.body)).toBe("The secret text.\r\n");
  }
});

test("named in a To that cannot be read, a recipient gets a copy that names them", async () => {
  await office.send(LETTER.replace(`Bob <${BOB}>`, `Bob <${BOB}`), [BOB]);
  const [copy] = await office.copies();
  const bob = members.get(BOB);
  if (!bob || !copy) throw new Error("no copy");
  const { payload } = await openAs(house, bob, copy);
  expect(payload.recipients.map(({ key }) => key)).toContain(BOB);
});

test("the entry holds what the register of sent letters needs: who, which session, and the signature of each copy", async () => {
  await office.send(LETTER, [BOB]);
  const { register } = await office.entry();
  const [copy] = await office.copies();
  const session = createHash("sha256")
    .update(copy?.ticket ?? "")
    .digest("hex");
  expect(register).toMatchObject({ sender: "alice@a.example", messageId: "<1@a.example>" });
  expect(register?.recipients).toMatchObject([{ address: BOB, state: "accepted", session }]);
  expect(Buffer.from(register?.recipients[0]?.original ?? "", "base64").length).toBeGreaterThan(200);
});

test("the same message submitted again is accepted once, also while the first one is on its way; another envelope is another letter", async () => {
  const ids = await Promise.all([office.send(LETTER, [BOB]), office.send(LETTER, [BOB])]);
  expect(await office.send(LETTER, [BOB])).toBe(ids[0]);
  expect(ids[1]).toBe(ids[0]);
  expect(await office.spool.all()).toHaveLength(1);
  expect(office.broker.declared).toHaveLength(1);
  expect(await office.send(LETTER, [BOB, CAROL])).not.toBe(ids[0]);
});

test("messages without a Message-ID that say the same are two letters", async () => {
  const anonymous = LETTER.replace(/Message-ID:.*\n/u, "");
  expect(anonymous).not.toBe(LETTER);
  expect(await office.send(anonymous, [BOB])).not.toBe(await office.send(anonymous, [BOB]));
  expect(await office.spool.all()).toHaveLength(2);
});

test("the keys are wiped once the copies are sealed", async () => {
  await office.send(LETTER, [BOB, CAROL]);
  expect(office.broker.grants).toHaveLength(2);
  for (const { key } of office.broker.grants) expect(() => key.lend(() => undefined)).toThrow("wiped");
});

test("the keys are wiped, too, when the spool cannot take the copies", async () => {
  rmSync(join(office.folder, "spool"), { recursive: true });
  await expect(office.send(LETTER, [BOB])).rejects.toThrow();
  expect(office.broker.grants).toHaveLength(1);
  for (const { key } of office.broker.grants) expect(() => key.lend(() => undefined)).toThrow("wiped");
});

test("when the broker refuses, nothing is spooled and nothing recorded", async () => {
  office.broker.fail = new Fault("unavailable", "away");
  await expect(office.send(LETTER, [BOB])).rejects.toMatchObject({ code: "unavailable" });
  expect(await office.spool.all()).toEqual([]);
  expect(await office.letters.all()).toEqual([]);
});

test("a missing Message-ID and Date are added, inside and outside alike", async () => {
  await office.send([...HEAD, "", "text", ""].join("\n"), [BOB]);
  const { messageId } = await office.entry();
  expect(messageId).toMatch(/^<[0-9a-f]{32}@gateway\.a\.example>$/u);
  const [copy] = await office.copies();
  const outer = Object.fromEntries(fieldsOf(copy?.mail ?? Buffer.alloc(0))) as Record<string, string>;
  expect(outer["message-id"]).toBe(messageId);
  expect(outer["date"]).toMatch(/^\w{3}, \d\d \w{3} \d{4} [\d:]{8} \+0000$/u);
  expect(office.broker.declared[0]?.messageId).toBe(messageId);
});

test("DSN parameters of the submission stand in the spool", async () => {
  const recipients = [{ ...recipientOf(BOB), notify: ["NEVER"], originalRecipient: "rfc822;bob@b.example" }];
  await office.send(LETTER, [BOB], { envelopeId: "QQ", returns: "HDRS", recipients });
  const entry = await office.entry();
  expect(entry).toMatchObject({ envelopeId: "QQ", returns: "HDRS", sender: "alice@a.example" });
  expect(entry.consignments[0]).toMatchObject({ notify: ["NEVER"], originalRecipient: "rfc822;bob@b.example" });
});

describe("a message is refused in words a person can act on, and nothing is spooled, where", () => {
  const from = "From: Alice <alice@a.example>";
  const letter = (...fields: string[]): string => [...fields, `To: ${BOB}`, "", "text", ""].join("\n");
  test.each<[string, string | Buffer, string, RegExp]>([
    ["there is no From", letter("Subject: x"), "malformed", /exactly one author/u],
    ["From is empty", letter("From:"), "malformed", /exactly one author/u],
    ["there are two From fields", letter(from, from), "malformed", /more than one From field/u],
    ["From names two", letter(`${from}, ceo@a.example`), "malformed", /exactly one author/u],
    ["From is a group of nobody", letter("From: undisclosed:;"), "malformed", /exactly one author/u],
    ["From is a group of two", letter("From: us: alice@a.example, ceo@a.example;"), "malformed", /exactly one author/u],
    ["From cannot be read", letter("From: Alice <alice@a.example"), "malformed", /From field cannot be read/u],
    ["From is foreign", letter("From: Alice <ceo@a.example>"), "forbidden", /alice may not send as ceo@a\.example \(From\)/u],
    [
      "From hides a foreign address behind a friendly name",
      letter('From: "alice@a.example" <ceo@a.example>'),
      "forbidden",
      /may not send as ceo@/u,
    ],
    ["Sender is foreign", letter(from, "Sender: ceo@a.example"), "forbidden", /may not send as ceo@a\.example \(sender\)/iu],
    ["Resent-From is foreign", letter("Resent-From: ceo@a.example", from), "forbidden", /may not send as ceo@a\.example \(resent-from\)/iu],
    [
      "Resent-Sender is foreign",
      letter("Resent-Sender: ceo@a.example", from),
      "forbidden",
      /may not send as ceo@a\.example \(resent-sender\)/iu,
    ],
    ["Sender cannot be read", letter(from, "Sender: <"), "malformed", /sender field cannot be read/iu],
    ["there are two Message-IDs", letter(from, "Message-ID: <1@x>", "Message-ID: <2@x>"), "malformed", /more than one Message-ID/u],
    ["there is a NUL in the text", letter(from).replace("text", "te\0xt"), "malformed", /NUL/u],
    ["there is a NUL in the header", letter(from, "Subject: a\0b"), "malformed", /NUL/u],
    [
      "a From is smuggled in behind a bare line feed",
      Buffer.from(`${from}\nFrom: ceo@a.example\r\nTo: ${BOB}\r\n\r\ntext\r\n`),
      "malformed",
      /more than one From/u,
    ],
  ])("%s", async (_why, message, code, advice) => {
    const refusal = office.send(message, [BOB]);
    await expect(refusal).rejects.toMatchObject({ code, advice: expect.stringMatching(advice) });
    expect(await office.spool.all()).toEqual([]);
    expect(office.broker.declared).toEqual([]);
  });

  test.each([
    ["From is an alias of the user", letter("From: A.Liddell@a.example")],
    ["Sender is the user too", letter("From: a.liddell@a.example", "Sender: alice@a.example")],
    ["From is a group of one", letter("From: me: alice@a.example;")],
    ["From has a comment and folded white space", letter("From: (me)\n Alice\n <alice@a.example>")],
    ["the body is empty", `${from}\nTo: ${BOB}\n\n`],
  ])("but not where %s", async (_why, message) => {
    await expect(office.send(message, [BOB])).resolves.toMatch(/^[0-9a-f]{32}$/u);
  });
});

test("an empty Message-ID does not stand beside the one that is added: nobody could open such a letter", async () => {
  await office.send(LETTER.replace(/^Message-ID:.*$/mu, "Message-ID:"), [BOB]);
  const [copy] = await office.copies();
  expect(String(copy?.mail).match(/^Message-ID:/gmu)).toHaveLength(1);
  expect(String(copy?.mail)).toMatch(/^Message-ID: <\w+@gateway\.a\.example>\r$/mu);
});

describe("recipients that the policy passes on", () => {
  const passed = (...addresses: string[]) => addresses.map((address) => recipientOf(address, "pass"));

  async function before(options: HopOptions = {}) {
    const hop = await startHop(options);
    const open = await openOffice(house, alice, hop.port);
    running.push(
      () => hop.close(),
      () => open.close(),
    );
    return { hop, open };
  }

  test("get the message unsealed at once, without Bcc; the others get it sealed", async () => {
    const { hop, open } = await before();
    const message = LETTER.replace("Subject", `Bcc: ${EVE}\nReturn-Path: <x@y.example>\nSubject`);
    await open.send(message, [], { recipients: [recipientOf(BOB), ...passed("x@pass.example")] });
    const [clear, sealed] = await hop.attempts.until(() => true, 2);
    expect(clear?.to).toEqual(["x@pass.example"]);
    expect(String(clear?.mail)).toMatch(/^Received: [^\r]*\r\n id [^\r]*\r\nFrom: Alice/u);
    expect(String(clear?.mail)).toContain("The secret text.");
    expect(String(clear?.mail)).not.toMatch(/^(?:Bcc|Return-Path):/mu);
    expect(sealed?.to).toEqual([BOB]);
  });

  test("a registered letter that is submitted again is not sealed again: it goes on as it is, below one more trace field", async () => {
    await office.send(LETTER, [BOB]);
    const [copy] = await office.copies();
    const { hop, open } = await before();
    await open.send(copy?.mail ?? Buffer.alloc(0), [BOB]);
    const [again] = await hop.attempts.until(() => true);
    expect(again?.to).toEqual([BOB]);
    expect(again?.mail.subarray(-(copy?.mail.length ?? 0)).equals(copy?.mail ?? Buffer.alloc(0))).toBe(true);
    expect(fieldsOf(again?.mail ?? Buffer.alloc(0)).filter(([name]) => name === "received")).toHaveLength(2);
    expect(open.broker.declared).toEqual([]);
  });

  test("what claims to be a registered letter and is damaged is refused in words", async () => {
    await office.send(LETTER, [BOB]);
    const [copy] = await office.copies();
    const damaged = String(copy?.mail).replace(/base64\r\n((?:[^\r]+\r\n)*)\r\n..../u, "base64\r\n$1\r\n!!!!");
    await expect(office.send(damaged, [BOB])).rejects.toMatchObject({ code: "malformed", advice: expect.stringContaining("damaged") });
  });

  test.each([
    ["for good", "550 5.1.1 No such mailbox", "forbidden"],
    ["for now", "451 4.7.1 Greylisted", "unavailable"],
  ])("where the next hop refuses them %s the whole submission is, and nothing is spooled", async (_how, reply, code) => {
    const { open } = await before({ onRecipient: () => reply });
    const refused = open.send(LETTER, [], { recipients: [recipientOf(BOB), ...passed("x@pass.example")] });
    await expect(refused).rejects.toMatchObject({ code });
    expect(await open.spool.all()).toEqual([]);
  });

  test("where the next hop refuses one of two, the client or the sender learns it: nobody is lost in silence", async () => {
    const { hop, open } = await before({ onRecipient: (to) => (to === "x@pass.example" ? "550 5.1.1 No such mailbox" : undefined) });
    const told = await open.send(LETTER, [], { recipients: passed("x@pass.example", "y@pass.example") }).then(
      async () => (await open.spool.all()).length > 0 || hop.attempts.all.some(({ from }) => from === ""), // a notice, on its way or sent
      () => true,
    );
    expect(told).toBe(true);
  });

  test("nothing of a mail leaves whose id could not be remembered, or whose sealed copies could not be kept", async () => {
    const { hop, open } = await before();
    rmSync(join(open.folder, "spool"), { recursive: true });
    await expect(open.send(LETTER, [], { recipients: passed("x@pass.example") })).rejects.toThrow();
    await expect(open.send(LETTER, [], { recipients: [recipientOf(BOB), ...passed("x@pass.example")] })).rejects.toThrow();
    expect(hop.attempts.all).toEqual([]);
  });

  test("what has left is accepted, whatever can be written about it afterwards: its client would have it sent once more", async () => {
    const { hop, open } = await before({
      onRecipient: (to) => (to === "x@pass.example" ? "550 5.1.1 No such mailbox" : undefined),
      onMail() {
        rmSync(join(open.folder, "spool"), { recursive: true });
        return undefined;
      },
    });
    const from = house.heard.lines.all.length;
    await open.send(LETTER, [], { recipients: passed("x@pass.example", "y@pass.example") });
    expect(hop.attempts.all.map(({ to }) => to[0])).toEqual(["y@pass.example"]);
    const errors = house.heard.lines.all.slice(from).flatMap(({ level, event }) => (level === "error" ? [event] : []));
    expect(errors).toEqual(["notice.lost", "letter.not-remembered"]);
  });
});
