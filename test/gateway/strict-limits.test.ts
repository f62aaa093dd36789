/** What a client of the door may cost: errors, idle commands, connections, time, octets a second; and the honest client beside it is served. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { afterEach, describe, expect, test } from "@jest/globals";
import type { DoorLimits } from "../../config/schema.ts";
import { Visits, networksOf, placeOf } from "../../gateway/visits.ts";
import { ALICE, openTestDoor, type DoorOptions, type TestDoor } from "./door.ts";
import { Talk } from "./talk.ts";

const doors: TestDoor[] = [];
afterEach(async () => {
  for (const door of doors.splice(0)) await door.stop();
});

type Numbers = { readonly [key in keyof DoorLimits]?: number };

async function doorWith(limits: Numbers, options: DoorOptions = {}): Promise<TestDoor> {
  const door = await openTestDoor({ ...options, limits: limits as Partial<DoorLimits> });
  doors.push(door);
  return door;
}

async function plain(door: TestDoor): Promise<Talk> {
  const talk = await Talk.open(door.port);
  await talk.say("EHLO client.example");
  return talk;
}

/** Says a harmless thing again and again until the other side ends. @returns the last answer */
async function dawdle(talk: Talk, line: string): Promise<string> {
  let last = "";
  try {
    for (;;) last = await talk.say(line);
  } catch {
    return last;
  }
}

/** Resolves when the other side has ended the connection, however. */
const gone = (socket: Socket): Promise<void> => new Promise((resolve) => void socket.once("close", () => resolve()));

/** A whole letter, from the greeting on. @returns the last answer */
async function honest(door: TestDoor): Promise<string> {
  const talk = await door.enter();
  await talk.say(`MAIL FROM:<${ALICE}>`);
  await talk.say("RCPT TO:<bob@b.example>");
  return talk.data(`From: ${ALICE}\r\n\r\nHello.`);
}

describe("errors and commands that bring no mail", () => {
  test("the twentieth 5xx is the last answer, then 421", async () => {
    const talk = await plain(await doorWith({}));
    for (let at = 0; at < 9; at++) expect(await talk.say("MAIL FROM:<x>")).toMatch(/^5/u);
    for (let at = 9; at < 20; at++) expect(await talk.say(`MAIL FROM:<${ALICE}>`)).toMatch(/^530 /u);
    expect(await talk.hear()).toBe("421 4.7.0 Too many errors on this connection");
    await talk.ended();
  });

  test("recipients whom the policy refuses are no errors of a user, but no way to ask for ever", async () => {
    const door = await doorWith({ errors: 3, commands: 8 });
    const talk = await door.enter();
    await talk.say(`MAIL FROM:<${ALICE}>`);
    for (let at = 0; at < 5; at++) expect(await talk.say(`RCPT TO:<r${at}@nowhere.example>`)).toMatch(/^550 /u);
    await talk.say("RCPT TO:<bob@b.example>");
    expect(await talk.data(`From: ${ALICE}\r\n\r\nHello.`)).toMatch(/^250 /u); // which forgives them
    await talk.say(`MAIL FROM:<${ALICE}>`);
    for (let at = 0; at < 9; at++) expect(await talk.say(`RCPT TO:<r${at}@nowhere.example>`)).toMatch(/^550 /u);
    expect(await talk.hear()).toBe("421 4.7.0 Too many commands that bring no mail");
    await talk.ended();
  });

  test("NOOP and RSET for ever end the connection", async () => {
    const talk = await (await doorWith({ commands: 10 })).enter();
    expect(await dawdle(talk, "NOOP\r\nRSET")).toBe("421 4.7.0 Too many commands that bring no mail");
  });
});

