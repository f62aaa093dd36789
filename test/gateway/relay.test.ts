/** S5: a real next hop that takes, puts off, refuses or is away; what the broker and the sender's record learn of it. */
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { BrokerClient, ticketHash } from "../../broker/client.ts";
import { sessionHash } from "../../broker/session.ts";
import { openTicket } from "../../broker/ticket.ts";
import type { GatewayConfig } from "../../config/schema.ts";
import { duration } from "../../config/units.ts";
import { Letters } from "../../gateway/letters.ts";
import type { RelayParts } from "../../gateway/relay.ts";
import type { Spooled } from "../../gateway/spool.ts";
import { readStatus } from "../../gateway/status.ts";
import { Fault } from "../../mime/fault.ts";
import { Happenings } from "../broker/happenings.ts";
import { DAY, forever, openHouse, type House, type Member } from "../broker/house.ts";
import { freePort } from "../servers/ports.ts";
import { startHop, type Hop, type HopOptions } from "./hop.ts";
import { MESSAGE, MESSAGE_ID, openDesk, type Desk } from "./relay-place.ts";

let house: House;
let alice: Member;
const running: (() => Promise<void>)[] = [];

beforeAll(async () => {
  house = await openHouse();
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  const b = await house.gateway("b.example");
  await b.enrol("bob@b.example");
  await b.enrol("carol@b.example");
});
afterEach(async () => {
  for (let stop = running.pop(); stop; stop = running.pop()) await stop();
});
afterAll(() => house?.stop());

async function hop(options: HopOptions = {}): Promise<Hop> {
  const started = await startHop(options);
  running.push(() => started.close());
  return started;
}

async function desk(port: number, changes: Partial<RelayParts> & { folder?: string } = {}): Promise<Desk> {
  const opened = await openDesk(house, alice, port, changes);
  running.push(() => opened.stop());
  return opened;
}

/** The state of each recipient's row at the broker. */
const rows = ({ entry }: Spooled) =>
  Promise.all(
    entry.consignments.map(async ({ ticket }) => {
      const { sessionId } = openTicket(Buffer.from(ticket ?? "", "base64"), house.broker.sessionKeys);
      return (await house.table.find(sessionHash(sessionId)))?.state;
    }),
  );
/** The states in the sender's record. */
const record = async ({ letters }: Desk) =>
  (await letters.find({ sender: "alice@a.example", messageId: MESSAGE_ID }))?.recipients.map(({ state }) => state);

const MAIL_GONE = "550 5.1.1 <bob@b.example>: no such mailbox";

test("each recipient gets a transaction of its own with its octets; broker and record say so; the spool is empty", async () => {
  const { port, attempts } = await hop();
  const opened = await desk(port);
  const spooled = await opened.put({ recipients: ["bob@b.example", "carol@b.example"] });
  opened.relay.take(spooled);
  await attempts.until(() => true, 2);
  await opened.relay.close();
  expect(attempts.all.map(({ from, to }) => [from, to]).sort((a, b) => String(a).localeCompare(String(b)))).toEqual([
    ["alice@a.example", ["bob@b.example"]],
    ["alice@a.example", ["carol@b.example"]],
  ]);
  for (const { mail } of attempts.all) expect(mail.equals(MESSAGE)).toBe(true);
  expect(await rows(spooled)).toEqual(["dispatched", "dispatched"]);
  expect(await record(opened)).toEqual(["accepted", "accepted"]);
  expect(await opened.spool.all()).toEqual([]);
});

test("put off twice, a letter is handed over with the same octets", async () => {
  const { port, attempts } = await hop({ onMail: (_mail, attempt) => (attempt <= 2 ? "451 4.7.1 Greylisted" : undefined) });
  const opened = await desk(port);
  const spooled = await opened.put();
  opened.relay.take(spooled);
  await attempts.until(({ answer }) => answer === "");
  await opened.relay.close();
  expect(attempts.all).toHaveLength(3);
  expect(new Set(attempts.all.map(({ mail }) => mail.toString("latin1"))).size).toBe(1);
  expect(await rows(spooled)).toEqual(["dispatched"]);
});

test("one recipient that has to wait does not hold the other up, and the one that was served is not served again", async () => {
  let patience = 3;
  const onRecipient = (address: string) => (address.startsWith("bob") && patience-- > 0 ? "450 4.2.1 Busy" : undefined);
  const { port, attempts } = await hop({ onRecipient });
  const opened = await desk(port);
  const spooled = await opened.put({ recipients: ["bob@b.example", "carol@b.example"] });
  opened.relay.take(spooled);
  await attempts.until(() => true, 2);
  await opened.relay.close();
  expect(attempts.all.map(({ to }) => to[0])).toEqual(["carol@b.example", "bob@b.example"]);
  expect(await rows(spooled)).toEqual(["dispatched", "dispatched"]);
});

