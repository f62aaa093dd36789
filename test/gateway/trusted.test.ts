/** No relay without AUTH: only from a network that the configuration names, and from there only for the gateway's own mailboxes. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { networksOf } from "../../gateway/visits.ts";
import { ALICE, CAROL, PASSWORD, openTestDoor, type TestDoor } from "./door.ts";
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
