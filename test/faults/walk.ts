/** One letter's whole way (S1-S11) over lines that can fail: sender, broker, next hop, recipient's mailbox, and its receipt back. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import type { BrokerClient } from "../../broker/client.ts";
import { Outbox, smtpMailer } from "../../broker/outbox.ts";
import { sessionHash } from "../../broker/session.ts";
import { openTicket } from "../../broker/ticket.ts";
import { duration } from "../../config/units.ts";
import { receive } from "../../gateway/inbound.ts";
import { ImapMailbox, type Mailbox } from "../../gateway/mailbox.ts";
import { receiveReceipt } from "../../gateway/receipts.ts";
import { watch } from "../../gateway/watcher.ts";
import { Fault } from "../../mime/fault.ts";
import { Happenings, heardLog, type HeardLog, type LogLine } from "../broker/happenings.ts";
import { forever, openHouse, type House, type Member } from "../broker/house.ts";
import { startHop, type Attempt, type Hop } from "../gateway/hop.ts";
import { PASSWORD, openDesk as openInbound, type Desk as Inbound } from "../gateway/inbound-place.ts";
import { openOffice } from "../gateway/outbound-place.ts";
import { openDesk as openRelay } from "../gateway/relay-place.ts";
import type { DovecotServer } from "../servers/dovecot.ts";
import { startFaultyLine, type FaultyLine } from "./faulty-line.ts";

export const BOB = "bob@b.example";
const ALICE = "alice@a.example";
const TEXT = "The text of the letter.";
const LETTER = `From: ${ALICE}\r\nTo: ${BOB}\r\nSubject: secret\r\nMessage-ID: <walk@a.example>\r\n\r\n${TEXT}\r\n`;
/** As often as a mail client would send again what was not taken. */
const PATIENCE = 5;

/** Where a walk is: the test may have a line fail from here on. */
export type Moment = "declare" | "relay" | "present" | "confirm" | "receipt";

export interface Lines {
  readonly broker: FaultyLine;
  readonly hop: FaultyLine;
  readonly mailbox: FaultyLine;
  readonly receipts: FaultyLine;
}

export interface Walked {
  /** Copies that the next hop took for Bob, and different ones among them. */
  readonly taken: number;
  readonly different: number;
  readonly opened: number;
  readonly sealed: number;
  readonly row: string | undefined;
  readonly spooled: number;
  /** Different receipts that came to Alice, what she keeps, and how often she was told. */
  readonly receipts: number;
  readonly kept: number;
  readonly verified: number;
}

/** @param at is called at each moment, with an open connection to the broker */
export async function walk(dovecot: DovecotServer, at: (moment: Moment, lines: Lines) => void): Promise<Walked> {
  const undo: (() => Promise<void> | void)[] = [];
  const line = async (port: number): Promise<FaultyLine> => {
    const started = await startFaultyLine(port);
    undo.push(() => started.close());
    return started;
  };
  try {
    let broker: FaultyLine | undefined;
    const house = await openHouse(undefined, async (port) => (broker = await line(port)).port);
    undo.push(() => house.stop());
    if (!broker) throw new Error("the broker has no line");
    const hop = await startHop();
    undo.push(() => hop.close());
    const lines = { broker, hop: await line(hop.port), mailbox: await line(dovecot.imapPort), receipts: await line(hop.port) };
    const alice = await (await house.gateway("a.example")).enrol(ALICE);
    const bob = await (await house.gateway("b.example")).enrol(BOB);
    return await new Walk({ house, alice, bob, hop, dovecot, lines, undo, at: (moment) => at(moment, lines) }).run();
  } finally {
    for (let one = undo.pop(); one; one = undo.pop()) await one();
  }
}

interface Place {
  readonly house: House;
  readonly alice: Member;
  readonly bob: Member;
  readonly hop: Hop;
  readonly dovecot: DovecotServer;
  readonly lines: Lines;
  /** What is to be ended when the walk is. */
  readonly undo: (() => Promise<void> | void)[];
  at(moment: Moment): void;
}

class Walk {
  readonly #heard: HeardLog = heardLog();

  readonly #place: Place;

  constructor(place: Place) {
    this.#place = place;
  }

  async run(): Promise<Walked> {
    const { folder, session } = await this.#send();
    const { spooled, letters } = await this.#relay(folder);
    const copies = this.#attemptsTo(BOB).map(({ mail }) => mail);
    const inbound = await this.#receive(copies);
    const receipts = await this.#receipts();
    for (const mail of receipts) await this.#read(mail, letters);
    const mails = await inbound.mails();
    const kept = await readdir(join(folder, "letters"));
    const row = await this.#place.house.table.find(session);
    return {
      taken: copies.length,
      different: distinct(copies),
      opened: mails.filter(({ text }) => text.includes(TEXT)).length,
      sealed: mails.filter(({ text }) => text.includes("registered.p7m")).length,
      row: row?.state,
      spooled,
      receipts: distinct(receipts),
      kept: kept.filter((name) => name.endsWith(".receipt.eml")).length,
      verified: this.#heard.lines.all.filter(({ event }) => event === "receipt.verified").length,
    };
  }

