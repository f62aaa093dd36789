/** The inbound walk at mail servers that answer otherwise than Dovecot, or later: folders that are there or gone, and a connection that others have. */
import { setImmediate } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { file } from "../../gateway/filing.ts";
import { ImapMailbox, type Seen } from "../../gateway/mailbox.ts";
import { Happenings } from "../broker/happenings.ts";
import { openHouse, type House, type Member } from "../broker/house.ts";
import { startFaultyLine, type Manner } from "../faults/faulty-line.ts";
import { startDovecot, type DovecotServer } from "../servers/dovecot.ts";
import { PASSWORD, openDesk, type Desk } from "./inbound-place.ts";
import { openOffice } from "./outbound-place.ts";

const BOB = "bob@b.example";
const TEXT = "The secret text.";
const LETTER = Buffer.from(`Subject: x\r\n\r\n${TEXT}\r\n`);
const SEEN: Seen = { uid: 1, octets: 1, flags: [], internalDate: undefined, messageId: undefined, structure: undefined };

let house: House;
let dovecot: DovecotServer;
let bob: Member;
let undo: (() => Promise<void>)[] = [];

beforeAll(async () => {
  [house, dovecot] = await Promise.all([openHouse(), startDovecot({ users: { [BOB]: PASSWORD } })]);
  bob = await (await house.gateway("b.example")).enrol(BOB);
});
afterEach(async () => {
  for (const one of undo.toReversed()) await one();
  undo = [];
});
afterAll(async () => {
  await house?.stop();
  await dovecot?.stop();
});

/** A desk whose line to the server is like that. */
async function open(manner: Manner, folders: { readonly opened?: string; readonly sealed?: string } = {}): Promise<Desk> {
  const line = await startFaultyLine(dovecot.imapPort, manner);
  const desk = await openDesk(house, bob, dovecot, { imap: { ...folders, port: line.port } });
  undo.push(line.close, desk.close);
  return desk;
}

async function mailboxOf({ parts: { own } }: Desk): Promise<ImapMailbox> {
  if (!own.imap) throw new Error("no mailbox");
  const mailbox = await ImapMailbox.open({ config: own.imap, login: { pass: PASSWORD }, ca: undefined }, () => undefined);
  undo.push(() => mailbox.close());
  return mailbox;
}

describe("folders that are there already", () => {
  const known = { opened: "Known", sealed: "Known sealed" };
  beforeAll(() => {
    for (const folder of Object.values(known)) dovecot.doveadm("mailbox", "create", "-u", BOB, folder);
  });

  test("on a server that says so in words alone", async () => {
    const office = await openOffice(house, await (await house.gateway("a.example")).enrol("alice@a.example"));
    await office.send(`From: alice@a.example\r\nTo: ${BOB}\r\nSubject: secret\r\n\r\n${TEXT}\r\n`, [BOB]);
    const [copy] = await office.copies();
    await office.close();
    const bare = (text: string): string => text.replaceAll("[ALREADYEXISTS] ", "");
    const desk = await open({ fromServer: (chunk) => Buffer.from(bare(chunk.toString("latin1")), "latin1") }, known);
    await desk.deliver(copy?.mail ?? LETTER);
    expect(await desk.look()).toEqual([]);
    const textsIn = async (folder: string) => (await desk.mails(folder)).map(({ text }) => text);
    expect(await textsIn(known.opened)).toEqual([expect.stringContaining(TEXT)]);
    expect(await textsIn(known.sealed)).toEqual([expect.stringContaining("registered.p7m")]);
  });

  test("are asked for once in a connection, and made again when somebody deletes them", async () => {
    let asked = 0;
    const fromClient = (chunk: Buffer): Buffer => {
      if (chunk.includes(" CREATE ")) asked++;
      return chunk;
    };
    const mailbox = await mailboxOf(await open({ fromClient }, { opened: "Doomed" }));
    await mailbox.append(LETTER, SEEN);
    await mailbox.append(LETTER, SEEN);
    expect(asked).toBe(1);
    dovecot.doveadm("mailbox", "delete", "-u", BOB, "Doomed");
    await expect(mailbox.append(LETTER, SEEN)).rejects.toMatchObject({ code: "unavailable" });
    await mailbox.append(LETTER, SEEN);
    expect(asked).toBe(2);
  });
});

test("a letter whose claim runs out while it waits for the connection is not filed: another gateway may be at it", async () => {
  const noops = new Happenings<() => void>();
  const desk = await open({
    fromClient(chunk, { server }) {
      if (!chunk.includes(" NOOP\r\n")) return chunk;
      noops.add(() => void server.write(chunk));
      return undefined;
    },
  });
  const mailbox = await mailboxOf(desk);
  const asking = mailbox.noop();
  const [goOn] = await noops.until(() => true);
  const claimedUntil = performance.now() + 100;
  const filing = file(mailbox, SEEN, { letter: LETTER, marker: "mark", claimedUntil }, true);
  while (performance.now() <= claimedUntil) await setImmediate();
  goOn?.();
  await asking;
  await expect(filing).rejects.toMatchObject({ code: "unavailable", message: expect.stringContaining("another gateway") });
  expect(await desk.mails()).toEqual([]);
});

test("a watched folder that is made anew while a step is in another one ends the connection: what has the same UID there is not put away", async () => {
  const [selected, opened] = [new Happenings<() => void>(), "Elsewhere"];
  const desk = await open(
    {
      fromClient(chunk, { server }) {
        if (!chunk.includes(" SELECT ")) return chunk;
        const pass = (): void => void server.write(chunk);
        selected.add(pass);
        if (selected.all.length !== 3) pass(); // at the beginning, there, and back
        return undefined;
      },
    },
    { opened },
  );
  const mailbox = await mailboxOf(desk);
  await desk.deliver(LETTER);
  const searching = Promise.allSettled([mailbox.hasOpened({ name: "Kakitome-Filing", value: "none" })]);
  const [, , back] = await selected.until(() => true, 3);
  const watched = desk.parts.own.imap?.watch ?? "";
  for (const step of ["delete", "create"]) dovecot.doveadm("mailbox", step, "-u", BOB, watched);
  await desk.deliver(Buffer.from("Subject: another one\r\n\r\nunread\r\n"));
  back?.();
  await searching;
  await expect(mailbox.retire(1)).rejects.toMatchObject({ code: "unavailable" });
  expect(await desk.mails()).toEqual([expect.objectContaining({ text: expect.stringContaining("unread") })]);
});
