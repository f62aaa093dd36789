/** S6 and S10: whatever is wrong with a ticket, who asks gets one and the same answer, to the octet; nobody learns what exists. */
import { sweep } from "../../broker/sweep.ts";
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { newSessionId } from "../../broker/session.ts";
import { sealTicket } from "../../broker/ticket.ts";
import {
  DAY,
  MINUTE,
  call,
  confirmAs,
  declaredTo,
  faceOf,
  forever,
  openHouse,
  proofBy,
  signedBy,
  ticketOf,
  wordOf,
  type House,
  type Member,
} from "./house.ts";

const BOB = "bob@b.example";

let house: House;
let alice: Member;
let bob: Member;
let carol: Member;
let mallory: Member;
/** The face of the answer to a ticket that never existed. */
let gone: string;

const sessionCertificate = () => {
  const [key] = house.broker.sessionKeys;
  if (!key) throw new Error("no session key");
  return key.certificate;
};
const unknownTicket = (): Buffer => sealTicket({ sessionId: newSessionId(), nextSessionId: undefined }, sessionCertificate());
const unknownNext = (): Buffer => sealTicket({ sessionId: newSessionId(), nextSessionId: newSessionId() }, sessionCertificate());

const present = (member: Member, ticket: Buffer) =>
  call(house, member.gateway.channel, "/v1/present", { body: signedBy(house, member, "present", { ticket: ticket.toString("base64") }) });
/** Confirms with a receipt that this member really signs for the letter of the commitment. */
const confirm = (member: Member, nextTicket: Buffer, commit: string) => {
  const receipt = proofBy(house, member, commit).receipt.toString("base64");
  const body = signedBy(house, member, "confirm", { nextTicket: nextTicket.toString("base64"), result: "opened", receipt });
  return call(house, member.gateway.channel, "/v1/confirm", { body });
};

beforeAll(async () => {
  house = await openHouse();
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  const b = await house.gateway("b.example");
  [bob, carol] = [await b.enrol(BOB), await b.enrol("carol@b.example")];
  mallory = await (await house.gateway("m.example")).enrol("mallory@m.example");
  gone = faceOf(await present(bob, unknownTicket()));
});
afterAll(() => house?.stop());

test("the answer names the fault and nothing of the ticket", async () => {
  const answer = await present(bob, unknownTicket());
  expect(answer.status).toBe(404);
  expect(answer.headers["content-type"]).toBe("application/problem+json");
  expect(JSON.parse(answer.body.toString())).toEqual({
    type: "urn:kakitome:fault:session-gone",
    title: "There is nothing for this ticket",
    status: 404,
  });
});

/** What is done to a fresh ticket of Bob's, and who presents what then. */
const PRESENTED: readonly (readonly [string, (ticket: Buffer) => Promise<readonly [Member, Buffer]>])[] = [
  ["by another mailbox of the same gateway", async (ticket) => [carol, ticket]],
  ["by a mailbox of another gateway", async (ticket) => [mallory, ticket]],
  ["by its own sender", async (ticket) => [alice, ticket]],
  ["with its last octet altered", async (ticket) => [bob, altered(ticket, ticket.length - 1)]],
  ["with an octet in its middle altered", async (ticket) => [bob, altered(ticket, ticket.length >> 1)]],
  ["cut short", async (ticket) => [bob, ticket.subarray(0, -1)]],
  ["as octets that are no ticket", async (ticket) => [bob, randomBytes(ticket.length)]],
  [
    "sealed to another certificate",
    async () => [bob, sealTicket({ sessionId: newSessionId(), nextSessionId: undefined }, alice.identity.openers[0]!.certificate)],
  ],
  ["after it was confirmed", async (ticket) => [bob, await confirmed(ticket)]],
  ["after it was withdrawn", async (ticket) => [bob, await withdrawn(ticket)]],
];

