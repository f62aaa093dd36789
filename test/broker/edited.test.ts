/** A table that somebody else can write: an edited row gives out no key and gets no receipt signed, whichever home it is in (docs/protocol.md, section 6). */
import Database from "libsql";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { Outbox } from "../../broker/outbox.ts";
import { FILES } from "../../broker/files.ts";
import { sessionHash } from "../../broker/session.ts";
import { outcomesAt, sweep } from "../../broker/sweep.ts";
import { openRedisTable } from "../../broker/table-redis.ts";
import type { OutboxEntry } from "../../broker/table.ts";
import { openTicket } from "../../broker/ticket.ts";
import { duration } from "../../config/units.ts";
import { Fault } from "../../mime/fault.ts";
import { readReceipt } from "../../mime/report.ts";
import { startRedis } from "../servers/redis.ts";
import type { LogLine } from "./happenings.ts";
import { MINUTE, confirmAs, declaredTo, forever, openHouse, ticketOf, type House, type Member, type TestForm } from "./house.ts";

/** Edits a field of a row past the broker. */
type Edit = (session: string, field: string, value: string) => void;

interface Lab {
  readonly house: House;
  readonly read: (session: string, field: string) => string;
  readonly edit: Edit;
  stop(): Promise<void>;
}

async function embeddedLab(): Promise<Lab> {
  const house = await openHouse();
  const at = <T>(work: (db: Database.Database) => T): T => {
    const db = new Database(join(house.folder, "data", FILES.table));
    try {
      return work(db);
    } finally {
      db.close();
    }
  };
  return {
    house,
    read: (session, field) =>
      at((db) => String((db.prepare(`SELECT "${field}" AS it FROM session WHERE session = ?`).get([session]) as { it: unknown }).it)),
    edit: (session, field, value) =>
      at((db) => void db.prepare(`UPDATE session SET "${field}" = ? WHERE session = ?`).run([value, session])),
    stop: () => house.stop(),
  };
}

async function redisLab(): Promise<Lab> {
  const redis = await startRedis();
  const table = await openRedisTable({ url: redis.url, prefix: "k:", retention: duration("30d") });
  const house = await openHouse((embedded) => {
    void embedded.close();
    return table;
  });
  const row = (session: string): string => `k:row:{b${session.slice(0, 2)}}:${session}`;
  return {
    house,
    read: (session, field) => redis.cli("HGET", row(session), field),
    edit: (session, field, value) => void redis.cli("HSET", row(session), field, value),
    async stop() {
      await house.stop();
      await redis.stop();
    },
  };
}

const sweepOf = (house: House, at: number): Promise<number> => house.table.sweep(at, outcomesAt(house.broker.masterKey, at));

