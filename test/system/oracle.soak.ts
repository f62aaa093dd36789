/** The timing oracle: whether the time of a refusal tells what is wrong with a ticket. Welch's t over interleaved requests on one kept connection (npm run oracle). */
import { sweep } from "../../broker/sweep.ts";
import { Agent, request } from "node:https";
import { performance } from "node:perf_hooks";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { newSessionId } from "../../broker/session.ts";
import { openRedisTable } from "../../broker/table-redis.ts";
import { sealTicket } from "../../broker/ticket.ts";
import { duration } from "../../config/units.ts";
import {
  MINUTE,
  confirmAs,
  faceOf,
  forever,
  openHouse,
  signedBy,
  ticketOf,
  type Answer,
  type House,
  type Member,
} from "../broker/house.ts";
import { startRedis, type RedisServer } from "../servers/redis.ts";

const KINDS = ["unknown", "foreign", "expired", "withdrawn", "used"] as const;
type Kind = (typeof KINDS)[number];

const [one = "unknown", other = "foreign"] = (process.env["KAKITOME_ORACLE_PAIR"] ?? "unknown,foreign").split(",") as Kind[];
const COUNT = Number(process.env["KAKITOME_ORACLE_COUNT"] ?? "10000");
/** Different tickets of each kind, so that no cache learns one of them. */
const TICKETS = 100;
const WARM_UP = 500;
/** The machine's own pauses lie in the slowest ones: the test is made on the fastest part of all, for several parts. */
const PARTS = [0.99, 0.95, 0.9, 0.75, 0.5];
const LIMIT = 4.5;

let redis: RedisServer;
let house: House;
let alice: Member;
let bob: Member;

beforeAll(async () => {
  redis = await startRedis();
  const table = await openRedisTable({ url: redis.url, prefix: "k:", retention: duration("30d") });
  house = await openHouse((embedded) => {
    void embedded.close();
    return table;
  });
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  bob = await (await house.gateway("b.example")).enrol("bob@b.example");
  await bob.gateway.enrol("carol@b.example");
});
afterAll(async () => {
  await house.stop();
  await redis.stop();
});

/** A ticket that Bob gets nothing for. */
async function ticketThatIs(kind: Kind): Promise<Buffer> {
  if (kind === "unknown") {
    const [key] = house.broker.sessionKeys;
    if (!key) throw new Error("no session key");
    return sealTicket({ sessionId: newSessionId(), nextSessionId: undefined }, key.certificate);
  }
  if (kind === "foreign") return ticketOf(house, alice, "carol@b.example");
  const soon = { expiresAt: new Date(house.now().getTime() + MINUTE) };
  const ticket = await ticketOf(house, alice, "bob@b.example", kind === "expired" ? soon : {});
  if (kind === "withdrawn") await alice.gateway.client.withdraw([ticket], forever);
  if (kind === "used") await confirmAs(house, bob, await bob.gateway.client.present(ticket, bob.identity, forever));
  return ticket;
}

test(`${one} and ${other} tickets are refused in the same time`, async () => {
  const tickets = new Map<Kind, Buffer[]>();
  for (const kind of [one, other]) {
    const made = [];
    for (let count = 0; count < TICKETS; count++) made.push(await ticketThatIs(kind));
    tickets.set(kind, made);
  }
  if ([one, other].includes("expired")) {
    house.pass(2 * MINUTE);
    await sweep(house.broker);
  }
  const ask = asker();
  const faces = new Set<string>();
  const times: [number[], number[]] = [[], []];
  for (let count = -WARM_UP; count < 2 * COUNT; count++) {
    const which = Math.random() < 0.5 ? 0 : 1;
    const kind = [one, other][which] ?? "unknown";
    const ticket = tickets.get(kind)?.[Math.floor(Math.random() * TICKETS)] ?? Buffer.alloc(0);
    const body = signedBy(house, bob, "present", { ticket: ticket.toString("base64") });
    const { milliseconds, answer } = await ask(body);
    faces.add(faceOf(answer));
    if (count >= 0) times[which].push(milliseconds);
  }
  expect(faces.size).toBe(1);
  const verdicts = PARTS.map((part) => ({ part, ...welch(times, part) }));
  for (const { part, t, difference, counts } of verdicts) {
    const share = `fastest ${part * 100} %`.padEnd(14);
    console.log(
      `${one} / ${other}  ${share}  ${counts.join(" and ")} requests  difference ${(difference * 1_000).toFixed(1)} us  t = ${t.toFixed(2)}`,
    );
  }
  const worst = Math.max(...verdicts.map(({ t }) => Math.abs(t)));
  expect(worst).toBeLessThan(LIMIT);
}, 3_600_000);

/** One connection, kept; the time is that of the answer alone. */
function asker(): (body: Buffer) => Promise<{ milliseconds: number; answer: Answer }> {
  const { certificate, key } = bob.gateway.channel;
  const agent = new Agent({
    keepAlive: true,
    maxSockets: 1,
    ca: house.broker.root.certificate.pem,
    cert: certificate.pem,
    key: key.export({ type: "pkcs8", format: "pem" }).toString(),
  });
  return (body) =>
    new Promise((resolve, reject) => {
      const began = performance.now();
      const sent = request(new URL("/v1/present", house.url), { method: "POST", agent }, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () => {
          const milliseconds = performance.now() - began;
          resolve({ milliseconds, answer: { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) } });
        });
      });
      sent.on("error", reject).end(body);
    });
}

/** Welch's t of the fastest part of both samples together (B. L. Welch, 1947; cropped as in "dude, is my code constant time?"). */
function welch([a, b]: [number[], number[]], part: number): { t: number; difference: number; counts: number[] } {
  const all = [...a, ...b].sort((x, y) => x - y);
  const limit = all[Math.floor(all.length * part) - 1] ?? 0;
  const kept = [a, b].map((times) => times.filter((time) => time <= limit));
  const [left, right] = kept.map((times) => {
    const mean = times.reduce((sum, time) => sum + time, 0) / times.length;
    const variance = times.reduce((sum, time) => sum + (time - mean) ** 2, 0) / (times.length - 1);
    return { mean, error: variance / times.length };
  });
  if (!left || !right) return { t: Number.NaN, difference: Number.NaN, counts: [] };
  const difference = left.mean - right.mean;
  return { t: difference / Math.sqrt(left.error + right.error), difference, counts: kept.map(({ length }) => length) };
}
