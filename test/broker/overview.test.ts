/** What an operator sees: gateways, domains, certificates and letters, with what was revoked; nothing that opens, presents or confirms a letter. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { certificatesIn, gatewaysIn, organisationsIn, sessionCounts, sessionsNamed } from "../../broker/overview.ts";
import { revoke } from "../../broker/revoke.ts";
import { ticketHash } from "../../broker/ticket.ts";
import { confirmAs, forever, openHouse, ticketOf, type House, type Member } from "./house.ts";

let house: House;
let alice: Member;
let bob: Member;

beforeAll(async () => {
  house = await openHouse();
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  bob = await (await house.gateway("b.example", "bob@c.example")).enrol("bob@b.example");
});
afterAll(() => house?.stop());

test("each domain and address with the gateways that act for it, and the mailboxes in it", async () => {
  expect(await organisationsIn(house.broker.table)).toEqual([
    { scope: "a.example", gateways: ["gateway.a.example"], mailboxes: 1 },
    { scope: "b.example", gateways: ["gateway.b.example"], mailboxes: 1 },
    { scope: "bob@c.example", gateways: ["gateway.b.example"], mailboxes: 0 },
  ]);
});

test("a revoked gateway stays in the list, said to be so, and acts for nobody; so with the certificates of its mailboxes", async () => {
  const { table } = house.broker;
  const carol = await (await house.gateway("d.example")).enrol("carol@d.example");
  const { fingerprint } = carol.gateway.channel.certificate;
  expect((await certificatesIn(table, "Carol@d.example")).map(({ use, revoked, former }) => [use, revoked, former])).toEqual([
    ["signing", false, false],
    ["encryption", false, false],
  ]);
  await revoke(table, { gateway: fingerprint }, "unspecified", house.now(), "test");
  const gateways = await gatewaysIn(table);
  expect(gateways.filter(({ revoked }) => revoked).map((one) => one.fingerprint)).toEqual([fingerprint]);
  expect((await organisationsIn(table)).find(({ scope }) => scope === "d.example")).toEqual({
    scope: "d.example",
    gateways: [],
    mailboxes: 1,
  });
  expect((await certificatesIn(table, "carol@d.example")).every(({ revoked }) => revoked)).toBe(true);
  expect((await certificatesIn(table)).filter(({ revoked }) => !revoked)).toHaveLength(4);
});

test("certificates of a mailbox that is not enrolled are nobody's", async () => {
  await expect(certificatesIn(house.broker.table, "dora@a.example")).rejects.toThrow("dora@a.example is not enrolled");
});

test("letters by their state, and one letter by its Message-ID, its session or its ticket", async () => {
  const { table } = house.broker;
  const waiting = await ticketOf(house, alice, "bob@b.example", { messageId: "<waits@a.example>" });
  const opened = await ticketOf(house, alice, "bob@b.example", { messageId: "<opened@a.example>" });
  await confirmAs(house, bob, await bob.gateway.client.present(opened, bob.identity, forever));
  expect(await sessionCounts(table)).toEqual({ declared: 1, confirmed: 1 });
  const [row] = await sessionsNamed(table, "<waits@a.example>");
  expect(row).toMatchObject({ state: "declared", sender: "alice@a.example", recipient: "bob@b.example", ticketHash: ticketHash(waiting) });
  for (const name of [row?.["session"] ?? "", (row?.["session"] ?? "").slice(0, 12), ticketHash(waiting).slice(0, 12)]) {
    expect(await sessionsNamed(table, name)).toEqual([row]);
  }
  expect(await sessionsNamed(table, "<other@a.example>")).toEqual([]);
  expect(JSON.stringify(await sessionsNamed(table, "<opened@a.example>"))).not.toMatch(/wrappedKey|nextTicket|proof|Mac/u);
});