describe("S6: a ticket presented", () => {
  test.each(PRESENTED)("%s gets the answer of an unknown one", async (_why, prepare) => {
    const [member, ticket] = await prepare(await ticketOf(house, alice, BOB));
    expect(faceOf(await present(member, ticket))).toBe(gone);
  });

  test("after its expiry, before and after the sweep, gets the answer of an unknown one", async () => {
    const ticket = await ticketOf(house, alice, BOB, { expiresAt: new Date(house.now().getTime() + MINUTE) });
    house.pass(2 * MINUTE);
    expect(faceOf(await present(bob, ticket))).toBe(gone);
    await sweep(house.broker);
    expect(faceOf(await present(bob, ticket))).toBe(gone);
  });

  test("after it vanished undispatched gets the answer of an unknown one", async () => {
    const ticket = await ticketOf(house, alice, BOB);
    house.pass(DAY + MINUTE);
    await sweep(house.broker);
    expect(faceOf(await present(bob, ticket))).toBe(gone);
  });

  test("a foreign presentation does not spoil the letter: its recipient still gets the key", async () => {
    const ticket = await ticketOf(house, alice, BOB);
    await present(mallory, ticket);
    await present(carol, ticket);
    expect((await present(bob, ticket)).status).toBe(200);
  });

  test("the next ticket presents too, for it names the same session, and gets nothing new", async () => {
    const ticket = await ticketOf(house, alice, BOB);
    const first = await bob.gateway.client.present(ticket, bob.identity, forever);
    const again = await bob.gateway.client.present(first.nextTicket, bob.identity, forever);
    expect(again.nextTicket.equals(first.nextTicket)).toBe(true);
  });
});

/** What is confirmed by whom once Bob has been given the key. */
const CONFIRMED: readonly (readonly [string, (ticket: Buffer, next: Buffer) => Promise<readonly [Member, Buffer]>])[] = [
  ["with the first ticket", async (ticket) => [bob, ticket]],
  ["by another mailbox of the same gateway", async (_ticket, next) => [carol, next]],
  ["by a mailbox of another gateway", async (_ticket, next) => [mallory, next]],
  ["by the sender, who would like a receipt", async (_ticket, next) => [alice, next]],
  ["with an altered next ticket", async (_ticket, next) => [bob, altered(next, next.length - 1)]],
  ["with a next ticket of no session", async () => [bob, unknownNext()]],
];

describe("S10: a letter confirmed", () => {
  test.each(CONFIRMED)("%s gets the answer of an unknown ticket, and no receipt waits", async (_why, prepare) => {
    const ticket = await ticketOf(house, alice, BOB);
    const { nextTicket, commit } = await bob.gateway.client.present(ticket, bob.identity, forever);
    const receipts = house.receipts();
    const [member, shown] = await prepare(ticket, nextTicket);
    expect(faceOf(await confirm(member, shown, commit))).toBe(gone);
    expect(house.receipts()).toBe(receipts);
  });

  test("with a guessed next session ID in the right session is refused", async () => {
    const sessionId = newSessionId();
    const forged = sealTicket({ sessionId, nextSessionId: newSessionId() }, sessionCertificate());
    expect(faceOf(await confirm(bob, forged, declaredTo(house, alice, BOB).commit))).toBe(gone);
  });

  test("after the sweep of its expiry gets the answer of an unknown ticket", async () => {
    const ticket = await ticketOf(house, alice, BOB, { expiresAt: new Date(house.now().getTime() + MINUTE) });
    const { nextTicket, commit } = await bob.gateway.client.present(ticket, bob.identity, forever);
    house.pass(2 * MINUTE);
    await sweep(house.broker);
    expect(faceOf(await confirm(bob, nextTicket, commit))).toBe(gone);
  });
});

test("reports and withdrawals tell nothing of a ticket either: unknown and foreign ones get the same answer", async () => {
  const body = (ticket: Buffer): string => JSON.stringify({ tickets: [ticket.toString("base64")] });
  const known = await ticketOf(house, alice, BOB);
  for (const path of ["/v1/dispatched", "/v1/withdraw"]) {
    const faces = [];
    for (const [member, ticket] of [
      [mallory, known],
      [alice, unknownTicket()],
    ] as const) {
      faces.push(faceOf(await call(house, member.gateway.channel, path, { body: body(ticket), type: "application/json" })));
    }
    expect(new Set(faces).size).toBe(1);
    const rubbish = await call(house, alice.gateway.channel, path, { body: body(randomBytes(40)), type: "application/json" });
    expect(wordOf(rubbish)).toBe("session-gone");
  }
});

function altered(ticket: Buffer, at: number): Buffer {
  const copy = Buffer.from(ticket);
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
}

async function confirmed(ticket: Buffer): Promise<Buffer> {
  await confirmAs(house, bob, await bob.gateway.client.present(ticket, bob.identity, forever));
  return ticket;
}

async function withdrawn(ticket: Buffer): Promise<Buffer> {
  await alice.gateway.client.withdraw([ticket], forever);
  return ticket;
}
