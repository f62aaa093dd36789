/** The next hop fails at every stage of SMTP, in six manners; then it heals: no letter is lost, and none comes twice that need not (RFC 5321). */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { sessionHash } from "../../broker/session.ts";
import { openTicket } from "../../broker/ticket.ts";
import type { Spooled } from "../../gateway/spool.ts";
import { heardLog, type HeardLog } from "../broker/happenings.ts";
import { openHouse, type House, type Member } from "../broker/house.ts";
import { startHop } from "../gateway/hop.ts";
import { MESSAGE, openDesk, type Desk } from "../gateway/relay-place.ts";
import { HEALS_WITHIN, startCells } from "./cells.ts";
import { FAULTS, STAGES, startFakeHop, type Fault, type Stage } from "./fake-hop.ts";
import { hasSink, startSink } from "./sink.ts";

interface Cell {
  readonly stage: Stage;
  readonly fault: Fault;
}

interface Outcome {
  /** Every copy for Bob that some hop had whole. */
  readonly copies: readonly Buffer[];
  readonly notices: number;
  readonly row: string | undefined;
  readonly spooled: number;
  /** Milliseconds from the healing on. */
  readonly healedIn: number;
}

const CELLS: readonly Cell[] = STAGES.flatMap((stage) => FAULTS.map((fault) => ({ stage, fault })));
const BOB = "bob@b.example";
const TIMEOUTS = { connect: 1_000, greeting: 1_000, answer: 1_000 };
/** The letter itself is refused for good at these stages; at the others the hop only says that it cannot talk now. */
const ABOUT_THE_LETTER: readonly Stage[] = ["MAIL", "RCPT", "DATA", "."];

const isRefused = ({ stage, fault }: Cell): boolean => (fault === "5xx" || fault === "abort") && ABOUT_THE_LETTER.includes(stage);
/** The hop has the message and its answer never comes: RFC 1047. */
const isAmbiguous = ({ stage, fault }: Cell): boolean => stage === "." && (fault === "drop" || fault === "hang");
/** What smtp-sink can do: it would refuse the notice of a refused letter too, and it cannot hang. */
const isForSink = (cell: Cell): boolean => hasSink && cell.fault !== "hang" && cell.fault !== "abort" && !isRefused(cell);

let house: House;
let alice: Member;
let outcomeOf: (cell: Cell) => Promise<Outcome>;
let outcomeBetween: (fault: Unasked) => Promise<Outcome>;

beforeAll(async () => {
  house = await openHouse();
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  await (await house.gateway("b.example")).enrol(BOB);
  outcomeOf = startCells(CELLS, (cell) => (isForSink(cell) ? withSink(cell) : withFakeHop(cell)));
  outcomeBetween = startCells(UNASKED, betweenLetters);
});
afterAll(async () => {
  await Promise.allSettled([...CELLS.map((cell) => outcomeOf(cell)), ...UNASKED.map((fault) => outcomeBetween(fault))]);
  await house?.stop();
});

const rowOf = async ({ entry }: Spooled): Promise<string | undefined> => {
  const ticket = Buffer.from(entry.consignments[0]?.ticket ?? "", "base64");
  return (await house.table.find(sessionHash(openTicket(ticket, house.broker.sessionKeys).sessionId)))?.state;
};

async function openRelay(port: number): Promise<{ desk: Desk; heard: HeardLog; send(): Promise<Spooled> }> {
  const heard = heardLog();
  const nextHop = { host: "127.0.0.1", port, tls: "none" as const, ca: undefined, auth: undefined, name: "gateway.a.example" };
  const desk = await openDesk(house, alice, port, { log: heard.log, nextHop: { ...nextHop, timeouts: TIMEOUTS } });
  const send = async (): Promise<Spooled> => {
    const spooled = await desk.put();
    desk.relay.take(spooled);
    return spooled;
  };
  return { desk, heard, send };
}

const refused = ({ lines }: HeardLog, count: number) => lines.until(({ event }) => event === "relay.refused", count);
const relayed = ({ lines }: HeardLog, count = 1) => lines.until(({ event }) => event === "letter.relayed", count);

async function judge(desk: Desk, spooled: Spooled, healed: number, mails: readonly { to: string; mail: Buffer }[]): Promise<Outcome> {
  await desk.relay.close();
  return {
    copies: mails.filter(({ to }) => to === BOB).map(({ mail }) => mail),
    notices: mails.filter(({ to }) => to === "alice@a.example").length,
    row: await rowOf(spooled),
    spooled: (await desk.spool.all()).length,
    healedIn: Date.now() - healed,
  };
}