describe("connections", () => {
  test("of one address beyond the limit are 421, and there is room again when one has ended", async () => {
    const door = await doorWith({ perAddress: 2 });
    const [first, second] = [await door.enter(), await door.enter()];
    const surplus = await Talk.open(door.port);
    expect(surplus.greeting).toBe("421 4.7.0 Too many connections; try again later");
    await surplus.ended();
    for (const talk of [first, second]) {
      void talk.say("QUIT");
      await talk.ended();
    }
    expect(await honest(door)).toMatch(/^250 /u);
  });

  test("beyond the limit in total are 421 or closed before TLS, from whatever address", async () => {
    const door = await doorWith({ connections: 1 });
    const first = await Talk.open(door.port);
    expect((await Talk.open(door.port)).greeting).toMatch(/^421 4\.7\.0 /u);
    const hidden = connectTls({ port: door.tlsPort, host: "127.0.0.1", ca: door.ca });
    hidden.on("error", () => undefined);
    await gone(hidden);
    first.close();
  });

  test("a TLS handshake that never comes holds a place until its deadline only", async () => {
    const door = await doorWith({ connections: 1, authenticate: 200 });
    const mute = connect(door.tlsPort, "127.0.0.1").on("error", () => undefined);
    await gone(mute);
    const talk = await Talk.openTls(door.tlsPort, door.ca);
    expect(talk.greeting).toMatch(/^220 /u);
    talk.close();
  });

  test("a TLS handshake in single octets is no way around the deadline", async () => {
    const door = await doorWith({ authenticate: 300 });
    for (const begin of ["", "EHLO x\r\n"]) {
      const socket = connect(begin === "" ? door.tlsPort : door.port, "127.0.0.1").on("error", () => undefined);
      if (begin !== "") {
        await once(socket, "data");
        socket.write(begin);
        await once(socket, "data");
        socket.write("STARTTLS\r\n");
        await once(socket, "data");
      }
      const hello = Buffer.from("16030100c8010000c40303", "hex"); // the head of a ClientHello of 200 octets
      let at = 0;
      const drip = setInterval(() => socket.write(hello.subarray(at % hello.length, ++at % hello.length || hello.length)), 20);
      await gone(socket);
      clearInterval(drip);
    }
    expect(await honest(door)).toMatch(/^250 /u);
  });
});

describe("each phase has its deadline, which no octet prolongs:", () => {
  const LATE = "421 4.4.2 This took too long";

  test("from the connection to AUTH", async () => {
    const door = await doorWith({ authenticate: 150, commands: 100_000 });
    expect(await dawdle(await plain(door), "NOOP")).toBe(LATE);
  });

  test("from AUTH to MAIL", async () => {
    const door = await doorWith({ idle: 150, commands: 100_000 });
    expect(await dawdle(await door.enter(), "NOOP")).toBe(LATE);
  });

  test("from MAIL to DATA", async () => {
    const door = await doorWith({ envelope: 150, commands: 100_000 });
    const talk = await door.enter();
    await talk.say(`MAIL FROM:<${ALICE}>`);
    expect(await dawdle(talk, "RCPT TO:<bob@b.example>")).toBe(LATE);
  });

  test("the message as a whole, however fast it comes", async () => {
    const door = await doorWith({ message: 300, window: 50, rate: 1 });
    const talk = await door.enter();
    await talk.say(`MAIL FROM:<${ALICE}>`);
    await talk.say("RCPT TO:<bob@b.example>");
    await talk.say("DATA");
    const pour = setInterval(() => talk.write(`${"x".repeat(70)}\r\n`), 5);
    expect(await talk.hear()).toBe(LATE);
    clearInterval(pour);
    expect(door.taken).toEqual([]);
  });

  test("the octets a second of a message", async () => {
    const door = await doorWith({ window: 200, rate: 500 });
    const talk = await door.enter();
    await talk.say(`MAIL FROM:<${ALICE}>`);
    await talk.say("RCPT TO:<bob@b.example>");
    await talk.say("DATA");
    const drip = setInterval(() => talk.write("x"), 20);
    expect(await talk.hear()).toBe("421 4.4.2 The message comes too slowly");
    clearInterval(drip);
    await talk.ended();
    expect(door.taken).toEqual([]);
  });

  test("but our own work is no fault of the client", async () => {
    const door = await doorWith({ envelope: 50, message: 50, idle: 50 });
    const talk = await door.enter();
    door.consign = (submission) => new Promise((resolve) => setTimeout(resolve, 1_500, `id-${door.taken.push(submission)}`));
    await talk.say(`MAIL FROM:<${ALICE}>`);
    await talk.say("RCPT TO:<bob@b.example>");
    expect(await talk.data(`From: ${ALICE}\r\n\r\nHello.`)).toBe("250 2.0.0 Accepted as id-1");
  });
});