test("a next hop that is not there is tried until it is", async () => {
  const port = await freePort();
  const opened = await desk(port);
  const spooled = await opened.put();
  opened.relay.take(spooled);
  await house.heard.lines.until(({ event, ...line }) => event === "relay.refused" && line["accepted"] === spooled.entry.id, 2);
  expect(await record(opened)).toEqual(["accepted"]);
  const { attempts } = await hop({ port });
  await attempts.until(() => true);
  await opened.relay.close();
  expect(await rows(spooled)).toEqual(["dispatched"]);
});

test("what another process recalls while it waits for its next attempt is not handed over, and nobody is told so a second time", async () => {
  let isBusy = true;
  const { port, attempts } = await hop({ onRecipient: () => (isBusy ? "450 4.2.1 Busy" : undefined) });
  const opened = await desk(port);
  const spooled = await opened.put({ recipients: ["bob@b.example", "carol@b.example"] });
  opened.relay.take(spooled);
  await house.heard.lines.until(({ event, ...line }) => event === "letter.announced" && line["accepted"] === spooled.entry.id, 2);
  const [bob] = spooled.entry.consignments;
  const ticket = Buffer.from(bob?.ticket ?? "", "base64");
  const elsewhere = new Letters(join(opened.folder, "letters"));
  const change = { state: "recalled", at: house.now().toISOString() } as const;
  await elsewhere.change({ sender: "alice@a.example", messageId: MESSAGE_ID }, ticketHash(ticket), change);
  await alice.gateway.client.recall([ticket], alice.identity, forever);
  isBusy = false;
  await opened.relay.close();
  expect(attempts.all.map(({ to }) => to[0])).toEqual(["carol@b.example"]);
  expect(await record(opened)).toEqual(["recalled", "accepted"]);
  expect(await opened.spool.all()).toEqual([]);
});

test("what is recalled while the next hop holds its answer is not said to have failed", async () => {
  const { port, attempts } = await hop();
  class Recalling extends BrokerClient {
    override async dispatched(tickets: readonly Buffer[], signal: AbortSignal): Promise<readonly number[]> {
      const change = { state: "recalled", at: house.now().toISOString() } as const;
      for (const ticket of tickets)
        await opened.letters.change({ sender: "alice@a.example", messageId: MESSAGE_ID }, ticketHash(ticket), change);
      await this.recall(tickets, alice.identity, signal);
      return super.dispatched(tickets, signal);
    }
  }
  const broker = new Recalling(alice.gateway.channel);
  const opened = await desk(port, { broker });
  opened.relay.take(await opened.put());
  await opened.relay.close();
  await broker.close();
  expect(attempts.all.map(({ to }) => to[0])).toEqual(["bob@b.example"]);
  expect(await record(opened)).toEqual(["recalled"]);
  expect(await opened.spool.all()).toEqual([]);
});

test("a letter whose key is gone while it waits for its next attempt is not handed over, and its sender is told", async () => {
  let isBusy = true;
  const { port, attempts } = await hop({ onRecipient: () => (isBusy ? "450 4.2.1 Busy" : undefined) });
  const opened = await desk(port);
  const spooled = await opened.put();
  opened.relay.take(spooled);
  await house.heard.lines.until(({ event, ...line }) => event === "letter.announced" && line["accepted"] === spooled.entry.id);
  const { sessionId } = openTicket(Buffer.from(spooled.entry.consignments[0]?.ticket ?? "", "base64"), house.broker.sessionKeys);
  await house.table.withdraw(sessionHash(sessionId), alice.gateway.channel.certificate.fingerprint, house.now().getTime());
  isBusy = false;
  await attempts.until(() => true);
  await opened.relay.close();
  expect(attempts.all.map(({ from, to }) => [from, to[0]])).toEqual([["", "alice@a.example"]]);
  expect(await record(opened)).toEqual(["failed"]);
});

