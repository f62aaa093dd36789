/** The network fails once on a letter's way, on each line and in each manner: the letter is opened once, and there is one receipt. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { startDovecot, type DovecotServer } from "../servers/dovecot.ts";
import { PASSWORD } from "../gateway/inbound-place.ts";
import { HEALS_WITHIN, startCells } from "./cells.ts";
import { CUTS, strikeAt, type Cut } from "./manners.ts";
import { BOB, walk, type Lines, type Moment, type Walked } from "./walk.ts";

interface Place {
  readonly link: string;
  readonly line: keyof Lines;
  /** From here on the line may fail. */
  readonly moment: Moment;
  readonly step: string;
  readonly isRequest: (piece: string) => boolean;
  readonly cuts: readonly Cut[];
}

interface Cell extends Omit<Place, "cuts"> {
  readonly cut: Cut;
}

const endOfData = (piece: string): boolean => piece.endsWith("\r\n.\r\n");
/** Inside TLS only the kind of a record is seen: application data (RFC 8446 §5.1), on a connection that was there before. */
const application = (piece: string): boolean => piece.charCodeAt(0) === 23;
const says =
  (pattern: RegExp) =>
  (piece: string): boolean =>
    pattern.test(piece);

const PLACES: readonly Place[] = [
  { link: "sender to broker", line: "broker", moment: "declare", step: "the declaration", isRequest: application, cuts: CUTS },
  {
    link: "sender to broker",
    line: "broker",
    moment: "relay",
    step: "the report",
    isRequest: application,
    cuts: ["cut before", "cut after"],
  },
  {
    link: "recipient to broker",
    line: "broker",
    moment: "present",
    step: "the presentation",
    isRequest: application,
    cuts: ["cut before", "cut after"],
  },
  { link: "recipient to broker", line: "broker", moment: "confirm", step: "the confirmation", isRequest: application, cuts: CUTS },
  { link: "sender to next hop", line: "hop", moment: "relay", step: "the end of data", isRequest: endOfData, cuts: CUTS },
  {
    link: "recipient to mailbox",
    line: "mailbox",
    moment: "present",
    step: "APPEND",
    isRequest: says(/^\S+ APPEND /u),
    cuts: ["cut before", "cut after", "delay"],
  },
  {
    link: "recipient to mailbox",
    line: "mailbox",
    moment: "present",
    step: "FETCH of the letter",
    isRequest: says(/^\S+ UID FETCH .*BODY\.PEEK\[\]/u),
    cuts: ["half-close", "slow"],
  },
  {
    link: "recipient to mailbox",
    line: "mailbox",
    moment: "present",
    step: "EXPUNGE",
    isRequest: says(/^\S+ UID EXPUNGE /u),
    cuts: ["cut after", "reset"],
  },
  { link: "broker to next hop", line: "receipts", moment: "receipt", step: "the end of data", isRequest: endOfData, cuts: CUTS },
];
const CELLS: readonly Cell[] = PLACES.flatMap(({ cuts, ...place }) => cuts.map((cut) => ({ ...place, cut })));

/** SMTP's only: the message is there, and its sender cannot know (RFC 1047). */
const isAmbiguous = ({ step, cut }: Cell): boolean =>
  step === "the end of data" && (cut === "cut after" || cut === "half-close" || cut === "reset");

let dovecot: DovecotServer;
let outcomeOf: (cell: Cell) => Promise<{ walked: Walked; healedIn: number }>;

beforeAll(async () => {
  dovecot = await startDovecot({ users: { [BOB]: PASSWORD } });
  outcomeOf = startCells(CELLS, play, 6);
});
afterAll(async () => {
  await Promise.allSettled(CELLS.map((cell) => outcomeOf(cell)));
  await dovecot?.stop();
});

async function play({ cut, line, moment, isRequest }: Cell): Promise<{ walked: Walked; healedIn: number }> {
  const strike = strikeAt(cut, isRequest);
  const walked = await walk(dovecot, (now, lines) => {
    if (now === moment) lines[line].behave(strike);
  });
  const [at] = strike.struck.all;
  if (at === undefined) throw new Error("the network never failed");
  return { walked, healedIn: Date.now() - at };
}

test.each(CELLS)("$cut at $step, from $link: opened once, one receipt", async (cell) => {
  const { walked, healedIn } = await outcomeOf(cell);
  const taken = isAmbiguous(cell) && cell.line === "hop" ? 2 : 1;
  expect(walked).toEqual({
    taken,
    different: 1,
    opened: 1,
    sealed: 0,
    row: "confirmed",
    spooled: 0,
    receipts: 1,
    kept: 1,
    verified: 1,
  });
  expect(healedIn).toBeLessThan(HEALS_WITHIN);
});
