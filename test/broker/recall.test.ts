/** Recall, status, T1 and T2 as gateways meet them: what the calls say, and the signed reports that the sender gets, each once. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { RecallOutcome } from "../../broker/client.ts";
import { Outbox } from "../../broker/outbox.ts";
import { sweep } from "../../broker/sweep.ts";
import { openRedisTable } from "../../broker/table-redis.ts";
import { duration } from "../../config/units.ts";
import { verifyProof } from "../../mime/proof.ts";
import { readReceipt } from "../../mime/report.ts";
import { startRedis, type RedisServer } from "../servers/redis.ts";
import { confirmAs, DAY, declaredTo, forever, letterFrom, openHouse, ticketOf, writtenFor, type House, type Member } from "./house.ts";

const BOB = "bob@b.example";

let redis: RedisServer;
let house: House;
let alice: Member;
let bob: Member;
let mallory: Member;

beforeAll(async () => {
  redis = await startRedis();
  const table = await openRedisTable({ url: redis.url, prefix: "r:", retention: duration("30d") });
  house = await openHouse((embedded) => {
    void embedded.close();
    return table;
  });
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  bob = await (await house.gateway("b.example")).enrol(BOB);
  mallory = await (await house.gateway("m.example")).enrol("mallory@m.example");
});
afterAll(async () => {
  await house?.stop();
  await redis?.stop();
});

const recall = async (ticket: Buffer, member = alice): Promise<RecallOutcome | undefined> =>
  (await member.gateway.client.recall([ticket], member.identity, forever))[0];
const present = (ticket: Buffer, member = bob) => member.gateway.client.present(ticket, member.identity, forever);
const statusOf = async (ticket: Buffer, member = alice) => (await member.gateway.client.status([ticket], member.identity, forever))[0];

async function sent(changes: Parameters<typeof letterFrom>[3] = {}, warnAt?: Date): Promise<{ ticket: Buffer; commit: string }> {
  const recipient = { ...declaredTo(house, alice, BOB), warnAt };
  const ticket = await ticketOf(house, alice, BOB, { recipients: [recipient], ...changes });
  await alice.gateway.client.dispatched([ticket], forever);
  return { ticket, commit: recipient.commit };
}

/** Mails what waits, by brokers on one table; the first `dead` deliveries die after the mail has left. */
async function mailed(brokers = 1, dead = 0): Promise<Buffer[]> {
  const mails: Buffer[] = [];
  const stopping = new AbortController();
  let dying = dead;
  const send = async (_to: string, mail: Buffer): Promise<void> => {
    mails.push(mail);
    if (dying-- > 0) throw new Error("killed before the 250 was read");
  };
  const times = { retryFirst: duration("20ms"), retryLongest: duration("40ms") };
  const outboxes = Array.from(
    { length: brokers },
    (_none, at) => new Outbox(house.broker, { send, close: () => undefined }, times, `${at}`),
  );
  const running = outboxes.map((outbox) => outbox.run(stopping.signal));
  for (let waiting = 1; waiting > 0;) {
    waiting = (await house.table.pending()).length;
    await new Promise((resolve) => setImmediate(resolve));
  }
  stopping.abort();
  await Promise.all(running);
  return mails;
}

const evidenceIn = (mail: Buffer | undefined) => readReceipt(mail ?? Buffer.alloc(0), alice.gateway.client.trust)?.evidence;
const textIn = (mail: Buffer | undefined): string => mail?.toString() ?? "";

describe("recall", () => {
  test("of a letter on its way: its recipient learns it, everybody else learns nothing, and the sender gets one report that proves it", async () => {
    const { ticket, commit } = await sent();
    const first = await recall(ticket);
    expect(first).toEqual({ outcome: "recalled", at: expect.any(Date) });
    expect(await recall(ticket)).toEqual(first);
    await expect(present(ticket)).rejects.toMatchObject({ code: "recalled" });
    await expect(present(ticket, mallory)).rejects.toMatchObject({ code: "session-gone" });
    await expect(present(ticket, alice)).rejects.toMatchObject({ code: "session-gone" });
    expect(await statusOf(ticket)).toMatchObject({ state: "recalled", endedAt: expect.any(Date) });
    const [mail, ...others] = await mailed();
    expect(others).toEqual([]);
    expect(evidenceIn(mail)).toMatchObject({
      event: "ContentHandoverFailure",
      reason: "recalled",
      releasedAt: "",
      auditHead: expect.stringMatching(/^[0-9a-f]{64}$/u),
    });
    expect(textIn(mail)).toMatch(/Action: failed\r\nStatus: 5\.7\.5/u);
    expect(textIn(mail)).toContain("Auto-Submitted: auto-replied");
    const { payload, signatureFile } = writtenFor(commit);
    const verdict = verifyProof({ receipt: mail ?? Buffer.alloc(0), original: signatureFile, payload }, alice.gateway.client.trust);
    expect(verdict.links.filter(({ state }) => state !== "good")).toEqual([]);
    const other = writtenFor(declaredTo(house, alice, BOB).commit);
    expect(
      verifyProof({ receipt: mail ?? Buffer.alloc(0), original: other.signatureFile, payload: undefined }, alice.gateway.client.trust)
        .holds,
    ).toBe(false);
  });

  test("too late says when the key was given out, and when the letter was opened, and no report is mailed", async () => {
    const { ticket } = await sent();
    const release = await present(ticket);
    expect(await recall(ticket)).toEqual({ outcome: "too-late", releasedAt: expect.any(Date) });
    await confirmAs(house, bob, release);
    expect(await recall(ticket)).toEqual({ outcome: "too-late", releasedAt: expect.any(Date), confirmedAt: expect.any(Date) });
    expect((await mailed()).map((mail) => evidenceIn(mail)?.event)).toEqual(["ContentHandover"]);
  });

  test("and status are for the sender only; anything else is gone", async () => {
    const { ticket } = await sent();
    for (const member of [bob, mallory]) {
      expect(await recall(ticket, member)).toEqual({ outcome: "gone" });
      expect(await statusOf(ticket, member)).toEqual({ state: "gone" });
    }
    expect(await recall(Buffer.from("no ticket"))).toEqual({ outcome: "gone" });
    expect(await statusOf(ticket)).toMatchObject({ state: "dispatched", declaredAt: expect.any(Date), expiresAt: expect.any(Date) });
    await present(ticket);
    expect(await statusOf(ticket)).toMatchObject({ state: "released", releasedAt: expect.any(Date) });
  });
});