test("nor where the clock was set back since it was accepted", async () => {
  const { port, attempts } = await hop();
  const opened = await desk(port);
  const spooled = await opened.put({ acceptedAt: new Date(house.now().getTime() + DAY).toISOString() });
  const { sessionId } = openTicket(Buffer.from(spooled.entry.consignments[0]?.ticket ?? "", "base64"), house.broker.sessionKeys);
  await house.table.withdraw(sessionHash(sessionId), alice.gateway.channel.certificate.fingerprint, house.now().getTime());
  opened.relay.take(spooled);
  await attempts.until(() => true);
  await opened.relay.close();
  expect(attempts.all.map(({ from, to }) => [from, to[0]])).toEqual([["", "alice@a.example"]]);
});

test("how many letters wait, and since when the oldest one, is told of a hundred and thirty thousand too", async () => {
  const opened = await desk(await freePort());
  const spooled = await opened.put();
  await opened.stop();
  expect(opened.relay.waiting).toEqual({ letters: 0, oldest: undefined });
  const { acceptedAt } = spooled.entry;
  for (let count = 0; count < 130_000; count++) opened.relay.take({ ...spooled });
  expect(opened.relay.waiting).toEqual({ letters: 130_000, oldest: Date.parse(acceptedAt) });
  await opened.relay.close();
});

test("a stop while a letter waits keeps it, and the next life hands it over, served recipients left out", async () => {
  let away = true;
  const onRecipient = (address: string) => (away && address.startsWith("bob") ? "450 4.2.1 Busy" : undefined);
  const { port, attempts } = await hop({ onRecipient });
  const first = await desk(port);
  const spooled = await first.put({ recipients: ["bob@b.example", "carol@b.example"] });
  first.relay.take(spooled);
  await attempts.until(({ to }) => to[0] === "carol@b.example");
  await house.heard.lines.until(({ event, ...line }) => event === "relay.refused" && line["accepted"] === spooled.entry.id);
  await first.stop();
  expect(await first.spool.all()).toHaveLength(1);
  away = false;
  const second = await desk(port, { folder: first.folder });
  await second.relay.resume();
  await attempts.until(({ to }) => to[0] === "bob@b.example");
  await second.relay.close();
  expect(attempts.all.map(({ to }) => to[0])).toEqual(["carol@b.example", "bob@b.example"]);
  expect(await second.spool.all()).toEqual([]);
});

test("with the broker away a letter still goes out, once; the report follows when it is back", async () => {
  let away = 2;
  const { port, attempts } = await hop();
  class Away extends BrokerClient {
    override async dispatched(tickets: readonly Buffer[], signal: AbortSignal): Promise<readonly number[]> {
      if (away-- > 0) throw new Fault("unavailable", "the broker is away");
      return super.dispatched(tickets, signal);
    }
  }
  const broker = new Away(alice.gateway.channel);
  const opened = await desk(port, { broker });
  const spooled = await opened.put();
  opened.relay.take(spooled);
  await attempts.until(() => true);
  await opened.relay.close();
  await broker.close();
  expect(attempts.all).toHaveLength(1);
  expect(await rows(spooled)).toEqual(["dispatched"]);
});

describe("the DSN parameters of the submission", () => {
  const order = {
    entry: { envelopeId: "QQ314159", returns: "HDRS" as const },
    consignment: { notify: ["SUCCESS", "FAILURE"], originalRecipient: "rfc822;bob@b.example" },
  };

  test("are passed on where the next hop offers them", async () => {
    const { port, attempts } = await hop();
    const opened = await desk(port);
    opened.relay.take(await opened.put(order));
    const [attempt] = await attempts.until(() => true);
    expect(attempt?.mailParameters).toMatchObject({ ENVID: "QQ314159", RET: "HDRS" });
    expect(attempt?.dsn).toMatchObject({ notify: ["SUCCESS", "FAILURE"], orcpt: "rfc822;bob@b.example" });
  });

  test("are left out where it does not", async () => {
    const { port, attempts } = await hop({ withoutDsn: true });
    const opened = await desk(port);
    opened.relay.take(await opened.put(order));
    const [attempt] = await attempts.until(() => true);
    expect(attempt?.mailParameters).not.toHaveProperty("ENVID");
  });
});

describe("what is wrong with us and not with the letter is no reason to give it up", () => {
  test("a password that the next hop refuses: the letter waits until it is right", async () => {
    const user = { name: "gateway", password: "right-password" };
    const { port, attempts } = await hop({ user });
    const nextHop = { host: "127.0.0.1", port, tls: "none" as const, ca: undefined, name: "gateway.a.example" };
    const wrong = await desk(port, { nextHop: { ...nextHop, auth: { user: user.name, login: { pass: "wrong-password" } } } });
    const spooled = await wrong.put();
    wrong.relay.take(spooled);
    const [refused] = await house.heard.lines.until(
      ({ event, ...line }) => event === "relay.refused" && line["accepted"] === spooled.entry.id,
    );
    await wrong.stop();
    expect(refused).toMatchObject({ code: 535, final: false });
    expect(await rows(spooled)).toEqual(["declared"]);
    const right = await desk(port, {
      folder: wrong.folder,
      nextHop: { ...nextHop, auth: { user: user.name, login: { pass: user.password } } },
    });
    await right.relay.resume();
    await attempts.until(() => true);
    await right.relay.close();
    expect(attempts.all.map(({ to }) => to[0])).toEqual(["bob@b.example"]);
  });
});

