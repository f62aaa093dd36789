/** The broker's steps S1-S11 by the calls of its client: what each gives, what it leaves in the table, and what a repetition does. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { BrokerClient, type Declared } from "../../broker/client.ts";
import { sessionHash } from "../../broker/session.ts";
import { openTicket, ticketHash } from "../../broker/ticket.ts";
import { parseMailbox } from "../../mime/address.ts";
import type { ContentKey } from "../../mime/key.ts";
import { DAY, MINUTE, confirmAs, declaredTo, forever, letterFrom, openHouse, proofBy, ticketOf, type House, type Member } from "./house.ts";

const BOB = "bob@b.example";
const CAROL = "carol@b.example";

let house: House;
let alice: Member;
let bob: Member;
let carol: Member;

beforeAll(async () => {
  house = await openHouse();
  alice = await (await house.gateway("a.example")).enrol("alice@a.example", ["a.liddell@a.example"]);
  const b = await house.gateway("b.example");
  [bob, carol] = [await b.enrol(BOB, ["bob.alias@b.example"]), await b.enrol(CAROL)];
});
afterAll(() => house?.stop());

const rowOf = (ticket: Buffer) => house.table.find(sessionHash(openTicket(ticket, house.broker.sessionKeys).sessionId));
const keyIn = ({ key }: { readonly key: ContentKey | undefined }): string => {
  if (!key) throw new Error("no key was given");
  return key.lend((octets) => octets.toString("hex"));
};

test("S1-S11: each recipient's letter is declared, dispatched, released and confirmed, and its key goes the same way once", async () => {
  const { client } = alice.gateway;
  const order = letterFrom(house, alice, [BOB, CAROL]);
  const grants = await client.declare(order, alice.identity, forever);
  expect(grants.map(({ recipient }) => recipient.address)).toEqual([BOB, CAROL]);
  expect(new Set(grants.map(keyIn)).size).toBe(2); // S2: a key for each recipient
  for (const { ticket } of grants) expect((await rowOf(ticket))?.state).toBe("declared");
  const [forBob, forCarol] = grants;
  if (!forBob || !forCarol) throw new Error("no grants");
  expect(forBob.encryptionCertificate?.mailboxes).toContain(BOB);

  await client.dispatched([forBob.ticket], forever); // S5
  expect((await rowOf(forBob.ticket))?.state).toBe("dispatched");
  expect((await rowOf(forCarol.ticket))?.state).toBe("declared");

  const release = await bob.gateway.client.present(forBob.ticket, bob.identity, forever); // S6-S7
  expect(keyIn(release)).toBe(keyIn(forBob));
  const { address: _address, ...declared } = order.recipients[0] ?? {};
  expect(release).toMatchObject({ messageId: order.messageId, ...declared, hold: "held", signing: "inner" });
  expect([release.sender.key, release.recipient.key]).toEqual(["alice@a.example", BOB]);
  expect((await rowOf(forBob.ticket))?.state).toBe("released");

  const before = house.receipts();
  const confirmed = await confirmAs(house, bob, release); // S10
  const row = await rowOf(forBob.ticket);
  expect(row).toMatchObject({ state: "confirmed", evidence: confirmed.evidence, ticketHash: ticketHash(forBob.ticket) });
  expect(row).not.toHaveProperty("wrappedKey");
  expect(house.receipts()).toBe(before + 1); // S11
  expect(await house.table.pending()).toContainEqual({ evidence: confirmed.evidence, session: row?.session });
  expect((await rowOf(forCarol.ticket))?.state).toBe("declared"); // the other letter is another affair
});

test("S7: presented again before the confirmation, the same recipient gets the same key and the same next ticket", async () => {
  const ticket = await ticketOf(house, alice, BOB);
  const releases = await Promise.all([1, 2, 3].map(() => bob.gateway.client.present(ticket, bob.identity, forever)));
  expect(new Set(releases.map(keyIn)).size).toBe(1);
  expect(new Set(releases.map(({ nextTicket }) => nextTicket.toString("hex"))).size).toBe(1);
});

test("S7: presenting implies that the letter was dispatched; a late report changes nothing", async () => {
  const ticket = await ticketOf(house, alice, BOB);
  await bob.gateway.client.present(ticket, bob.identity, forever);
  await alice.gateway.client.dispatched([ticket], forever);
  expect((await rowOf(ticket))?.state).toBe("released");
});

test("S10: a repeated confirmation gets the same evidence, and one receipt waits", async () => {
  const ticket = await ticketOf(house, alice, BOB);
  const release = await bob.gateway.client.present(ticket, bob.identity, forever);
  const answers = await Promise.all([1, 2, 3].map(() => confirmAs(house, bob, release)));
  expect(new Set(answers.map(({ evidence, confirmedAt }) => `${evidence} ${confirmedAt.getTime()}`)).size).toBe(1);
  const waiting = (await house.table.pending()).filter(({ evidence }) => evidence === answers[0]?.evidence);
  expect(waiting).toHaveLength(1);
});

test("over many lines at once: 60 presentations of a ticket get one key, 30 confirmations one evidence, and one receipt waits", async () => {
  const client = new BrokerClient({ ...bob.gateway.channel, timeout: 50_000 });
  const ticket = await ticketOf(house, alice, BOB);
  const releases = await Promise.all(Array.from({ length: 60 }, () => client.present(ticket, bob.identity, forever)));
  expect(new Set(releases.map((release) => keyIn(release) + release.nextTicket.toString("hex") + release.filing)).size).toBe(1);
  expect(releases.filter(({ isFirst }) => isFirst)).toHaveLength(1);
  const [release] = releases;
  if (!release) throw new Error("nothing was released");
  const proof = proofBy(house, bob, release.commit);
  const confirmed = await Promise.all(Array.from({ length: 30 }, () => client.confirm(release.nextTicket, proof, bob.identity, forever)));
  await client.close();
  const [evidence, ...others] = new Set(confirmed.map((one) => one.evidence));
  expect(others).toEqual([]);
  expect((await house.table.pending()).filter((entry) => entry.evidence === evidence)).toHaveLength(1);
});

test("S1: a declaration that comes again with its name gets the same keys and tickets; with other words it is refused", async () => {
  const { client } = alice.gateway;
  const order = letterFrom(house, alice, [BOB, CAROL]);
  const [first, again] = [await client.declare(order, alice.identity, forever), await client.declare(order, alice.identity, forever)];
  expect(again.map((grant) => [keyIn(grant), grant.ticket])).toEqual(first.map((grant) => [keyIn(grant), grant.ticket]));
  const other = letterFrom(house, alice, [BOB, CAROL], { letter: order.letter });
  await expect(client.declare(other, alice.identity, forever)).rejects.toMatchObject({ code: "forbidden" });
});

test("S6: of two gateways that watch one mailbox, one gets the key at a time", async () => {
  const { channel } = bob.gateway;
  const second = new BrokerClient({ ...channel, holder: "another-installation-of-b" });
  const ticket = await ticketOf(house, alice, BOB);
  const first = await bob.gateway.client.present(ticket, bob.identity, forever);
  await expect(second.present(ticket, bob.identity, forever)).rejects.toMatchObject({ code: "unavailable" });
  house.pass(MINUTE);
  const taken = await second.present(ticket, bob.identity, forever);
  expect([taken.isFirst, taken.filing, keyIn(taken)]).toEqual([false, first.filing, keyIn(first)]);
  await second.close();
});

test("S10: a confirmation after the expiry still counts, for the letter was opened", async () => {
  const ticket = await ticketOf(house, alice, BOB, { expiresAt: new Date(house.now().getTime() + MINUTE) });
  const release = await bob.gateway.client.present(ticket, bob.identity, forever);
  house.pass(2 * MINUTE);
  await expect(confirmAs(house, bob, release)).resolves.toHaveProperty("evidence");
});

test("a letter to an alias is released to the mailbox that the alias belongs to", async () => {
  const ticket = await ticketOf(house, alice, "bob.alias@b.example");
  const { recipient, key } = await bob.gateway.client.present(ticket, bob.identity, forever);
  key?.wipe();
  expect(recipient.key).toBe("bob.alias@b.example");
});

test("a sender may write as an alias of the mailbox that signs", async () => {
  const order = letterFrom(house, alice, [BOB], { sender: parseMailbox("A.Liddell@a.example") });
  await expect(alice.gateway.client.declare(order, alice.identity, forever)).resolves.toHaveLength(1);
});

const declared = { commit: "0".repeat(64), contentId: "0".repeat(64), hold: "held", signing: "inner" } as const;

test.each<[string, Partial<Declared>, string]>([
  ["the sender is another mailbox", { sender: parseMailbox("ceo@a.example") }, "forbidden"],
  ["a recipient is not enrolled", { recipients: [{ ...declared, address: parseMailbox("dave@nowhere.example") }] }, "no-certificate"],
  ["the expiry lies in the past", { expiresAt: new Date(Date.now() - DAY) }, "malformed"],
  ["there is no recipient", { recipients: [] }, "malformed"],
  ["the commitment is no SHA-256", { recipients: [{ ...declared, address: parseMailbox(BOB), commit: "0".repeat(63) }] }, "malformed"],
  [
    "the content identifier has no 32 octets",
    { recipients: [{ ...declared, address: parseMailbox(BOB), contentId: "0".repeat(62) }] },
    "malformed",
  ],
  ["the form is unknown", { recipients: [{ ...declared, address: parseMailbox(BOB), hold: "open" as "held" }] }, "malformed"],
  [
    "the order of signing is unknown",
    { recipients: [{ ...declared, address: parseMailbox(BOB), signing: "none" as "inner" }] },
    "malformed",
  ],
  ["the way of confirming is unknown", { confirm: "never" as "same-session" }, "malformed"],
  ["the Message-ID holds a line end", { messageId: "<a@b>\r\nBcc: <x@y>" }, "malformed"],
])("S1 is refused, and no row is made, where %s", async (_why, changes, code) => {
  const declared = house.heard.lines.all.filter(({ event }) => event === "session.declared").length;
  const order = letterFrom(house, alice, [BOB], changes);
  await expect(alice.gateway.client.declare(order, alice.identity, forever)).rejects.toMatchObject({ code });
  expect(house.heard.lines.all.filter(({ event }) => event === "session.declared")).toHaveLength(declared);
});

test("S2: one recipient without certificates refuses the letter for all, and says who it is", async () => {
  const order = letterFrom(house, alice, [BOB, "dave@nowhere.example"]);
  await expect(alice.gateway.client.declare(order, alice.identity, forever)).rejects.toMatchObject({
    code: "no-certificate",
    advice: "dave@nowhere.example is not enrolled with this broker.",
  });
});

test("S3: an expiry beyond the longest is cut to it, to whole seconds", async () => {
  const order = letterFrom(house, alice, [BOB], { expiresAt: new Date(house.now().getTime() + 400 * DAY) });
  const [grant] = await alice.gateway.client.declare(order, alice.identity, forever);
  const days = ((grant?.expiresAt.getTime() ?? 0) - house.now().getTime()) / DAY;
  expect(days).toBeGreaterThan(89.99);
  expect(days).toBeLessThanOrEqual(90);
  expect((grant?.expiresAt.getTime() ?? 1) % 1_000).toBe(0);
});

test("a letter of a thousand recipients fits into one declaration", async () => {
  const common = declaredTo(house, alice, BOB); // everyone in To shares one signed letter
  const recipients = Array.from({ length: 1_000 }, (_none, at) => ({
    ...common,
    hold: "enclosed" as const,
    address: parseMailbox(`reader-${at}@x.example`),
  }));
  const order = letterFrom(house, alice, [], { recipients });
  const grants = await alice.gateway.client.declare(order, alice.identity, forever);
  expect(new Set(grants.map(({ ticket }) => ticketHash(ticket))).size).toBe(1_000);
});

test("withdrawn by its own gateway a letter's key is erased; withdrawing again is as good", async () => {
  const ticket = await ticketOf(house, alice, BOB);
  await alice.gateway.client.withdraw([ticket], forever);
  await alice.gateway.client.withdraw([ticket], forever);
  const row = await rowOf(ticket);
  expect(row?.state).toBe("withdrawn");
  expect(row).not.toHaveProperty("wrappedKey");
});

test("a released letter cannot be withdrawn any more", async () => {
  const ticket = await ticketOf(house, alice, BOB);
  await bob.gateway.client.present(ticket, bob.identity, forever);
  await alice.gateway.client.withdraw([ticket], forever);
  expect((await rowOf(ticket))?.state).toBe("released");
});

test("another gateway can neither withdraw a letter nor report it as dispatched", async () => {
  const ticket = await ticketOf(house, alice, BOB);
  await bob.gateway.client.withdraw([ticket], forever);
  await bob.gateway.client.dispatched([ticket], forever);
  expect((await rowOf(ticket))?.state).toBe("declared");
});

test("the directory knows mailboxes by address and alias in any case, and says undefined of strangers", async () => {
  const lookUp = (address: string) => alice.gateway.client.lookUp(parseMailbox(address), forever);
  expect((await lookUp("BOB@b.example"))?.fingerprint).toBe(bob.identity.openers[0]?.certificate.fingerprint);
  expect((await lookUp("bob.alias@b.example"))?.fingerprint).toBe(bob.identity.openers[0]?.certificate.fingerprint);
  expect(await lookUp("dave@nowhere.example")).toBeUndefined();
  expect(await lookUp('"odd/../name"@b.example')).toBeUndefined();
});

test("the log names sessions by twelve digits of the ticket's hash, and holds no key, no whole ticket and no address of a person", async () => {
  const [grant] = await alice.gateway.client.declare(letterFrom(house, alice, [CAROL]), alice.identity, forever);
  if (!grant) throw new Error("no grant");
  const release = await carol.gateway.client.present(grant.ticket, carol.identity, forever);
  await confirmAs(house, carol, release);
  const text = house.heard.text();
  expect(text).toContain(ticketHash(grant.ticket).slice(0, 12));
  for (const secret of [ticketHash(grant.ticket), grant.ticket.toString("base64"), CAROL]) expect(text).not.toContain(secret);
  for (const form of ["hex", "base64"] as const) expect(text).not.toContain(Buffer.from(keyIn(release), "hex").toString(form));
});
