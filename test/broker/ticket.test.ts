/** Tickets (claim 5): opaque to whoever carries them, and whatever is wrong with one, its bearer learns the same. */
import { randomBytes } from "node:crypto";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { newSessionId, sessionHash } from "../../broker/session.ts";
import { openTicket, sealTicket, ticketHash } from "../../broker/ticket.ts";
import type { Opener } from "../../mime/open.ts";
import { sealToCertificate } from "../../mime/seal.ts";
import { makeParties, party } from "../mime/parties.ts";
import { faceOf, faultOf } from "../mime/faults.ts";

let broker: Opener;
let foreign: Opener;
const sessionId = newSessionId();
const nextSessionId = newSessionId();

beforeAll(async () => {
  const { root } = await makeParties();
  [broker, foreign] = [(await party(root, "session@broker.example")).opener, (await party(root, "x@y.example")).opener];
});

test("a first ticket names its session, the next one both", () => {
  expect(openTicket(sealTicket({ sessionId, nextSessionId: undefined }, broker.certificate), [broker])).toEqual({
    sessionId,
    nextSessionId: undefined,
  });
  expect(openTicket(sealTicket({ sessionId, nextSessionId }, broker.certificate), [broker])).toEqual({ sessionId, nextSessionId });
});

test("any of the broker's session keys opens it, so that an old key can be kept beside a new one", () => {
  expect(openTicket(sealTicket({ sessionId, nextSessionId }, broker.certificate), [foreign, broker]).sessionId).toEqual(sessionId);
});

test("it holds nothing of the session ID or its hash, and no two are alike", () => {
  const [one, two] = [1, 2].map(() => sealTicket({ sessionId, nextSessionId }, broker.certificate).toString("hex"));
  expect(one).not.toBe(two);
  for (const secret of [sessionId.toString("hex"), nextSessionId.toString("hex"), sessionHash(sessionId)])
    expect(one).not.toContain(secret);
});

test("its hash is SHA-256 in hex", () => {
  expect(ticketHash(Buffer.from("abc"))).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
});

describe("session-gone, and not to be told apart", () => {
  test.each<[string, () => Buffer]>([
    ["nothing", () => Buffer.alloc(0)],
    ["random octets", () => randomBytes(300)],
    ["sealed to a foreign certificate", () => sealTicket({ sessionId, nextSessionId }, foreign.certificate)],
    ["its first octet altered", () => altered(0)],
    ["its middle altered", () => altered(150)],
    ["its last octet altered", () => altered(-1)],
    ["cut short", () => sealTicket({ sessionId, nextSessionId }, broker.certificate).subarray(0, -1)],
    ["something behind it", () => Buffer.concat([sealTicket({ sessionId, nextSessionId }, broker.certificate), Buffer.from([0])])],
    ["no content", () => sealToCertificate(Buffer.alloc(0), broker.certificate)],
    ["an unknown kind", () => sealToCertificate(Buffer.concat([Buffer.from([3]), sessionId]), broker.certificate)],
    [
      "a first ticket with an ID too short",
      () => sealToCertificate(Buffer.concat([Buffer.from([1]), sessionId.subarray(1)]), broker.certificate),
    ],
    [
      "a first ticket with two IDs",
      () => sealToCertificate(Buffer.concat([Buffer.from([1]), sessionId, nextSessionId]), broker.certificate),
    ],
    ["a next ticket with one ID", () => sealToCertificate(Buffer.concat([Buffer.from([2]), sessionId]), broker.certificate)],
  ])("%s", (_why, make) => {
    const fault = faultOf(() => openTicket(make(), [broker]));
    expect(fault.code).toBe("session-gone");
    expect(faceOf(fault)).toBe(faceOf(faultOf(() => openTicket(Buffer.from("other"), [broker]))));
  });

  test("a ticket where the broker has no key at all", () => {
    expect(faultOf(() => openTicket(sealTicket({ sessionId, nextSessionId }, broker.certificate), [])).code).toBe("session-gone");
  });
});

function altered(at: number): Buffer {
  const ticket = Buffer.from(sealTicket({ sessionId, nextSessionId }, broker.certificate));
  const index = at < 0 ? ticket.length + at : at;
  ticket[index] = (ticket[index] ?? 0) ^ 1;
  return ticket;
}
