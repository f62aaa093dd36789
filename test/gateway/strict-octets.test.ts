/** The octets at the door: a line ends with CRLF and nothing else, NUL stands nowhere, no line is endless; in commands as in messages. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { ALICE, openTestDoor, type TestDoor } from "./door.ts";
import { SEQUENCES, smuggled } from "./smuggling.ts";
import { Talk } from "./talk.ts";

const BOB = "bob@b.example";
const LINE = 2_000;
let door: TestDoor;

beforeAll(async () => {
  const loopback = [{ address: "127.0.0.0", prefix: 8, family: "ipv4" as const }];
  door = await openTestDoor({ trustedNetworks: loopback, limits: { line: LINE as never } });
});
afterAll(() => door?.stop());
beforeEach(() => {
  door.taken.length = 0;
});

/** A client in the clear, which the network speaks for. */
async function plain(): Promise<Talk> {
  const talk = await Talk.open(door.port);
  await talk.say("EHLO client.example");
  return talk;
}

async function toData(talk: Talk): Promise<void> {
  await talk.say(`MAIL FROM:<${ALICE}>`);
  await talk.say(`RCPT TO:<${BOB}>`);
  expect(await talk.say("DATA")).toMatch(/^354 /u);
}

const WAYS: readonly (readonly [string, () => Promise<Talk>, (talk: Talk, octets: Buffer) => void])[] = [
  ["in one write", plain, (talk, octets) => talk.write(octets)],
  [
    "byte by byte",
    plain,
    (talk, octets) => {
      for (const octet of octets) talk.write(Buffer.from([octet]));
    },
  ],
  ["over TLS", () => door.enter(), (talk, octets) => talk.write(octets)],
];

describe.each(WAYS)("%s, a second message cannot be smuggled in", (_how, enter, write) => {
  test.each(SEQUENCES)("by %s: 554, and the connection ends", async (_name, end) => {
    const talk = await enter();
    await toData(talk);
    write(talk, Buffer.from(smuggled(end, ALICE, [BOB, "carol@b.example"]), "latin1"));
    expect(await talk.hear()).toBe("554 5.5.2 A line end is CR and LF together, and NUL stands nowhere; nothing of this was accepted");
    await talk.ended();
    expect(door.taken).toEqual([]);
    talk.close();
  });
});

test.each([
  ["a bare LF as its end", "NOOP\n"],
  ["a bare CR inside", "MAIL FROM:<alice@a.example\rRCPT TO:<x@y>>\r\n"],
  ["a bare CR as its end", "NOOP\rNOOP\r\n"],
  ["a bare LF inside", `MAIL FROM:<${ALICE}>\nRCPT TO:<${BOB}>\r\n`],
  ["two CR", "NOOP\r\r\n"],
  ["NUL", "NOOP\0\r\n"],
])("a command with %s ends the connection", async (_what, command) => {
  const talk = await plain();
  talk.write(command);
  expect(await talk.hear()).toMatch(/^554 5\.5\.2 /u);
  await talk.ended();
});

test("a good message is accepted though the command behind it is not", async () => {
  const talk = await plain();
  await toData(talk);
  talk.write(`From: ${ALICE}\r\n\r\nHello.\r\n.\r\nNOOP\n`);
  expect(await talk.hear()).toMatch(/^250 /u);
  expect(await talk.hear()).toMatch(/^554 5\.5\.2 /u);
  await talk.ended();
  expect(door.taken).toHaveLength(1);
});

describe("when the client leaves", () => {
  test("a command without its end is not obeyed", async () => {
    const asked: string[] = [];
    door.demandSigner = ({ key }) => void asked.push(key);
    const talk = await plain();
    talk.write(`MAIL FROM:<${ALICE}>\r\nRSET\r\nMAIL FROM:<${ALICE}>`);
    talk.finish();
    await talk.ended();
    expect(asked).toEqual([ALICE]);
    door.demandSigner = () => undefined;
  });

  test("a message without its end is not accepted", async () => {
    const talk = await plain();
    await toData(talk);
    talk.write(`From: ${ALICE}\r\n\r\nHello.\r\n.`);
    talk.finish();
    await talk.ended();
    expect(door.taken).toEqual([]);
  });
});

describe("a line", () => {
  const message = (length: number): string => `From: ${ALICE}\r\n\r\n${"x".repeat(length)}\r\n.\r\n`;

  test("of the longest length is taken as it is", async () => {
    const talk = await plain();
    await toData(talk);
    talk.write(message(LINE));
    expect(await talk.hear()).toMatch(/^250 /u);
    expect(door.taken[0]?.message.includes("x".repeat(LINE))).toBe(true);
    talk.close();
  });

  test.each(WAYS)("that is one octet longer is refused %s before its end has come", async (_how, enter, write) => {
    const talk = await enter();
    await toData(talk);
    write(talk, Buffer.from(message(LINE + 1).split("\r\n.")[0] ?? ""));
    expect(await talk.hear()).toMatch(/^554 5\.5\.2 The line is longer/u);
    await talk.ended();
    expect(door.taken).toEqual([]);
  });

  test("of a command is bounded too, and AUTH has the room that it needs", async () => {
    const talk = await plain();
    expect(await talk.say(`NOOP ${"x".repeat(12_200)}`)).toMatch(/^250 /u);
    talk.write("x".repeat(12_400));
    expect(await talk.hear()).toMatch(/^500 5\.5\.2 /u);
    await talk.ended();
  });
});
