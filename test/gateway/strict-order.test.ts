/** The order at the door: who speaks before being greeted, or before an answer that it must wait for, is sent away (RFC 2920 §3.1, RFC 3207 §4.2). */
import { once } from "node:events";
import { connect } from "node:net";
import { connect as connectTls } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { ALICE, PASSWORD, openTestDoor, type TestDoor } from "./door.ts";
import { Talk } from "./talk.ts";

let door: TestDoor;
beforeAll(async () => {
  door = await openTestDoor();
});
afterAll(() => door?.stop());

const UNSYNCHRONISED = "554 5.5.1 The client did not wait for the answer to this command";

describe("who speaks before the greeting is sent away:", () => {
  test.each([
    ["a command", "EHLO client.example\r\n"],
    ["half a command", "EHLO"],
    ["a whole dialogue", `EHLO x\r\nMAIL FROM:<${ALICE}>\r\nRCPT TO:<bob@b.example>\r\nDATA\r\n`],
  ])("%s in the clear", async (_what, octets) => {
    const socket = connect(door.port, "127.0.0.1");
    socket.once("connect", () => socket.write(octets));
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(String(answer)).toBe("554 5.5.1 The client spoke before it was greeted\r\n");
    await once(socket.resume(), "close");
  });

  test("a command inside TLS", async () => {
    const socket = connectTls({ port: door.tlsPort, host: "127.0.0.1", ca: door.ca });
    socket.write("EHLO client.example\r\n");
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(String(answer)).toMatch(/^554 5\.5\.1 /u);
    await once(socket.resume(), "close");
  });
});

test("who waits for the greeting does not wait long", async () => {
  const began = performance.now();
  for (let at = 0; at < 20; at++) (await Talk.open(door.port)).close();
  expect(performance.now() - began).toBeLessThan(1_500); // the library alone needs 100 ms for each
});

describe("what stands behind a command whose answer must be awaited is not obeyed:", () => {
  test.each([
    ["EHLO", "EHLO client.example\r\nNOOP\r\n"],
    ["HELO, half a command", "HELO client.example\r\nN"],
  ])("%s", async (_what, octets) => {
    const talk = await Talk.open(door.port);
    talk.write(octets);
    expect(await talk.hear()).toBe(UNSYNCHRONISED);
    await talk.ended();
  });

  test("STARTTLS: a command injected in the clear never counts as said inside TLS", async () => {
    const talk = await Talk.open(door.port);
    await talk.say("EHLO client.example");
    talk.write("STARTTLS\r\nEHLO injected.example\r\n");
    expect(await talk.hear()).toBe(UNSYNCHRONISED);
    await talk.ended();
  });

  test("STARTTLS: what comes in the clear a moment later is dropped or ends the connection", async () => {
    const socket = connect(door.port, "127.0.0.1");
    const heard: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => {
      heard.push(chunk);
      const text = String(chunk);
      if (text.includes("ESMTP")) socket.write("EHLO client.example\r\n");
      else if (text.startsWith("250")) socket.write("STARTTLS\r\n");
      else if (text.startsWith("220 Ready")) socket.write("EHLO injected.example\r\nNOOP\r\n");
    });
    await once(socket, "close");
    const said = Buffer.concat(heard).toString("latin1");
    expect(said.split("220 Ready to start TLS\r\n")[1]).not.toMatch(/250|injected/u);
  });

  test("DATA: a message that did not wait for 354 is not accepted", async () => {
    const talk = await door.enter();
    await talk.say(`MAIL FROM:<${ALICE}>`);
    await talk.say("RCPT TO:<bob@b.example>");
    talk.write(`DATA\r\nFrom: ${ALICE}\r\n\r\nHello.\r\n.\r\n`);
    expect(await talk.hear()).toBe(UNSYNCHRONISED);
    await talk.ended();
    expect(door.taken).toEqual([]);
  });

  test("DATA at the end of a group with the message in the same write", async () => {
    const talk = await door.enter();
    talk.write(`MAIL FROM:<${ALICE}>\r\nRCPT TO:<bob@b.example>\r\nDATA\r\n.\r\n`);
    expect([await talk.hear(), await talk.hear(), await talk.hear()]).toEqual(["250 Accepted", "250 Accepted", UNSYNCHRONISED]);
    await talk.ended();
    expect(door.taken).toEqual([]);
  });
});

describe("a client that pipelines as RFC 2920 has it is served:", () => {
  test("MAIL, RCPT and DATA in one group, and the next group behind the final dot", async () => {
    const talk = await door.enter();
    const group = `MAIL FROM:<${ALICE}>\r\nRCPT TO:<bob@b.example>\r\nDATA\r\n`;
    const message = `From: ${ALICE}\r\n\r\nHello.\r\n.\r\n`;
    talk.write(group);
    for (const code of [/^250 /u, /^250 /u, /^354 /u]) expect(await talk.hear()).toMatch(code);
    talk.write(message + group);
    for (const code of [/^250 /u, /^250 /u, /^250 /u, /^354 /u]) expect(await talk.hear()).toMatch(code);
    talk.write(`${message}RSET\r\nQUIT\r\n`);
    for (const code of [/^250 /u, /^250 /u, /^221 /u]) expect(await talk.hear()).toMatch(code);
    await talk.ended();
    expect(door.taken).toHaveLength(2);
  });

  test("a hundred and eighty commands in one write", async () => {
    const talk = await door.enter();
    const rounds = Array.from({ length: 45 }, () => `MAIL FROM:<${ALICE}>\r\nRCPT TO:<bob@b.example>\r\nRSET\r\nNOOP\r\n`);
    talk.write(rounds.join(""));
    for (let at = 0; at < 180; at++) expect(await talk.hear()).toMatch(/^250 /u);
    talk.close();
  });

  test("AUTH PLAIN with MAIL behind it", async () => {
    const talk = await Talk.openTls(door.tlsPort, door.ca);
    await talk.say("EHLO client.example");
    talk.write(`AUTH PLAIN ${Buffer.from(`\0alice\0${PASSWORD}`).toString("base64")}\r\nMAIL FROM:<${ALICE}>\r\n`);
    expect(await talk.hear()).toMatch(/^235 /u);
    expect(await talk.hear()).toMatch(/^250 /u);
    talk.close();
  });
});