describe("a letter is given up", () => {
  test.each([
    ["after the message", { onMail: (mail: Buffer) => (mail.equals(MESSAGE) ? MAIL_GONE : undefined) }],
    ["after the recipient", { onRecipient: (address: string) => (address === "bob@b.example" ? MAIL_GONE : undefined) }],
  ])("where the next hop refuses it for good %s: withdrawn, recorded, and the sender told once", async (_why, options) => {
    const { port, attempts } = await hop(options);
    const opened = await desk(port);
    const spooled = await opened.put();
    opened.relay.take(spooled);
    await attempts.until(({ answer, to }) => answer === "" && to[0] === "alice@a.example");
    await opened.relay.close();
    expect(attempts.all.filter(({ answer }) => answer === "").map(({ from, to }) => [from, to])).toEqual([["", ["alice@a.example"]]]);
    expect(await rows(spooled)).toEqual(["withdrawn"]);
    expect((await opened.letters.find({ sender: "alice@a.example", messageId: MESSAGE_ID }))?.recipients[0]).toMatchObject({
      state: "failed",
      reason: MAIL_GONE,
    });
    expect(await opened.spool.all()).toEqual([]);
  });

  test("and is not said to be handed over while the broker is away, which is to be told first", async () => {
    const { port } = await hop({ onRecipient: () => MAIL_GONE });
    const asked = new Happenings<number>();
    class Away extends BrokerClient {
      override async withdraw(tickets: readonly Buffer[]): Promise<never> {
        asked.add(tickets.length);
        throw new Fault("unavailable", "the broker is away");
      }
    }
    const broker = new Away(alice.gateway.channel);
    const opened = await desk(port, { broker });
    opened.relay.take(await opened.put());
    await asked.until(() => true);
    const { sent } = await readStatus({ data: opened.folder } as GatewayConfig);
    expect(sent[0]?.recipients.map(({ state }) => state)).toEqual(["accepted"]);
    await opened.stop();
    await broker.close();
  });

  test("when it has waited too long", async () => {
    const { port, attempts } = await hop({ onMail: (mail) => (mail.equals(MESSAGE) ? "451 4.7.1 Greylisted" : undefined) });
    const retry = { first: duration("20ms"), longest: duration("80ms"), giveUpAfter: duration("1d") };
    const opened = await desk(port, { retry });
    const spooled = await opened.put({ acceptedAt: new Date(house.now().getTime() - DAY - 1).toISOString() });
    opened.relay.take(spooled);
    const [notice] = await attempts.until(({ answer }) => answer === "");
    await opened.relay.close();
    expect(String(notice?.mail)).toMatch(/^Status: 4\.7\.1\r$/mu);
    expect(await rows(spooled)).toEqual(["withdrawn"]);
  });

  test.each([
    ["the sender asked for no notices", { consignment: { notify: ["NEVER"] } }],
    ["the sender asked for other notices", { consignment: { notify: ["SUCCESS", "DELAY"] } }],
    ["there is no sender to tell", { sender: "" }],
  ])("in silence where %s", async (_why, order) => {
    const { port, attempts } = await hop({ onRecipient: () => MAIL_GONE });
    const opened = await desk(port);
    const spooled = await opened.put(order);
    opened.relay.take(spooled);
    await opened.relay.close();
    expect(attempts.all).toEqual([]);
    expect(await rows(spooled)).toEqual(["withdrawn"]);
    expect(await opened.spool.all()).toEqual([]);
  });

  test("a notice that is refused in its turn makes no other notice", async () => {
    const { port, attempts } = await hop({ onMail: () => "550 5.7.1 Nothing from you" });
    const opened = await desk(port);
    opened.relay.take(await opened.put());
    await attempts.until(() => true, 2);
    await opened.relay.close();
    expect(attempts.all.map(({ from }) => from)).toEqual(["alice@a.example", ""]);
    expect(await opened.spool.all()).toEqual([]);
  });
});
