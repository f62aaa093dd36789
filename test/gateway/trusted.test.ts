/** No relay without AUTH: only from a network that the configuration names, and from there only for the gateway's own mailboxes. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { networksOf } from "../../gateway/visits.ts";
import { openHouse } from "../broker/house.ts";
import { BOB, prepareSender } from "../system/sender.ts";
import { ALICE, CAROL, PASSWORD, openTestDoor, type TestDoor } from "./door.ts";
import { startHop } from "./hop.ts";
import { Talk } from "./talk.ts";

let open: TestDoor;
let closed: TestDoor;
beforeAll(async () => {
  [open, closed] = await Promise.all([
    openTestDoor({ trustedNetworks: [{ address: "127.0.0.0", prefix: 8, family: "ipv4" }] }),
    openTestDoor({ trustedNetworks: [{ address: "127.0.0.9", prefix: 32, family: "ipv4" }] }),
  ]);
});
afterAll(() => Promise.all([open?.stop(), closed?.stop()]));

async function plain(door: TestDoor): Promise<Talk> {
  const talk = await Talk.open(door.port);
  await talk.say("EHLO postfix.a.example");
  return talk;
}

test.each([
  ["own", ALICE],
  ["foreign", "ceo@elsewhere.example"],
  ["empty", ""],
])("from any other network MAIL with an %s address is 530, then there is nothing to send", async (_what, address) => {
  const talk = await plain(closed);
  expect(await talk.say(`MAIL FROM:<${address}>`)).toBe("530 5.7.0 Authentication is required");
  expect(await talk.say("RCPT TO:<bob@b.example>")).toMatch(/^503 /u);
  expect(await talk.say("DATA")).toMatch(/^503 /u);
  talk.close();
});

describe("from a trusted network", () => {
  test("a mailbox of the gateway sends without AUTH, in the clear and inside TLS", async () => {
    const talk = await plain(open);
    for (const secure of [false, true]) {
      if (secure) await talk.secure(open.ca);
      expect(await talk.say(`MAIL FROM:<${ALICE}>`)).toMatch(/^250 /u);
      await talk.say("RCPT TO:<bob@b.example>");
      expect(await talk.data(`From: ${ALICE}\r\n\r\nHello.`)).toMatch(/^250 /u);
    }
    expect(open.taken.map(({ submitter, protocol }) => [submitter.name, protocol])).toEqual([
      ["the network", "ESMTP"],
      ["the network", "ESMTPS"],
    ]);
    talk.close();
  });

  test.each([
    ["a mailbox that is not the gateway's", CAROL],
    ["an address elsewhere", "ceo@elsewhere.example"],
    ["the empty reverse-path", ""],
  ])("%s may not send", async (_what, address) => {
    const talk = await plain(open);
    expect(await talk.say(`MAIL FROM:<${address}>`)).toMatch(/^550 5\.7\.1 /u);
    talk.close();
  });

  test("whoever logs in is that user, and no more the network", async () => {
    const talk = await plain(open);
    await talk.secure(open.ca);
    expect(await talk.login("carol", PASSWORD)).toMatch(/^235 /u);
    expect(await talk.say(`MAIL FROM:<${ALICE}>`)).toMatch(/^550 5\.7\.1 carol may not /u);
    expect(await talk.say(`MAIL FROM:<${CAROL}>`)).toMatch(/^250 /u);
    talk.close();
  });

  test("nobody says where a connection comes from but the connection", async () => {
    const talk = await plain(closed);
    for (const line of ["XCLIENT ADDR=127.0.0.9", "XFORWARD ADDR=127.0.0.9", "PROXY TCP4 127.0.0.9 127.0.0.1 1 587"]) {
      expect(await talk.say(line)).toMatch(/^500 /u);
    }
    expect(await talk.say(`MAIL FROM:<${ALICE}>`)).toMatch(/^530 /u);
    talk.close();
  });
});

describe("XFORWARD", () => {
  const FORWARD = "XFORWARD NAME=client.example ADDR=203.0.113.9 PORT=[UNAVAILABLE] HELO=a+2Bb SOURCE=REMOTE";

  test("is offered and taken from a trusted network only, and not after the login of somebody from elsewhere", async () => {
    const [inside, outside] = [await Talk.open(open.port), await Talk.open(closed.port)];
    expect(await inside.say("EHLO postfix.a.example")).toContain("XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE");
    expect(await outside.say("EHLO postfix.a.example")).not.toContain("XFORWARD");
    await outside.secure(closed.ca);
    await outside.login("alice", PASSWORD);
    expect(await outside.say(FORWARD)).toMatch(/^500 /u);
    for (const talk of [inside, outside]) talk.close();
  });

  test("goes with the one transaction behind it, and changes nothing about who is trusted", async () => {
    const talk = await plain(open);
    const before = open.taken.length;
    expect(await talk.say(FORWARD)).toMatch(/^250 /u);
    for (let round = 0; round < 2; round++) {
      expect(await talk.say(`MAIL FROM:<${ALICE}>`)).toMatch(/^250 /u);
      expect(await talk.say(FORWARD)).toMatch(/^503 /u);
      await talk.say("RCPT TO:<bob@b.example>");
      await talk.data(`From: ${ALICE}\r\n\r\nHello.`);
    }
    const [first, second] = open.taken.slice(before).map(({ forwarded }) => forwarded);
    expect(first).toEqual({ NAME: "client.example", ADDR: "203.0.113.9", PORT: "[UNAVAILABLE]", HELO: "a+b", SOURCE: "REMOTE" });
    expect(second).toBeUndefined();
    talk.close();
  });

  test.each([["ADDR=nowhere"], ["LOGIN=alice"], ["NAME=a+0D+0Ab"], [""]])("with %s is refused", async (attribute) => {
    const talk = await plain(open);
    expect(await talk.say(`XFORWARD ${attribute}`)).toMatch(/^501 /u);
    talk.close();
  });
});

describe("a door that passes other senders' mail on", () => {
  let filter: TestDoor;
  let untrusting: TestDoor;
  beforeAll(async () => {
    filter = await openTestDoor({ trustedNetworks: [{ address: "127.0.0.0", prefix: 8, family: "ipv4" }], others: true });
    untrusting = await openTestDoor({ others: true });
  });
  afterAll(() => Promise.all([filter?.stop(), untrusting?.stop()]));

  test.each([["ceo@elsewhere.example"], [""]])("takes <%s>, asks no policy about its recipients, and does not seal", async (sender) => {
    const talk = await plain(filter);
    expect(await talk.say(`MAIL FROM:<${sender}> RET=HDRS ENVID=e+2B1`)).toMatch(/^250 /u);
    expect(await talk.say("RCPT TO:<nobody@unenrolled.example> NOTIFY=NEVER")).toMatch(/^250 /u);
    expect(await talk.data("From: whoever@elsewhere.example\r\n\r\nHello.")).toMatch(/^250 /u);
    expect(filter.taken).toEqual([]);
    expect(filter.passed.at(-1)).toMatchObject({ sender, envelopeId: "e+1", returns: "HDRS", recipients: [{ notify: ["NEVER"] }] });
    talk.close();
  });

  test("still seals what its own mailboxes send, and whoever logs in is bound to their identities", async () => {
    const talk = await plain(filter);
    await talk.say(`MAIL FROM:<${ALICE}>`);
    expect(await talk.say("RCPT TO:<nobody@unenrolled.example>")).toMatch(/^550 /u);
    await talk.secure(filter.ca);
    await talk.login("carol", PASSWORD);
    expect(await talk.say("MAIL FROM:<ceo@elsewhere.example>")).toMatch(/^550 5\.7\.1 /u);
    talk.close();
  });

  test("whoever logs in sends nothing without a sender past policy and seal, from any network, and may go on", async () => {
    for (const door of [filter, untrusting]) {
      const talk = await door.enter("carol");
      expect(await talk.say("MAIL FROM:<>")).toMatch(/^550 5\.7\.1 Mail without a sender /u);
      expect(await talk.say("RCPT TO:<nobody@unenrolled.example>")).toMatch(/^503 /u);
      expect(await talk.say(`MAIL FROM:<${CAROL}>`)).toMatch(/^250 /u);
    }
  });
});

test.each(["pass", "refuse"])("what a mailbox sends under its alias is sealed, where mail of others is: %s", async (others) => {
  const ALIAS = "sales@a.example";
  const [house, hop] = await Promise.all([openHouse(), startHop()]);
  await (await house.gateway("b.example")).enrol(BOB);
  const submission = { trustedNetworks: ["127.0.0.0/8"], others };
  const gateway = await prepareSender(house, hop.port, { submission, aliases: [ALIAS] });
  const running = await gateway.runHere();
  const talk = await Talk.open(gateway.port);
  await talk.say("EHLO postfix.a.example");
  const names = [ALIAS, ALICE].flatMap((from) => [ALIAS, ALICE].map((author) => [from, author] as const));
  for (const [from, author] of names) {
    expect(await talk.say(`MAIL FROM:<${from}>`)).toMatch(/^250 /u);
    expect(await talk.say(`RCPT TO:<${BOB}>`)).toMatch(/^250 /u);
    expect(await talk.data(`From: ${author}\r\nTo: ${BOB}\r\n\r\nThe text.`)).toMatch(/^250 /u);
  }
  for (const { mail } of await hop.attempts.until(() => true, names.length)) expect(String(mail)).toContain("registered.p7m");
  talk.close();
  await running.stop();
  await Promise.all([hop.close(), house.stop()]);
});

describe("a list of networks", () => {
  const isTrusted = networksOf([
    { address: "192.0.2.0", prefix: 25, family: "ipv4" },
    { address: "2001:db8::", prefix: 32, family: "ipv6" },
  ]);
  test.each([
    ["192.0.2.127", true],
    ["192.0.2.128", false],
    ["2001:db8:ffff::1", true],
    ["2001:db9::1", false],
    ["", false],
  ])("%s is in it: %s", (address, is) => {
    expect(isTrusted(address)).toBe(is);
  });
});
