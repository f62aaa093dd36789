/** The recipient's mail server fails while a letter is filed; then it heals: the letter is opened once, confirmed once, its original gone (RFC 3501). */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { sessionHash } from "../../broker/session.ts";
import { openTicket } from "../../broker/ticket.ts";
import { receive } from "../../gateway/inbound.ts";
import { watch } from "../../gateway/watcher.ts";
import { Happenings, heardLog } from "../broker/happenings.ts";
import { openHouse, type House, type Member } from "../broker/house.ts";
import { PASSWORD, openDesk } from "../gateway/inbound-place.ts";
import { openOffice } from "../gateway/outbound-place.ts";
import { startDovecot, type DovecotServer } from "../servers/dovecot.ts";
import { afterLiteral, answer, atAppends, atCommands, beforeOk, bye, midLiteral, together, type AppendFault } from "./appends.ts";
import { HEALS_WITHIN, startCells } from "./cells.ts";
import { startFaultyLine, type Line, type Manner } from "./faulty-line.ts";

const BOB = "bob@b.example";
const TEXT = "The secret text.";

let house: House;
let dovecot: DovecotServer;
let alice: Member;
let bob: Member;
let outcomeOf: (cell: Cell) => Promise<Outcome>;

/** What a cell may use. */
interface Stage {
  readonly server: DovecotServer;
  readonly folder: string;
  readonly events: Happenings<{ readonly event: string }>;
  readonly struck: Happenings<unknown>;
  behave(manner: Manner | undefined): void;
  deliver(): Promise<void>;
}

interface Cell {
  readonly name: string;
  readonly ownServer?: boolean;
  /** Another folder for opened letters. */
  readonly opened?: string;
  /** The original stays, marked as deleted. */
  readonly marks?: boolean;
  /** Lets the letter come and the server fail. It heals when this resolves. */
  fail(stage: Stage): Promise<void>;
}

interface Outcome {
  readonly opened: number;
  readonly sealed: number;
  readonly confirmed: number;
  readonly row: string | undefined;
  readonly stage: string | undefined;
  readonly healedIn: number;
}

/** The fault at the first appends. */
const atAppend = (name: string, fault: AppendFault, times = 2): Cell => ({
  name,
  async fail({ behave, deliver, struck }) {
    behave(atAppends(fault, times, () => struck.add(undefined)));
    await deliver();
    await struck.until(() => true, times);
  },
});

/** The server does not say that it can do these. */
const without = (name: string, words: RegExp, marks: boolean): Cell => ({
  name,
  marks,
  async fail({ behave, deliver, events }) {
    behave({ fromServer: (chunk) => Buffer.from(chunk.toString("latin1").replaceAll(words, ""), "latin1") });
    await events.until(({ event }) => event === "mailbox.watched");
    await deliver();
  },
});

/** The letter is filed, and putting its original away fails. */
const atCommand = (name: string, command: string, words?: string): Cell => ({
  name,
  async fail({ behave, deliver, struck }) {
    behave(atCommands(command, words, () => struck.add(undefined)));
    await deliver();
    await struck.until(() => true);
  },
});

const refusesToSearch = (name: string): Cell => ({
  name,
  async fail({ behave, deliver, struck }) {
    const lost = atAppends(beforeOk, 1, () => struck.add(undefined));
    behave(
      together(
        lost,
        atCommands("UID SEARCH", "NO [UNAVAILABLE] Try later", () => struck.add(undefined)),
      ),
    );
    await deliver();
    await struck.until(() => true, 2);
  },
});

const CELLS: readonly Cell[] = [
  atCommand("refuses to mark the original as deleted", "UID STORE", "NO [UNAVAILABLE] Try later"),
  atCommand("drops the line when the original is to be marked as deleted", "UID STORE"),
  atCommand("refuses to expunge the original", "UID EXPUNGE", "NO [UNAVAILABLE] Try later"),
  atCommand("drops the line when the original is to be expunged", "UID EXPUNGE"),
  refusesToSearch("files the letter, drops the line before it says so, and then refuses to look for it"),
  { ...refusesToSearch("files it in another folder, drops the line, and then refuses to look there"), opened: "Opened" },
  atAppend("drops the line in the midst of the letter", midLiteral),
  atAppend("drops the line after the letter, before its end", afterLiteral),
  atAppend("files the letter and drops the line before it says so", beforeOk, 1),
  atAppend("says NO [OVERQUOTA]", answer("NO [OVERQUOTA] Quota exceeded")),
  atAppend("says NO [TRYCREATE]", answer("NO [TRYCREATE] No such mailbox")),
  atAppend("says NO [UNAVAILABLE]", answer("NO [UNAVAILABLE] Try later")),
  atAppend("says BYE", bye),
  {
    name: "files the letter, drops the line, and comes back with a new UIDVALIDITY",
    async fail({ behave, deliver, struck, server, folder }) {
      const lost = atAppends(beforeOk, 1, () => {
        server.doveadm("mailbox", "update", "-u", BOB, "--uid-validity", "77", folder);
        if (!server.doveadm("mailbox", "status", "-u", BOB, "uidvalidity", folder).includes("uidvalidity=77"))
          throw new Error("it is the old one");
        struck.add(undefined);
      });
      behave(lost);
      await deliver();
      await struck.until(() => true);
    },
  },
  without("has no UIDPLUS and no MOVE", / (?:UIDPLUS|MOVE)(?=[ \]\r])/gu, true),
  without("has no IDLE", / IDLE(?=[ \]\r])/gu, false),
  {
    name: "is started anew while the letter is filed",
    ownServer: true,
    async fail({ behave, deliver, struck, server }) {
      behave(atAppends(() => struck.add(undefined), 1));
      await deliver();
      await struck.until(() => true);
      await server.restart();
    },
  },
  {
    name: "is tired of a line on which nothing is said",
    async fail({ behave, deliver, struck }) {
      behave({
        fromClient(chunk, line) {
          if (chunk.includes(" IDLE\r\n")) struck.add(line);
          return chunk;
        },
      });
      const [line] = (await struck.until(() => true)) as Line[];
      line?.client.end("* BYE Disconnected for inactivity.\r\n");
      line?.server.end();
      await deliver();
    },
  },
];