test("an honest letter is taken while a thousand clients are idle and two hundred send an octet at a time; the slow ones go", async () => {
  const door = await doorWith(
    { connections: 5_000, perAddress: 5_000, perMinute: 5_000, window: 2_000, authenticate: 20_000 },
    {
      trustedNetworks: [{ address: "127.0.0.0", prefix: 8, family: "ipv4" }],
    },
  );
  const slow = await Promise.all(
    Array.from({ length: 200 }, async () => {
      const talk = await plain(door);
      await talk.say(`MAIL FROM:<${ALICE}>`);
      await talk.say("RCPT TO:<bob@b.example>");
      expect(await talk.say("DATA")).toMatch(/^354 /u);
      return talk;
    }),
  );
  const drip = setInterval(() => slow.forEach((talk) => talk.write("x")), 1_000);
  const idle = await Promise.all(Array.from({ length: 1_000 }, () => Talk.open(door.port)));
  const began = performance.now();
  expect(await honest(door)).toMatch(/^250 /u);
  expect(performance.now() - began).toBeLessThan(5_000);
  for (const talk of slow) expect(await talk.hear()).toMatch(/^421 4\.4\.2 The message comes too slowly/u);
  clearInterval(drip);
  expect(door.taken).toHaveLength(1);
  for (const talk of [...idle, ...slow]) talk.close();
});

describe("the counting of visits", () => {
  const limits = { connections: 10, perAddress: 3, perMinute: 6 };

  test("a new minute gives new connections, and ended ones make room once", () => {
    let time = 0;
    const visits = new Visits(
      limits,
      () => false,
      () => time,
    );
    const leave = [1, 2, 3].map(() => visits.enter("192.0.2.1"));
    expect(visits.enter("192.0.2.1")).toBeUndefined();
    leave[0]?.();
    leave[0]?.();
    expect(visits.enter("192.0.2.1")).toBeDefined();
    expect(visits.enter("192.0.2.1")).toBeUndefined();
    leave[1]?.();
    expect(visits.enter("192.0.2.1")).toBeUndefined(); // the seventh of this minute
    time += 60_000;
    expect(visits.enter("192.0.2.1")).toBeDefined();
  });

  test("addresses of one IPv6 network are one, and a trusted network is held by the total only", () => {
    const isTrusted = networksOf([{ address: "10.0.0.0", prefix: 8, family: "ipv4" }]);
    const visits = new Visits(limits, isTrusted);
    for (const address of ["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::3"]) expect(visits.enter(address)).toBeDefined();
    expect(visits.enter("2001:db8::4")).toBeUndefined();
    expect(visits.enter("2001:db8:0:1::4")).toBeDefined();
    for (let at = 0; at < 6; at++) expect(visits.enter("10.1.2.3")).toBeDefined(); // ten in all
    expect(visits.enter("10.1.2.3")).toBeUndefined();
  });

  test.each([
    ["192.0.2.1", "192.0.2.1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["2001:db8::1", "2001:db8:0:0"],
    ["2001:0db8:0000:0000:1:2:3:4", "2001:db8:0:0"],
    ["fe80::1%eth0", "fe80:0:0:0"],
    ["::1", "0:0:0:0"],
  ])("%s counts as %s", (address, place) => {
    expect(placeOf(address)).toBe(place);
  });
});