describe("silence", () => {
  test("T1 and T2 are clamped and echoed in the grant", async () => {
    const far = new Date(house.now().getTime() + 400 * DAY);
    const at = new Date(house.now().getTime() + DAY);
    const grants = await Promise.all(
      [at, far].map((warnAt) =>
        alice.gateway.client.declare(
          letterFrom(house, alice, [], { expiresAt: far, recipients: [{ ...declaredTo(house, alice, BOB), warnAt }] }),
          alice.identity,
          forever,
        ),
      ),
    );
    const [near, late] = grants.map(([grant]) => grant);
    expect(near?.warnAt).toEqual(at);
    expect(late?.warnAt).toBeUndefined(); // it would come with T2
    expect(late?.expiresAt.getTime()).toBeLessThanOrEqual(house.now().getTime() + 90 * DAY);
  });

  test("one notice at T1 and one failure at T2, by two brokers that sweep and mail, one of which dies: never twice, never before", async () => {
    await mailed();
    const warnAt = new Date(house.now().getTime() + 2 * DAY);
    const { ticket } = await sent({ expiresAt: new Date(house.now().getTime() + 5 * DAY) }, warnAt);
    const opened = await sent({ expiresAt: new Date(house.now().getTime() + 5 * DAY) }, warnAt);
    const given = await present(opened.ticket);
    expect(given.key).toBeDefined();
    const both = () => Promise.all([sweep(house.broker), sweep(house.broker)]);
    await both();
    expect(await house.table.pending()).toEqual([]);
    house.pass(2 * DAY + 1_000);
    await both();
    await both();
    const notices = await mailed(2, 1);
    expect(notices).toHaveLength(3);
    expect(new Set(notices.map((mail) => mail.toString("latin1"))).size).toBe(2); // sent again with the same octets
    expect(notices.map((mail) => evidenceIn(mail)?.event)).toEqual(["Delayed", "Delayed", "Delayed"]);
    expect(textIn(notices[0])).toMatch(/Action: delayed\r\nStatus: 4\.4\.7/u);
    expect(await mailed(2)).toEqual([]);
    house.pass(3 * DAY);
    await both();
    const failures = await mailed(2);
    expect(failures).toHaveLength(2);
    const found = failures.map((mail) => evidenceIn(mail));
    const never = found.findIndex((evidence) => evidence?.releasedAt === "");
    expect(found).toEqual([0, 1].map(() => expect.objectContaining({ event: "ContentHandoverFailure", reason: "expired" })));
    expect([textIn(failures[never]), textIn(failures[1 - never])]).toEqual([
      expect.stringContaining("Subject: Expired: "),
      expect.stringContaining("Subject: Expired, opening not confirmed: "),
    ]);
    for (const mail of failures)
      expect(verifyProof({ receipt: mail, original: undefined, payload: undefined }, alice.gateway.client.trust).holds).toBe(true);
    expect(await statusOf(ticket)).toMatchObject({ state: "expired" });
    expect(await recall(opened.ticket)).toMatchObject({ outcome: "too-late", releasedAt: expect.any(Date) });
    await both();
    expect(await mailed(2)).toEqual([]);
  });

  test("without the wish for a receipt the letter is confirmed and no mail goes out; in Japanese where the sender wants so", async () => {
    const quiet = await sent({ recipients: [{ ...declaredTo(house, alice, BOB), receipt: false }] });
    await confirmAs(house, bob, await present(quiet.ticket));
    expect(await statusOf(quiet.ticket)).toMatchObject({ state: "confirmed", confirmedAt: expect.any(Date) });
    expect(await mailed()).toEqual([]);
    const { ticket } = await sent({ language: "ja" });
    await recall(ticket);
    const [mail] = await mailed();
    expect(textIn(mail)).toContain("Subject: =?utf-8?B?");
    expect(evidenceIn(mail)).toMatchObject({ reason: "recalled" });
  });
});