  /** S1-S5 as far as the spool, by a mail client that sends again what was put off. */
  async #send(): Promise<{ folder: string; session: string }> {
    const office = await openOffice(this.#place.house, this.#place.alice);
    this.#place.undo.push(() => office.close());
    await warm(office.broker);
    this.#place.at("declare");
    for (let attempt = 1; ; attempt++) {
      try {
        await office.send(LETTER, [BOB]);
        break;
      } catch (thrown) {
        if (Fault.from(thrown).retry !== "later" || attempt === PATIENCE) throw thrown;
      }
    }
    const [copy, ...others] = await office.copies();
    if (!copy || others.length > 0) throw new Error("not one copy in the spool");
    const { sessionId } = openTicket(copy.ticket, this.#place.house.broker.sessionKeys);
    return { folder: office.folder, session: sessionHash(sessionId) };
  }

  /** Until the next hop has the letter and the broker knows. */
  async #relay(folder: string) {
    const desk = await openRelay(this.#place.house, this.#place.alice, this.#place.lines.hop.port, { folder, log: this.#heard.log });
    this.#place.undo.push(() => desk.stop());
    await warm(desk.parts.broker);
    this.#place.at("relay");
    await desk.relay.resume();
    await this.#heard.lines.until(({ event }) => event === "letter.relayed");
    await desk.relay.close();
    return { spooled: (await desk.spool.all()).length, letters: desk.letters };
  }

  /** S6-S10: everything that was taken comes to the mailbox, and the watcher is done with it. */
  async #receive(copies: readonly Buffer[]): Promise<Inbound> {
    const inbound = await openInbound(this.#place.house, this.#place.bob, this.#place.dovecot, {
      imap: { port: this.#place.lines.mailbox.port },
    });
    const config = inbound.parts.own.imap;
    if (!config) throw new Error("no mailbox");
    const parts = { ...inbound.parts, log: this.#heard.log };
    const settled = new Happenings<number>();
    const stopping = new AbortController();
    const { log, lines } = this.#heard;
    await warm(inbound.broker);
    void lines.until(({ event }) => event === "letter.filed").then(() => this.#place.at("confirm"));
    this.#place.at("present");
    for (const copy of copies) await inbound.deliver(copy);
    /** What was asked when the line broke may have been done: then nothing comes to be looked at again. */
    const goneAtNextLook = async (): Promise<boolean> => {
      const isLook = ({ event }: LogLine): boolean => event === "mailbox.watched";
      await lines.until(isLook, lines.all.filter(isLook).length + 1);
      return (await inbound.mails()).every(({ text }) => !text.includes("registered.p7m"));
    };
    const watching = watch(
      {
        access: { config, login: { pass: PASSWORD }, ca: undefined },
        address: BOB,
        journal: inbound.journal,
        log,
        largest: 1 << 20,
        async onSealed(mailbox, seen, signal) {
          try {
            await receive(parts, mailbox, seen, signal);
            settled.add(seen.uid);
          } catch (thrown) {
            void goneAtNextLook().then((gone) => void (gone && settled.add(seen.uid)));
            throw thrown;
          }
        },
        onReport: async () => undefined,
        onSigned: async () => undefined,
      },
      stopping.signal,
    );
    this.#place.undo.push(async () => {
      stopping.abort();
      await watching;
      await inbound.close();
    });
    await settled.until(() => true, copies.length);
    return inbound;
  }

  /** S11 at the broker. */
  async #receipts(): Promise<Buffer[]> {
    const { lines } = this.#place.house.heard;
    const mailer = smtpMailer({ host: "127.0.0.1", port: this.#place.lines.receipts.port, tls: "none", ca: undefined, auth: undefined });
    const outbox = new Outbox(this.#place.house.broker, mailer, { retryFirst: duration("20ms"), retryLongest: duration("80ms") });
    const stopping = new AbortController();
    this.#place.at("receipt");
    const running = outbox.run(stopping.signal);
    await lines.until(({ event }) => event === "receipt.sent");
    stopping.abort();
    await running;
    mailer.close();
    return this.#attemptsTo(ALICE).map(({ mail }) => mail);
  }

  /** S11 at the sender. */
  async #read(mail: Buffer, letters: Parameters<typeof receiveReceipt>[0]["letters"]): Promise<void> {
    const mailbox = Object.assign(Object.create(ImapMailbox.prototype) as Mailbox, { fetch: async () => mail });
    const seen = { uid: 1, octets: mail.length, flags: [], internalDate: undefined, messageId: undefined, structure: undefined };
    await receiveReceipt({ broker: this.#place.alice.gateway.client, letters, log: this.#heard.log, now: () => new Date() }, mailbox, seen);
  }

  #attemptsTo(address: string): Attempt[] {
    return this.#place.hop.attempts.all.filter(({ to, answer }) => to[0] === address && answer === "");
  }
}

/** Leaves an open connection, free for the next request. */
async function warm(client: BrokerClient): Promise<void> {
  await client.ready(forever);
  await setImmediate();
}

const distinct = (mails: readonly Buffer[]): number => new Set(mails.map((mail) => mail.toString("latin1"))).size;
