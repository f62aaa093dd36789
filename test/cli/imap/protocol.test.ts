/** Commands, literals, limits and logging in, by lines over a socket: RFC 3501, RFC 7888, RFC 4616. */

import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { array, assert, asyncProperty, constantFrom } from "fast-check";
import { House, note, USER } from "./talk.ts";

const SEEN = String.raw`\Seen`;

let house: House;
beforeEach(async () => {
  house = await House.open();
});
afterEach(async () => {
  await house.close();
});

const PASSWORD_OCTETS = 9;

describe("literals", () => {
  test("a client that waits is invited, one that does not is not", async () => {
    const talker = await house.talker();
    talker.send(`a LOGIN {${USER.length}}\r\n`);
    await expect(talker.until(/\r\n/)).resolves.toMatch(/^\+ /);
    talker.send(`${USER} {${PASSWORD_OCTETS}+}\r\nse "cret\\\r\n`);
    await expect(talker.until(/\r\n/)).resolves.toMatch(/^a OK \[CAPABILITY IMAP4rev1 /);
  });

  test("a literal over the limit is refused before it is sent, and the session goes on", async () => {
    const talker = await house.reader();
    await expect(talker.command("APPEND INBOX {67108865}")).resolves.toMatch(/^NO \[TOOBIG\]/);
    await expect(talker.command("NOOP")).resolves.toMatch(/^OK/);
  });

  test("a literal over the limit that is sent without waiting ends the session, its octets are not run as commands", async () => {
    const talker = await house.reader();
    const answer = talker.command("APPEND INBOX {67108865+}\r\nx CREATE Smuggled");
    await expect(answer).resolves.toMatch(/^NO \[TOOBIG\]/);
    await expect(talker.until(/\r\n/)).resolves.toMatch(/^\* BYE/);
    await talker.ended;
    const after = await house.reader();
    await expect(after.command('LIST "" Smuggled')).resolves.toMatch(/^OK/);
  });

  test("before a login a literal may be no larger than a command", async () => {
    const talker = await house.talker();
    await expect(talker.command("LOGIN {65537}")).resolves.toMatch(/^NO \[TOOBIG\]/);
  });

  test("the literals of a command the server does not know are read and dropped", async () => {
    const talker = await house.reader();
    await expect(talker.command("FROB {13+}\r\nx LOGOUT\r\n...")).resolves.toMatch(/^BAD/);
    await expect(talker.command("NOOP")).resolves.toMatch(/^OK/);
  });

  test("a message that arrives octet by octet is whole", async () => {
    const talker = await house.reader();
    const bytes = note("slow");
    const command = Buffer.concat([
      Buffer.from(`z APPEND INBOX (${SEEN}) "01-Mar-2024 01:00:00 +0130" {${bytes.length}+}\r\n`),
      bytes,
      Buffer.from("\r\n"),
    ]);
    talker.socket.setNoDelay(true);
    for (const octet of command) talker.send(Buffer.from([octet]));
    await expect(talker.until(/z .*\r\n/)).resolves.toMatch(/\* 1 EXISTS\r\n\* 1 RECENT\r\nz OK \[APPENDUID \d+ 1\]/);
    expect(house.store.list(USER)).toMatchObject([{ bytes, flags: [SEEN], internalDate: new Date("2024-02-29T23:30:00Z") }]);
  });
});

describe("what is not a command", () => {
  test.each([
    ["an empty line", "", /^\* BAD/],
    ["a tag alone", "a", /^a BAD/],
    ["a tag with a plus", "a+b NOOP", /^\* BAD/],
    ["a tag of two hundred characters", `${"a".repeat(200)} NOOP`, /^\* BAD/],
    ["a name that every object has", "a constructor", /^a BAD/],
    ["a command that is UID of nothing", "a UID", /^a BAD/],
    ["text behind the arguments", "a NOOP now", /^a BAD/],
    ["a quote that does not end", 'a SELECT "INBOX', /^a BAD/],
    ["a zero as a message number", "a FETCH 0 FLAGS", /^a BAD/],
    ["a number over the count", "a FETCH 2 FLAGS", /^a BAD/],
    ["a range of three ends", "a FETCH 1:2:3 FLAGS", /^a BAD/],
    ["a number over 32 bits", "a UID FETCH 4294967296 FLAGS", /^a BAD/],
    ["an item nobody knows", "a FETCH 1 (FLAGS COLOUR)", /^a BAD/],
    ["a section that does not end", "a FETCH 1 BODY[HEADER", /^a BAD/],
    ["a partial of nothing", "a FETCH 1 BODY[]<0.0>", /^a BAD/],
    ["MIME of the whole message", "a FETCH 1 BODY[MIME]", /^a BAD/],
    ["a key nobody knows", "a SEARCH COLOUR red", /^a BAD/],
    ["an OR of one", "a SEARCH OR SEEN", /^a BAD/],
    ["a thousand open parentheses", `a SEARCH ${"(".repeat(1000)}`, /^a BAD/],
    ["a date that is none", "a SEARCH SINCE 31-Feb-2024", /^a BAD/],
    ["a charset nobody knows", "a SEARCH CHARSET KLINGON TEXT x", /^a NO \[BADCHARSET \(UTF-8 /],
    ["Recent as a flag to store", String.raw`a STORE 1 +FLAGS (\Recent)`, /^a BAD/],
    ["modified UTF-7 that is none", "a CREATE a&b", /^a BAD/],
    ["a name with an empty level", "a CREATE a//b", /^a NO \[CANNOT\]/],
    ["IDLE that ends without DONE", "a IDLE\r\nNOOP", /^\+ idling\r\na BAD/],
    ["a second login", "a LOGIN x y", /^a BAD/],
  ])("is answered and survived: %s", async (_what, line, answer) => {
    house.store.deliver(USER, note("one"));
    const talker = await house.reader();
    talker.send(`${line}\r\nz NOOP\r\n`);
    const heard = await talker.until(/z OK.*\r\n/);
    expect(heard).toMatch(answer);
  });

  test("a line over 64 KiB is answered with its tag, and then the connection ends", async () => {
    const talker = await house.talker();
    talker.send(`long NOOP ${"x".repeat(70_000)}`);
    await expect(talker.until(/BYE.*\r\n/)).resolves.toMatch(/^long BAD .*\r\n\* BYE /);
    await talker.ended;
  });

  test("commands on a mailbox are refused before one is open, and all but a few before a login", async () => {
    const talker = await house.talker();
    await expect(talker.command("SELECT INBOX")).resolves.toMatch(/^BAD log in/);
    await talker.command(String.raw`LOGIN ${USER} "se \"cret\\"`);
    await expect(talker.command("FETCH 1 FLAGS")).resolves.toMatch(/^BAD select/);
  });

  test("no run of words, however wrong, takes the server down", async () => {
    const words = [
      "FETCH",
      "UID",
      "STORE",
      "SEARCH",
      "LIST",
      "APPEND",
      "STATUS",
      "1:*",
      "*",
      "(",
      ")",
      "[",
      "]",
      '"',
      "{3+}",
      "\r\n",
      "BODY[",
      "<0.1>",
      "NOT",
      "OR",
      "INBOX",
      "%",
      "FLAGS",
      "\\Seen",
      "\xff",
      "\0",
      "&",
      "HEADER.FIELDS",
      "RETURN",
    ];
    const talker = await house.reader();
    let run = 0;
    await assert(
      asyncProperty(array(constantFrom(...words), { maxLength: 12 }), async (line) => {
        run += 1;
        // A literal may swallow the next line, so the marker is sent twice, past the longest one.
        talker.send(`f ${line.join(" ")}\r\n      \r\nz${run} NOOP\r\n`);
        await talker.until(new RegExp(`z${run} (OK|BAD).*\\r\\n`));
      }),
      { numRuns: 300 },
    );
  });
});

describe("logging in", () => {
  const plain = Buffer.from(`\0${USER}\0se "cret\\`).toString("base64");

  test("AUTHENTICATE PLAIN works with an initial response", async () => {
    const talker = await house.talker();
    await expect(talker.command(`AUTHENTICATE PLAIN ${plain}`)).resolves.toMatch(/^OK/);
  });

  test("AUTHENTICATE PLAIN works without one, and can be given up", async () => {
    const talker = await house.talker();
    talker.send("a AUTHENTICATE PLAIN\r\n");
    await talker.until(/^\+ \r\n/);
    talker.send("*\r\n");
    await expect(talker.until(/\r\n/)).resolves.toMatch(/^a BAD/);
    talker.send("b AUTHENTICATE PLAIN\r\n");
    await talker.until(/^\+ \r\n/);
    talker.send(`${plain}\r\n`);
    await expect(talker.until(/\r\n/)).resolves.toMatch(/^b OK/);
  });

  test.each([
    ["a wrong password", `\0${USER}\0secret`],
    ["no such user", "\0nobody@b.example\0secret"],
    ["acting for another", `alice@b.example\0${USER}\0se "cret\\`],
  ])("is refused: %s", async (_why, response) => {
    const talker = await house.talker();
    const answer = await talker.command(`AUTHENTICATE PLAIN ${Buffer.from(response).toString("base64")}`);
    expect(answer).toMatch(/^NO \[AUTH(ENTICATION|ORIZATION)FAILED\]/);
  });

  test("five wrong passwords end the connection", async () => {
    const talker = await house.talker();
    for (let tries = 0; tries < 5; tries += 1) await expect(talker.command("LOGIN a b")).resolves.toMatch(/^NO/);
    await talker.ended;
  });
});

test("the small commands answer as their documents say", async () => {
  const talker = await house.reader();
  await expect(talker.command("NAMESPACE")).resolves.toMatch(/^\* NAMESPACE \(\("" "\/"\)\) NIL NIL\r\nOK/);
  await expect(talker.command("ID NIL")).resolves.toMatch(/^\* ID \("name" /);
  await expect(talker.command('ID ("name" "x" "version" NIL)')).resolves.toMatch(/^\* ID \("name" /);
  await expect(talker.command("ENABLE CONDSTORE X-THING")).resolves.toMatch(/^\* ENABLED\r\nOK/);
  await expect(talker.command("LOGOUT")).resolves.toMatch(/^\* BYE .*\r\nOK/);
  await talker.ended;
});

test("one connection too many is turned away with a reason", async () => {
  const small = await House.open({ limits: { connections: 1 } });
  try {
    await small.talker();
    await expect(small.talker()).rejects.toThrow(/BYE too many connections/);
  } finally {
    await small.close();
  }
});

test("a connection that is silent too long is ended with a reason", async () => {
  const strict = await House.open({ limits: { idleMilliseconds: 50 } });
  try {
    const talker = await strict.talker();
    await expect(talker.until(/\r\n/)).resolves.toMatch(/^\* BYE nothing was heard/);
    await talker.ended;
  } finally {
    await strict.close();
  }
});
