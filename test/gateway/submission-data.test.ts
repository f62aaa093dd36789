/** DATA at the door: octets as they came, a limit that keeps the connection alive, and replies that say what became of the letter. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { Fault } from "../../mime/fault.ts";
import { ALICE, LARGEST, openTestDoor, type TestDoor } from "./door.ts";
import type { Talk } from "./talk.ts";

let door: TestDoor;
let talk: Talk;

beforeAll(async () => {
  door = await openTestDoor({ limits: { header: 50_000 as never } });
  talk = await door.enter();
});
afterAll(() => door?.stop());
beforeEach(async () => {
  door.taken.length = 0;
  await begin();
});

async function begin(client = talk): Promise<void> {
  await client.say("RSET");
  await client.say(`MAIL FROM:<${ALICE}> BODY=8BITMIME`);
  await client.say("RCPT TO:<bob@b.example>");
}

const head = `From: ${ALICE}\r\nTo: bob@b.example\r\n\r\n`;

describe("the walk gets exactly the octets of", () => {
  test.each([
    ["lines that begin with dots", `${head}.\r\n..\r\n...x`],
    ["octets above 127", Buffer.concat([Buffer.from(head), Buffer.from([0xe4, 0xff, 0x80, 0xc3, 0xb6])])],
    ["a line of ten thousand octets", `${head}${"x".repeat(10_000)}`],
    ["no header", "\r\nbody"],
    ["nothing", ""],
  ])("%s", async (_why, message) => {
    expect(await talk.data(message)).toMatch(/^250 2\.0\.0 Accepted as id-1$/u);
    expect(door.taken[0]?.message.equals(Buffer.concat([Buffer.from(message), Buffer.from("\r\n")]))).toBe(true);
  });

  test("a message in single octets", async () => {
    await talk.say("DATA");
    for (const octet of Buffer.from(`${head}Hello.\r\n.\r\n`)) talk.write(Buffer.from([octet]));
    expect(await talk.hear()).toMatch(/^250 /u);
    expect(String(door.taken[0]?.message)).toBe(`${head}Hello.\r\n`);
  });
});

describe("a message beyond the limit", () => {
  const big = `${head}${`${"y".repeat(998)}\r\n`.repeat(LARGEST / 1_000 + 1)}`;

  test("is 552 with the limit in words, and the next one on the connection is taken", async () => {
    expect(await talk.data(big)).toBe(`552 5.3.4 The message is larger than ${LARGEST} octets, the most this gateway takes.`);
    expect(door.taken).toEqual([]);
    await begin();
    expect(await talk.data(`${head}small`)).toMatch(/^250 /u);
  });

  test("of exactly the limit is taken", async () => {
    expect(await talk.data(`${head}${"x\r\n".repeat(40_000)}`.slice(0, LARGEST - 4).replace(/\r?$/u, ""))).toMatch(/^250 /u);
  });
});

describe("a message is refused before the walk where", () => {
  test.each([
    ["its header is too large", `${`X: ${"x".repeat(900)}\r\n`.repeat(60)}${head}`, /^552 5\.3\.4 /u],
    ["its header has too many fields", `${"X: y\r\n".repeat(2_000)}${head}`, /^552 5\.3\.4 The header has more than 1000 fields/u],
    ["it goes in circles", `${"Received: from x by y\r\n".repeat(51)}${head}`, /^554 5\.4\.6 The message goes in circles/u],
  ])("%s", async (_why, message, reply) => {
    expect(await talk.data(message)).toMatch(reply);
    expect(door.taken).toEqual([]);
  });
});

describe("the walk's faults become replies", () => {
  afterEach(() => {
    door.consign = async (submission) => `id-${door.taken.push(submission)}`;
  });

  test.each([
    [
      "the broker is away",
      new Fault("unavailable", "connect ECONNREFUSED 10.0.0.7"),
      "451 4.4.1 The broker cannot be reached; the letter was not accepted, try again later",
    ],
    ["something broke", new TypeError("x is undefined"), "451 4.3.0 The gateway failed; the letter was not accepted, try again later"],
    [
      "the message says too little",
      new Fault("malformed", "no From", { advice: "The message needs exactly one author in its From field." }),
      "554 5.6.0 The message needs exactly one author in its From field.",
    ],
    [
      "somebody else's From",
      new Fault("forbidden", "f", { advice: "alice may not send as x@y (From)." }),
      "550 5.7.1 alice may not send as x@y (From).",
    ],
  ])("%s", async (_why, thrown, reply) => {
    door.consign = async () => {
      throw thrown;
    };
    expect(await talk.data(`${head}x`)).toBe(reply);
    expect(door.heard.lines.all.at(-1)).toMatchObject({ event: "submission.refused", phase: "DATA" });
  });
});

test("a client that breaks off in the middle of DATA leaves nothing behind", async () => {
  const broken = await door.enter();
  await begin(broken);
  await broken.say("DATA");
  broken.write(Buffer.from(`${head}half a mess`));
  broken.close();
  await talk.say("RSET");
  await talk.say(`MAIL FROM:<${ALICE}>`);
  await talk.say("RCPT TO:<carol@b.example>");
  expect(await talk.data(`${head}whole`)).toMatch(/^250 /u);
  expect(door.taken.map(({ recipients }) => recipients[0]?.mailbox.key)).toEqual(["carol@b.example"]);
});