describe.each([
  ["embedded", embeddedLab],
  ["redis", redisLab],
])("%s", (_name, start) => {
  let lab: Lab;
  let house: House;
  let alice: Member;
  let bob: Member;
  let mallory: Member;

  beforeAll(async () => {
    lab = await start();
    ({ house } = lab);
    alice = await (await house.gateway("a.example")).enrol("alice@a.example");
    bob = await (await house.gateway("b.example")).enrol("bob@b.example");
    mallory = await (await house.gateway("m.example")).enrol("mallory@m.example");
  });
  afterAll(() => lab?.stop());
  afterEach(async () => {
    for (const entry of await house.table.pending()) await house.table.done(entry);
  });

  const declared = async (form: TestForm = {}) => {
    const recipient = declaredTo(house, alice, "bob@b.example", form);
    const ticket = await ticketOf(house, alice, "bob@b.example", { recipients: [recipient] });
    return { ticket, session: sessionHash(openTicket(ticket, house.broker.sessionKeys).sessionId) };
  };
  const present = (ticket: Buffer, member = bob) => member.gateway.client.present(ticket, member.identity, forever);

  /** Another value of the same shape. */
  const another = (field: string, value: string): string => {
    if (field === "terms") return value.replace('"inner"', '"both"');
    if (field.endsWith("At")) return String(Number(value) + 1_000);
    if (field === "recipient") return "mallory@m.example";
    return `${value.slice(0, -1)}${value.endsWith("0") ? "1" : "0"}`;
  };

  const IMMUTABLE = [
    "gateway",
    "sender",
    "recipient",
    "messageId",
    "commit",
    "ticketHash",
    "terms",
    "declaredAt",
    "expiresAt",
    "declaredMac",
  ];

  /** Edits one field after the other, each time put back afterwards. @returns what came of each */
  async function editing(session: string, fields: readonly string[], attempt: () => Promise<string>): Promise<Record<string, string>> {
    const outcomes: Record<string, string> = {};
    for (const field of fields) {
      const before = lab.read(session, field);
      lab.edit(session, field, another(field, before));
      outcomes[field] = await attempt();
      lab.edit(session, field, before);
    }
    return outcomes;
  }
  const everyOne = (fields: readonly string[], word: string): Record<string, string> =>
    Object.fromEntries(fields.map((field) => [field, word]));
  const wordOf = (attempt: Promise<unknown>): Promise<string> =>
    attempt.then(
      () => "given out",
      (thrown: unknown) => Fault.from(thrown).code,
    );

  test("a row that cannot be read any more holds up no other one's expiry", async () => {
    const letters = await Promise.all([declared(), declared(), declared()]);
    await alice.gateway.client.dispatched(
      letters.map(({ ticket }) => ticket),
      forever,
    );
    const [broken, ...others] = letters.map(({ session }) => session) as [string, string, string];
    const state = lab.read(broken, "state");
    lab.edit(broken, "state", "nonsense");
    const later = Number(lab.read(broken, "expiresAt"));
    const told: string[] = [];
    const broker = { ...house.broker, now: () => new Date(later), receiptWaits: (entry: OutboxEntry) => void told.push(entry.session) };
    await expect(sweep(broker)).rejects.toMatchObject({ code: "internal" });
    expect(told.toSorted()).toEqual(others.toSorted());
    expect(await sweepOf(house, later)).toBe(0); // it was put aside, and said once
    lab.edit(broken, "state", state);
    for (const session of others) expect(lab.read(session, "state")).toBe("expired");
    expect(await sweepOf(house, later + 2 * 60 * MINUTE)).toBeGreaterThan(0);
    expect(lab.read(broken, "state")).toBe("expired");
  });

  test.each(["held", "enclosed"] as const)("a %s letter gives nothing out while any of its declared fields is edited", async (hold) => {
    const { ticket, session } = await declared({ hold });
    const fields = IMMUTABLE.filter((field) => field !== "recipient");
    expect(await editing(session, fields, () => wordOf(present(ticket)))).toEqual(everyOne(fields, "internal"));
    const after = await declared({ hold });
    expect(await editing(after.session, ["recipient"], () => wordOf(present(after.ticket, mallory)))).toEqual({ recipient: "internal" });
    house.pass(60_000); // Mallory's claim
    expect(await wordOf(present(after.ticket))).toBe("given out"); // the drill has teeth
  });

  test.each(["held", "enclosed"] as const)(
    "a %s letter that was given out is neither given out again nor confirmed while it is edited",
    async (hold) => {
      const { ticket, session } = await declared({ hold });
      const { nextTicket, commit } = await present(ticket);
      const fields = [...IMMUTABLE.filter((field) => field !== "recipient"), "releasedAt", "filing", "releasedMac"];
      expect(await editing(session, fields, () => wordOf(present(ticket)))).toEqual(everyOne(fields, "internal"));
      const confirmed = await editing(session, fields, () => wordOf(confirmAs(house, bob, { nextTicket, commit })));
      expect(confirmed).toEqual({ ...everyOne(fields, "internal"), commit: "signature-invalid" });
      expect(await house.table.pending()).toEqual([]);
      expect(await wordOf(confirmAs(house, bob, { nextTicket, commit }))).toBe("given out");
    },
  );

  test.each(["confirmed", "withdrawn", "expired"])(
    "flipping the state of a %s letter back gives nothing out: its key is gone",
    async (end) => {
      const { ticket, session } = await declared();
      if (end === "withdrawn") await alice.gateway.client.withdraw([ticket], forever);
      else {
        const release = await present(ticket);
        if (end === "confirmed") await confirmAs(house, bob, release);
        else await sweepOf(house, house.now().getTime() + 100 * 86_400_000);
      }
      for (const state of ["declared", "dispatched", "released"]) {
        lab.edit(session, "state", state);
        expect(await wordOf(present(ticket))).toBe("internal");
      }
      lab.edit(session, "state", end);
    },
  );

  test("a next session put in by hand confirms nothing without a ticket of the broker's", async () => {
    const { ticket, session } = await declared();
    const release = await present(ticket);
    lab.edit(session, "nextSession", "ab".repeat(32));
    await expect(confirmAs(house, bob, release)).rejects.toMatchObject({ code: "session-gone" });
  });

  /** Runs the outbox until it has said something of this evidence. */
  async function mailedReceipts(evidence: string): Promise<Buffer[]> {
    const mails: Buffer[] = [];
    const [stopping, said] = [new AbortController(), house.heard.lines.all.length];
    const times = { retryFirst: duration("1h"), retryLongest: duration("1h") };
    const outbox = new Outbox(
      house.broker,
      { send: async (_to, mail) => void (mail.includes(evidence) && mails.push(mail)), close: () => undefined },
      times,
      "one",
    );
    const running = outbox.run(stopping.signal);
    const isNew = (line: LogLine): boolean => house.heard.lines.all.indexOf(line) >= said && line["evidence"] === evidence;
    await house.heard.lines.until((line) => /^receipt\.(?:sent|waits)$/u.test(line.event) && isNew(line));
    stopping.abort();
    await running;
    return mails;
  }

  /** Whether the last line about this evidence says that its row was edited. */
  const lastReason = (evidence: string): string => {
    const line = house.heard.lines.all.findLast((one) => one["evidence"] === evidence);
    return String(line?.["reason"]).replace(/.*(edited).*/u, "$1");
  };

  test("no receipt is signed or mailed while any field of the confirmed row is edited: it would be forged", async () => {
    const { ticket, session } = await declared();
    const { evidence } = await confirmAs(house, bob, await present(ticket));
    const added = ["releasedAt", "confirmedAt", "certificate", "proof", "confirmedMac"];
    const fields = [...IMMUTABLE.filter((field) => field !== "declaredMac"), ...added];
    const outcomes = await editing(session, fields, async () => {
      const mails = await mailedReceipts(evidence);
      return mails.length > 0 ? "mailed" : lastReason(evidence);
    });
    expect(outcomes).toEqual(everyOne(fields, "edited"));
    const [mail] = await mailedReceipts(evidence); // and untouched it is mailed
    expect(readReceipt(mail ?? Buffer.alloc(0), alice.gateway.client.trust)?.evidence.evidence).toBe(evidence);
  });

  test.each([
    ["expired without a release", false],
    ["expired after one", true],
  ])("no report is signed or mailed while any field of a letter %s is edited: it would be forged", async (_how, isReleased) => {
    const { ticket, session } = await declared();
    const added = ["endedAt", "endedMac", ...(isReleased ? ["releasedAt", "filing", "releasedMac"] : [])];
    await alice.gateway.client.dispatched([ticket], forever);
    if (isReleased) await present(ticket);
    await sweepOf(house, house.now().getTime() + 100 * 86_400_000);
    const evidence = (await house.table.pending()).find((entry) => entry.session === session)?.evidence ?? "";
    const fields = [...IMMUTABLE, ...added];
    const outcomes = await editing(session, fields, async () => {
      const mails = await mailedReceipts(evidence);
      return mails.length > 0 ? "mailed" : lastReason(evidence);
    });
    expect(outcomes).toEqual(everyOne(fields, "edited"));
    const [mail] = await mailedReceipts(evidence);
    const expected = { evidence, reason: "expired", releasedAt: isReleased ? expect.stringMatching(/Z$/u) : "" };
    expect(readReceipt(mail ?? Buffer.alloc(0), alice.gateway.client.trust)?.evidence).toMatchObject(expected);
  });
});