async function withFakeHop(cell: Cell): Promise<Outcome> {
  const hop = await startFakeHop({ ...cell, busy: cell.stage === "RSET" });
  const { desk, heard, send } = await openRelay(hop.port);
  try {
    const spooled = await send();
    // A relay that says no QUIT is in order for a letter that was taken.
    await (cell.stage === "QUIT" ? relayed(heard) : hop.struck.until(() => true, isRefused(cell) || cell.fault === "hang" ? 1 : 2));
    if (cell.stage === "QUIT") await desk.relay.close();
    const healed = Date.now();
    hop.heal();
    if (isRefused(cell)) await hop.kept.until(({ from }) => from === "");
    else await relayed(heard);
    return await judge(desk, spooled, healed, hop.kept.all);
  } finally {
    await desk.stop();
    await hop.close();
  }
}

function sinkOptions({ stage, fault }: Cell): string[] {
  const option = { "4xx": "-r", "5xx": "-f", "421": "-Q", drop: "-q", hang: "", abort: "" }[fault];
  if (stage === "RSET") return fault === "4xx" ? ["-r", "RCPT,RSET"] : ["-r", "RCPT", option, "RSET"]; // no RSET without a refusal
  if (stage === "EHLO" && fault === "4xx") return ["-r", "EHLO,HELO"]; // with 5xx the client may go on by HELO
  return [option, stage];
}

async function withSink({ stage, fault }: Cell): Promise<Outcome> {
  const sink = await startSink(sinkOptions({ stage, fault }));
  const { desk, heard, send } = await openRelay(sink.port);
  let stop = sink.stop;
  try {
    const spooled = await send();
    await Promise.race([refused(heard, 2), relayed(heard)]);
    await sink.stop();
    const hop = await startHop({ port: sink.port });
    stop = hop.close;
    const healed = Date.now();
    await relayed(heard);
    const hadWhole = stage !== "." || fault === "drop"; // at the dot it keeps also what it says it does not take
    const taken = hadWhole ? await sink.taken() : [];
    const before = taken.filter((text) => text.includes("\n\n.sealed\n..\n.\nend\n")).map(() => ({ to: BOB, mail: MESSAGE }));
    const later = hop.attempts.all.map(({ to: [to = ""], mail }) => ({ to, mail }));
    return await judge(desk, spooled, healed, [...before, ...later]);
  } finally {
    await desk.stop();
    await stop();
  }
}

describe.each(CELLS)("a next hop that does $fault at $stage", (cell) => {
  const ending = isRefused(cell) ? "the letter is withdrawn and the sender told once" : "the letter arrives";
  test(`and heals: ${ending}`, async () => {
    const { copies, notices, row, spooled, healedIn } = await outcomeOf(cell);
    expect({ notices, row, spooled }).toEqual(
      isRefused(cell) ? { notices: 1, row: "withdrawn", spooled: 0 } : { notices: 0, row: "dispatched", spooled: 0 },
    );
    for (const copy of copies) expect(copy.equals(MESSAGE)).toBe(true);
    if (isRefused(cell)) expect(copies).toHaveLength(0);
    else if (isAmbiguous(cell)) expect(copies.length).toBeGreaterThanOrEqual(2);
    else expect(copies).toHaveLength(1);
    expect(healedIn).toBeLessThan(HEALS_WITHIN);
  });
});

const UNASKED = ["421", "drop", "hang", "reset"] as const;
type Unasked = (typeof UNASKED)[number];

/** Two letters of one relay; in between the hop leaves the connection that both would have used. */
async function betweenLetters(fault: Unasked): Promise<Outcome> {
  const hop = await startFakeHop();
  const { desk, heard, send } = await openRelay(hop.port);
  try {
    await send();
    await relayed(heard);
    hop.unasked(fault);
    const healed = Date.now();
    const second = await send();
    await relayed(heard, 2);
    return await judge(desk, second, healed, hop.kept.all);
  } finally {
    await desk.stop();
    await hop.close();
  }
}

test.each(UNASKED)("a next hop that does %s on an idle connection gets the next letter on another, once", async (fault) => {
  const { copies, healedIn, ...rest } = await outcomeBetween(fault);
  expect(copies).toHaveLength(2);
  expect(rest).toEqual({ notices: 0, row: "dispatched", spooled: 0 });
  expect(healedIn).toBeLessThan(HEALS_WITHIN);
});