beforeAll(async () => {
  [house, dovecot] = await Promise.all([openHouse(), startDovecot({ users: { [BOB]: PASSWORD } })]);
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  bob = await (await house.gateway("b.example")).enrol(BOB);
  outcomeOf = startCells(CELLS, play);
});
afterAll(async () => {
  await Promise.allSettled(CELLS.map((cell) => outcomeOf(cell)));
  await house?.stop();
  await dovecot?.stop();
});

async function play(cell: Cell): Promise<Outcome> {
  const server = cell.ownServer ? await startDovecot({ users: { [BOB]: PASSWORD } }) : dovecot;
  const proxy = await startFaultyLine(server.imapPort);
  const office = await openOffice(house, alice);
  await office.send(`From: alice@a.example\r\nTo: ${BOB}\r\nSubject: secret\r\n\r\n${TEXT}\r\n`, [BOB]);
  const [copy] = await office.copies();
  if (!copy) throw new Error("no copy");
  const desk = await openDesk(house, bob, server, { imap: { port: proxy.port, ...(cell.opened && { opened: cell.opened }) } });
  const heard = heardLog();
  const config = desk.parts.own.imap;
  if (!config) throw new Error("no mailbox");
  const settled = new Happenings<number>();
  const stopping = new AbortController();
  const inbound = { ...desk.parts, log: heard.log };
  const watching = watch(
    {
      access: { config, login: { pass: PASSWORD }, ca: undefined },
      address: BOB,
      journal: desk.journal,
      log: heard.log,
      largest: 1 << 20,
      async onSealed(mailbox, seen, signal) {
        await receive(inbound, mailbox, seen, signal);
        settled.add(seen.uid);
      },
      onReport: async () => undefined,
      onSigned: async () => undefined,
    },
    stopping.signal,
  );
  try {
    const struck = new Happenings<unknown>();
    const { behave } = proxy;
    const deliver = () => desk.deliver(copy.mail);
    await cell.fail({ server, folder: config.watch, events: heard.lines, struck, behave, deliver });
    const healed = Date.now();
    await settled.until(() => true);
    const after = cell.ownServer ? await openDesk(house, bob, server) : desk;
    const mails = await after.mails(config.watch);
    if (cell.opened) mails.push(...(await after.mails(cell.opened)));
    const sealed = mails.filter(({ text, flags }) => text.includes("registered.p7m") && !(cell.marks && flags.includes("\\Deleted")));
    if (after !== desk) await after.close();
    const row = await house.table.find(sessionHash(openTicket(copy.ticket, house.broker.sessionKeys).sessionId));
    const [entry] = await desk.journal.all();
    return {
      opened: mails.filter(({ text }) => text.includes(TEXT)).length,
      sealed: sealed.length,
      confirmed: desk.broker.calls.filter((step) => step === "confirm").length,
      row: row?.state,
      stage: entry?.stage,
      healedIn: Date.now() - healed,
    };
  } finally {
    stopping.abort();
    await watching;
    await desk.close();
    await office.close();
    await proxy.close();
    if (cell.ownServer) await server.stop();
  }
}

const NAME = "a mail server that $name: the letter is opened once, confirmed once, and its original gone";

async function judge(cell: Cell): Promise<void> {
  const { healedIn, ...rest } = await outcomeOf(cell);
  expect(rest).toEqual({ opened: 1, sealed: 0, confirmed: 1, row: "confirmed", stage: "confirmed" });
  expect(healedIn).toBeLessThan(HEALS_WITHIN);
}

test.each(CELLS)(NAME, judge);
