/** STARTTLS, and what could go wrong around it: RFC 3501 §6.2.1, RFC 9051 §11.1. */

import { connect as connectTls } from "node:tls";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { House, selfSigned, Talker, USER } from "./talk.ts";

let secured: House;
beforeEach(async () => {
  secured = await House.open({ tls: await selfSigned() });
});
afterEach(async () => {
  await secured.close();
});

describe("STARTTLS", () => {
  test("is offered once; a login without it is allowed on loopback", async () => {
    const talker = await secured.talker();
    await expect(talker.command("CAPABILITY")).resolves.toMatch(/ STARTTLS AUTH=PLAIN\r\n/);
    await expect(talker.command(String.raw`LOGIN ${USER} "se \"cret\\"`)).resolves.toMatch(/^OK/);
    await expect(talker.command("STARTTLS")).resolves.toMatch(/^BAD/);
  });

  test("drops what was sent in the clear behind it, so that nobody can slip a command under TLS", async () => {
    const talker = await secured.talker();
    talker.send("a STARTTLS\r\nb CAPABILITY\r\n");
    await expect(talker.until(/\r\n/)).resolves.toMatch(/^a OK/);
    const secure = new Talker(connectTls({ socket: talker.socket, rejectUnauthorized: false }));
    const answer = await secure.command("CAPABILITY");
    expect(answer).toMatch(/^\* CAPABILITY [^\r]*\r\nOK/);
    expect(answer).not.toMatch(/STARTTLS|b OK/);
    secure.close();
  });

  test("with a peer that speaks no TLS ends that connection and no other", async () => {
    const [talker, other] = [await secured.talker(), await secured.talker()];
    await talker.command("STARTTLS");
    talker.send("this is not TLS at all\r\n\r\n");
    await talker.ended;
    await expect(other.command("NOOP")).resolves.toMatch(/^OK/);
  });

  test("ends a connection whose TLS breaks after the handshake", async () => {
    const talker = await secured.talker();
    await talker.command("STARTTLS");
    const secure = new Talker(connectTls({ socket: talker.socket, rejectUnauthorized: false }));
    await secure.command("NOOP");
    talker.send("no TLS record");
    await secure.ended;
  });

  test("is not there without a certificate", async () => {
    const plain = await House.open();
    try {
      const talker = await plain.talker();
      await expect(talker.command("STARTTLS")).resolves.toMatch(/^BAD/);
    } finally {
      await plain.close();
    }
  });
});
