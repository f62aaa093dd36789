/** The door, spoken to in lines: TLS and AUTH first, senders that are identities, recipients by policy, DATA up to a limit. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { Fault } from "../../mime/fault.ts";
import { ALICE, LARGEST, PASSWORD, openTestDoor, type TestDoor } from "./door.ts";
import { Talk } from "./talk.ts";

let door: TestDoor;
let talk: Talk;

beforeAll(async () => {
  door = await openTestDoor();
});
afterAll(() => door?.stop());
beforeEach(() => {
  door.taken.length = 0;
});
afterEach(() => talk?.close());

const MESSAGE = `From: ${ALICE}\r\nTo: bob@b.example\r\nSubject: s\r\n\r\nHello.\r\n`;
const base64 = (text: string): string => Buffer.from(text).toString("base64");

describe("before TLS", () => {
  beforeEach(async () => {
    talk = await Talk.open(door.port);
  });

  test("the greeting names the host and no version", () => {
    expect(talk.greeting).toBe("220 gateway.a.example ESMTP Kakitome");
  });

  test("EHLO offers STARTTLS, and no AUTH, so that no client sends a password in the clear", async () => {
    const features = await talk.say("EHLO client.example");
    expect(features).toMatch(/^250[ -]STARTTLS$/mu);
    expect(features).not.toMatch(/AUTH/u);
  });

  test("AUTH is told to use STARTTLS first, and the password is not looked at", async () => {
    await talk.say("EHLO client.example");
    expect(await talk.login("alice", PASSWORD)).toMatch(/^538 /u);
  });

  test.each([
    ["AUTH", `AUTH PLAIN ${base64(`\0alice\0${PASSWORD}`)}`],
    ["MAIL", `MAIL FROM:<${ALICE}>`],
    ["RCPT", "RCPT TO:<bob@b.example>"],
    ["DATA", "DATA"],
    ["VRFY", "VRFY alice"],
    ["EXPN", "EXPN staff"],
  ])("%s is refused or says nothing", async (_verb, line) => {
    await talk.say("EHLO client.example");
    expect(await talk.say(line)).toMatch(/^(?:5\d\d|252) /u);
    expect(door.taken).toEqual([]);
  });
});

describe("with TLS", () => {
  beforeEach(async () => {
    talk = await Talk.open(door.port);
    await talk.say("EHLO client.example");
  });

  test("EHLO offers AUTH PLAIN LOGIN, SIZE, 8BITMIME, SMTPUTF8, PIPELINING and DSN, and STARTTLS no more", async () => {
    const features = await talk.secure(door.ca);
    for (const feature of [/AUTH PLAIN LOGIN/u, new RegExp(`SIZE ${LARGEST}`, "u"), /8BITMIME/u, /SMTPUTF8/u, /PIPELINING/u, /DSN/u]) {
      expect(features).toMatch(feature);
    }
    expect(features).not.toMatch(/STARTTLS/u);
  });

  test("EHLO does not offer REQUIRETLS, which nothing behind the door would honour (RFC 8689 §4.1)", async () => {
    expect(await talk.secure(door.ca)).not.toMatch(/REQUIRETLS/u);
  });

  test("MAIL before AUTH is 530", async () => {
    await talk.secure(door.ca);
    expect(await talk.say(`MAIL FROM:<${ALICE}>`)).toMatch(/^530 /u);
  });

  test.each([
    ["PLAIN with the initial response", async () => talk.login("alice", PASSWORD)],
    ["PLAIN in two lines", async () => (await talk.say("AUTH PLAIN"), talk.say(base64(`\0alice\0${PASSWORD}`)))],
    ["LOGIN", async () => (await talk.say("AUTH LOGIN"), await talk.say(base64("alice")), talk.say(base64(PASSWORD)))],
  ])("AUTH %s lets in", async (_how, authenticate) => {
    await talk.secure(door.ca);
    expect(await authenticate()).toMatch(/^235 /u);
  });

  test.each([
    ["a wrong password", "alice", "wrong-secret"],
    ["an unknown name", "mallory", PASSWORD],
    ["no password", "alice", ""],
    ["no name", "", PASSWORD],
    ["another case of the name", "Alice", PASSWORD],
    ["a name that every object has", "constructor", PASSWORD],
  ])("AUTH with %s gets one and the same 535", async (_why, name, password) => {
    await talk.secure(door.ca);
    expect(await talk.login(name, password)).toBe("535 5.7.8 User name or password is wrong");
    expect(await talk.say(`MAIL FROM:<${ALICE}>`)).toMatch(/^530 /u);
  });

  test.each([
    ["a method that is not offered", "AUTH CRAM-MD5"],
    ["no base64", "AUTH PLAIN ***"],
    ["no fields", `AUTH PLAIN ${base64("alice")}`],
    ["a password of a megabyte", `AUTH PLAIN ${base64(`\0alice\0${"x".repeat(1_100)}`)}`],
  ])("AUTH with %s is 5xx, and the connection goes on", async (_why, line) => {
    await talk.secure(door.ca);
    expect(await talk.say(line)).toMatch(/^5\d\d /u);
    expect(await talk.login("alice", PASSWORD)).toMatch(/^235 /u);
  });

  test("a password is never logged", () => {
    expect(door.heard.text()).not.toContain("secret");
  });
});

test("the implicit door greets inside TLS and lets in", async () => {
  talk = await Talk.openTls(door.tlsPort, door.ca);
  expect(talk.greeting).toMatch(/^220 gateway\.a\.example/u);
  expect(await talk.say("EHLO client.example")).toMatch(/AUTH PLAIN LOGIN/u);
  expect(await talk.login("alice", PASSWORD)).toMatch(/^235 /u);
});

describe("inside", () => {
  let inside: Talk;
  beforeAll(async () => {
    inside = await door.enter();
  });
  beforeEach(async () => {
    await inside.say("RSET");
  });

  test("a message is taken with its octets, and the reply names the id", async () => {
    await inside.say(`MAIL FROM:<${ALICE}>`);
    await inside.say("RCPT TO:<bob@b.example>");
    expect(await inside.data(MESSAGE)).toBe("250 2.0.0 Accepted as id-1");
    const [submission] = door.taken;
    expect(String(submission?.message)).toBe(`${MESSAGE}\r\n`);
    expect(submission?.sender.address).toBe(ALICE);
    expect(submission?.recipients.map(({ mailbox, decision }) => [mailbox.address, decision])).toEqual([["bob@b.example", "seal"]]);
    expect(submission?.protocol).toBe("ESMTPSA");
  });

  test.each([
    ["a foreign address", "MAIL FROM:<ceo@a.example>", /^550 5\.7\.1 alice may not send as ceo@a\.example \(MAIL FROM\)\.$/u],
    ["the empty reverse-path, which is for notices", "MAIL FROM:<>", /^55\d 5/u],
    ["an address in a domain below", "MAIL FROM:<alice@x.a.example>", /^550 5\.7\.1 /u],
    ["no address", "MAIL FROM:<alice>", /^5/u],
    ["a size beyond the limit", `MAIL FROM:<${ALICE}> SIZE=${LARGEST + 1}`, /^552 /u],
    ["no colon", `MAIL FROM ${ALICE}`, /^5/u],
  ])("MAIL with %s is refused", async (_why, line, reply) => {
    expect(await inside.say(line)).toMatch(reply);
    expect(await inside.say("RCPT TO:<bob@b.example>")).toMatch(/^503 /u);
  });

  test.each([
    ["an alias of the user", "MAIL FROM:<A.Liddell@a.example>"],
    ["8BITMIME", `MAIL FROM:<${ALICE}> BODY=8BITMIME`],
    ["SMTPUTF8", `MAIL FROM:<${ALICE}> SMTPUTF8`],
    ["a size within the limit", `MAIL FROM:<${ALICE}> SIZE=${LARGEST}`],
    ["lower case", `mail from:<${ALICE}>`],
  ])("MAIL with %s is taken", async (_why, line) => {
    expect(await inside.say(line)).toMatch(/^250 /u);
  });

  test("a sender whose certificates are not there yet is told to come again", async () => {
    door.demandSigner = () => {
      throw new Fault("unavailable", "no certificates yet");
    };
    expect(await inside.say(`MAIL FROM:<${ALICE}>`)).toMatch(/^451 4\.4\.1 /u);
    door.demandSigner = () => undefined;
    expect(await inside.say(`MAIL FROM:<${ALICE}>`)).toMatch(/^250 /u);
  });

  test("recipients are decided one by one: sealed, passed, refused with words, put off", async () => {
    await inside.say(`MAIL FROM:<${ALICE}>`);
    expect(await inside.say("RCPT TO:<bob@b.example>")).toMatch(/^250 /u);
    expect(await inside.say("RCPT TO:<x@pass.example>")).toMatch(/^250 /u);
    expect(await inside.say("RCPT TO:<dave@nowhere.example>")).toMatch(
      /^550 5\.7\.5 dave@nowhere\.example is not enrolled for registered mail\. /u,
    );
    expect(await inside.say("RCPT TO:<y@away.example>")).toMatch(/^451 4\.4\.1 /u);
    expect(await inside.say("RCPT TO:<nobody>")).toMatch(/^5/u);
    expect(await inside.data(MESSAGE)).toMatch(/^250 /u);
    expect(door.taken[0]?.recipients.map(({ mailbox, decision }) => [mailbox.key, decision])).toEqual([
      ["bob@b.example", "seal"],
      ["x@pass.example", "pass"],
    ]);
  });

  test("a recipient named twice, in whatever case, is one", async () => {
    await inside.say(`MAIL FROM:<${ALICE}>`);
    for (const address of ["bob@b.example", "BOB@B.example"]) await inside.say(`RCPT TO:<${address}>`);
    await inside.data(MESSAGE);
    expect(door.taken[0]?.recipients).toHaveLength(1);
  });

  test.each(['"bob"', '"b\\ob"'])(
    "a recipient in quotes, %s, is the one without them: the policy decides, and nothing passes by it",
    async (local) => {
      await inside.say(`MAIL FROM:<${ALICE}>`);
      expect(await inside.say(`RCPT TO:<${local}@b.example>`)).toMatch(/^250 /u);
      await inside.data(MESSAGE);
      expect(door.taken[0]?.recipients.map(({ mailbox, decision }) => [mailbox.address, decision])).toEqual([["bob@b.example", "seal"]]);
    },
  );

  test("a recipient outside ASCII is taken with SMTPUTF8", async () => {
    await inside.say(`MAIL FROM:<${ALICE}> SMTPUTF8`);
    expect(await inside.say("RCPT TO:<böb@b.example>")).toMatch(/^250 /u);
  });

  test("a recipient too many is 452, which clients send in another transaction, and the others are served", async () => {
    await inside.say(`MAIL FROM:<${ALICE}>`);
    for (let at = 0; at < 5; at++) expect(await inside.say(`RCPT TO:<r${at}@pass.example>`)).toMatch(/^250 /u);
    expect(await inside.say("RCPT TO:<r5@pass.example>")).toMatch(/^452 /u);
    expect(await inside.data(MESSAGE)).toMatch(/^250 /u);
    expect(door.taken[0]?.recipients).toHaveLength(5);
  });

  test("DSN parameters reach the walk", async () => {
    await inside.say(`MAIL FROM:<${ALICE}> RET=HDRS ENVID=QQ314159`);
    await inside.say("RCPT TO:<bob@b.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;bob@b.example");
    await inside.say("RCPT TO:<carol@b.example> NOTIFY=NEVER");
    await inside.data(MESSAGE);
    const [submission] = door.taken;
    expect([submission?.envelopeId, submission?.returns]).toEqual(["QQ314159", "HDRS"]);
    expect(submission?.recipients.map(({ notify }) => notify)).toEqual([["SUCCESS", "FAILURE"], ["NEVER"]]);
    expect(submission?.recipients[0]?.originalRecipient).toBe("rfc822;bob@b.example");
  });

  test("RSET forgets sender and recipients", async () => {
    await inside.say(`MAIL FROM:<${ALICE}>`);
    await inside.say("RCPT TO:<bob@b.example>");
    await inside.say("RSET");
    expect(await inside.say("RCPT TO:<carol@b.example>")).toMatch(/^503 /u);
    await inside.say(`MAIL FROM:<${ALICE}>`);
    await inside.say("RCPT TO:<carol@b.example>");
    await inside.data(MESSAGE);
    expect(door.taken[0]?.recipients.map(({ mailbox }) => mailbox.key)).toEqual(["carol@b.example"]);
  });

  test("a second message on the same connection knows nothing of the first", async () => {
    for (const address of ["bob@b.example", "carol@b.example"]) {
      await inside.say(`MAIL FROM:<${ALICE}>`);
      await inside.say(`RCPT TO:<${address}>`);
      await inside.data(MESSAGE);
    }
    expect(door.taken.map(({ recipients }) => recipients.map(({ mailbox }) => mailbox.key))).toEqual([
      ["bob@b.example"],
      ["carol@b.example"],
    ]);
  });
});
