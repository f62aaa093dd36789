/** The inbound walk in a Maildir: the same guarantees as by IMAP, with files that other programs rename meanwhile. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, rmdirSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { duration } from "../../config/units.ts";
import type { MaildirConfig } from "../../config/schema-maildir.ts";
import { Elsewhere } from "../../gateway/elsewhere.ts";
import { receive, type InboundParts } from "../../gateway/inbound.ts";
import { kindOf } from "../../gateway/kind.ts";
import { Maildir } from "../../gateway/maildir.ts";
import { watch } from "../../gateway/watcher.ts";
import { sessionHash } from "../../broker/session.ts";
import { openTicket } from "../../broker/ticket.ts";
import type { LogLine } from "../broker/happenings.ts";
import { forever, openHouse, type House, type Member } from "../broker/house.ts";
import { temporaryFolder } from "../servers/process.ts";
import { CountedClient, FragileJournal, type PowerCut } from "./inbound-place.ts";
import { openOffice, type Copy, type Office } from "./outbound-place.ts";

const BOB = "bob@b.example";
const SUBMITTED = `From: alice@a.example\r\nTo: ${BOB}\r\nSubject: the secret subject\r\nMessage-ID: <1@a.example>\r\nDate: Sun, 01 Mar 2026 12:00:00 +0000\r\n\r\nThe secret text.\r\n`;

let house: House;
let alice: Member;
let bob: Member;
let office: Office;
let copy: Copy;
let config: MaildirConfig;
let journal: FragileJournal;
let parts: InboundParts;
let broker: CountedClient;

beforeAll(async () => {
  house = await openHouse();
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  bob = await (await house.gateway("b.example")).enrol(BOB);
});
beforeEach(async () => {
  office = await openOffice(house, alice);
  await office.send(SUBMITTED, [BOB]);
  const [first] = await office.copies();
  if (!first) throw new Error("there is no letter");
  copy = first;
  const path = join(await temporaryFolder("maildir"), "bob");
  for (const part of ["new", "cur", "tmp"]) mkdirSync(join(path, part), { recursive: true });
  config = { path, watch: "INBOX", opened: "INBOX", sealed: "remove", poll: duration("1s") };
  journal = new FragileJournal(await temporaryFolder("journal"));
  await journal.prepare();
  broker = new CountedClient(bob.gateway.channel);
  const own = { address: bob.mailbox, aliases: [], deliver: "signed" as const, maildir: config };
  const common = { broker, brokerUrl: house.url, journal, log: house.heard.log, language: "en" as const, name: "gateway.b.example" };
  parts = { ...common, own, elsewhere: new Elsewhere(), identity: () => bob.identity, now: house.now };
});
afterEach(async () => {
  await broker.close();
  await office.close();
});
afterAll(() => house?.stop());

/** As another program on this machine delivers: with the line ends of files. */
function deliver(mail: Buffer, name = "1.a.host", part = "new"): string {
  const file = join(config.path, part, name);
  writeFileSync(file, mail.toString("latin1").replaceAll("\r\n", "\n"), "latin1");
  return file;
}

const filesIn = (folder = ""): string[] =>
  ["new", "cur"].flatMap((part) => readdirSync(join(config.path, folder, part)).map((name) => join(config.path, folder, part, name)));
const texts = (folder = ""): string[] => filesIn(folder).map((file) => readFileSync(file, "utf8"));
const row = () => house.table.find(sessionHash(openTicket(copy.ticket, house.broker.sessionKeys).sessionId));

/** @returns the failures */
async function look(): Promise<unknown[]> {
  const mailbox = await Maildir.open(config, () => undefined);
  const failures: unknown[] = [];
  for (const seen of await mailbox.seenAbove(0))
    await receive(parts, mailbox, seen, forever).catch((thrown: unknown) => failures.push(thrown));
  await mailbox.close();
  return failures;
}

/** @param open another way to open the folder @returns what ends the watcher */
async function startWatching(open: (changed: () => void) => Promise<Maildir>): Promise<() => Promise<void>> {
  const isWatched = ({ event, mailbox }: LogLine): boolean => event === "mailbox.watched" && mailbox === BOB;
  const before = house.heard.lines.all.filter(isWatched).length;
  const stopping = new AbortController();
  const watching = watch(
    {
      access: { config, open },
      address: BOB,
      journal,
      log: house.heard.log,
      largest: 1 << 20,
      onSealed: (mailbox, seen, signal) => receive(parts, mailbox, seen, signal),
      onReport: async () => undefined,
      onSigned: async () => undefined,
    },
    stopping.signal,
  );
  await house.heard.lines.until(isWatched, before + 1);
  return async () => {
    stopping.abort();
    await watching;
  };
}

test("the watcher opens a letter that a program drops into the folder, confirms it, and removes the sealed file", async () => {
  const stop = await startWatching((changed) => Maildir.open(config, changed));
  deliver(copy.mail);
  await house.heard.lines.until(({ event }) => event === "letter.confirmed");
  await stop();
  expect(texts()).toEqual([
    expect.stringMatching(/^Authentication-Results: gateway\.b\.example; smime=pass[^]*Subject: the secret subject[^]*The secret text\./u),
  ]);
  expect(await row()).toMatchObject({ state: "confirmed" });
});

test("a letter that another machine writes, of which the system tells nothing, is found by looking every `poll`", async () => {
  config = { ...config, poll: duration("50ms") };
  const isConfirmed = ({ event }: { event: string }): boolean => event === "letter.confirmed";
  const before = house.heard.lines.all.filter(isConfirmed).length;
  const other = await openOffice(house, alice);
  await other.send(SUBMITTED, [BOB]);
  const [second] = await other.copies();
  await other.close();
  if (!second) throw new Error("there is no second letter");
  deliver(copy.mail);
  const stop = await startWatching(() => Maildir.open(config, () => undefined));
  await house.heard.lines.until(isConfirmed, before + 1); // the first look has its list
  deliver(second.mail, "2.a.host");
  await house.heard.lines.until(isConfirmed, before + 2);
  await stop();
  expect(texts()).toEqual(Array.from({ length: 2 }, () => expect.stringContaining("The secret text.")));
});

test("flags and date of the original go with the opened letter, whose file is its owner's alone", async () => {
  const file = deliver(copy.mail, "1.a.host:2,FS", "cur");
  const date = statSync(file).mtimeMs;
  expect(await look()).toEqual([]);
  const [opened = ""] = filesIn();
  expect(opened).toMatch(/\/cur\/[^/]+:2,FS$/u);
  expect(Math.abs(statSync(opened).mtimeMs - date)).toBeLessThan(1);
  expect(statSync(opened).mode & 0o777).toBe(0o600);
  expect(readdirSync(join(config.path, "tmp"))).toEqual([]);
});

test("folders: opened letters and sealed originals go where the configuration says", async () => {
  config = { ...config, opened: "Opened", sealed: "Sealed" };
  deliver(copy.mail);
  expect(await look()).toEqual([]);
  expect(filesIn()).toEqual([]);
  expect(texts(".Opened")).toEqual([expect.stringContaining("The secret text.")]);
  expect(texts(".Sealed")).toEqual([expect.stringContaining("registered.p7m")]);
});

test("a reader who marks the file meanwhile does not keep it from being put away", async () => {
  const file = deliver(copy.mail);
  const mailbox = await Maildir.open(config, () => undefined);
  const [seen] = await mailbox.seenAbove(0);
  renameSync(file, join(config.path, "cur", "1.a.host:2,S"));
  if (seen) await receive(parts, mailbox, seen, forever);
  await mailbox.close();
  expect(texts()).toEqual([expect.stringContaining("The secret text.")]);
});

test("a file that has gone meanwhile is no failure", async () => {
  const file = deliver(copy.mail);
  const mailbox = await Maildir.open(config, () => undefined);
  const [seen] = await mailbox.seenAbove(0);
  unlinkSync(file);
  if (seen) await receive(parts, mailbox, seen, forever);
  await mailbox.retire(seen?.uid ?? 0);
  await mailbox.close();
  expect(broker.calls).toEqual([]);
});

describe("a reader renames a file in the midst of a look", () => {
  /** A file at which every look stops until somebody writes into it. @returns resolves, when a look is there, to what lets it go on */
  async function stopAt(file: string): Promise<() => Promise<void>> {
    execFileSync("mkfifo", [file]);
    const pipe = await open(file, "w");
    return async () => {
      await pipe.write("Subject: hello\n\nOrdinary.\n");
      await pipe.close();
    };
  }
  const stopped = (part: string, name: string) => stopAt(join(config.path, part, name));

  test("a letter is not taken for settled: it is listed under its new name", async () => {
    const file = deliver(copy.mail);
    const mailbox = await Maildir.open(config, () => undefined);
    const goOn = stopped("new", "0.a.host");
    const listing = mailbox.seenAbove(0);
    const resume = await goOn;
    renameSync(file, join(config.path, "cur", "1.a.host:2,S"));
    await resume();
    const [, letter] = await listing;
    expect(letter?.flags).toEqual(["\\Seen"]);
    expect(kindOf(letter?.structure)).toBe("sealed");
    await mailbox.close();
  });

  test("a letter that has gone and comes back is a new one", async () => {
    const file = deliver(copy.mail);
    const mailbox = await Maildir.open(config, () => undefined);
    const goOn = stopped("new", "0.a.host");
    const listing = mailbox.seenAbove(0);
    const resume = await goOn;
    renameSync(file, join(config.path, "away"));
    await resume();
    const [pipe, ...others] = await listing;
    expect(others).toEqual([]);
    unlinkSync(join(config.path, "new", "0.a.host"));
    renameSync(join(config.path, "away"), file);
    const [letter] = await mailbox.seenAbove(0);
    expect(letter?.uid).toBeGreaterThan((pipe?.uid ?? 0) + 1);
    await mailbox.close();
  });

  test("an opened copy is found, and a second one removed", async () => {
    const marked = Buffer.from("Kakitome-Filing: mark\r\n\r\nOpened.\r\n");
    const header = { name: "Kakitome-Filing", value: "mark" };
    const copies = [deliver(marked, "1.a.host:2,", "cur"), deliver(marked, "2.a.host:2,", "cur")];
    const mailbox = await Maildir.open(config, () => undefined);

    let goOn = stopped("cur", "0.a.host:2,");
    const search = mailbox.hasOpened(header);
    let resume = await goOn;
    for (const file of copies) renameSync(file, `${file}S`);
    await resume();
    expect(await search).toBe(true);
    unlinkSync(join(config.path, "cur", "0.a.host:2,"));

    goOn = stopped("cur", "3.a.host:2,");
    const keeping = mailbox.keepOne(header);
    resume = await goOn;
    renameSync(`${copies[1]}S`, `${copies[1]}FS`);
    await resume();
    await keeping;
    await mailbox.close();
    unlinkSync(join(config.path, "cur", "3.a.host:2,"));
    expect(filesIn()).toEqual([`${copies[0]}S`]);
  });
});

test("a copy that cannot be filed leaves nothing of its text behind", async () => {
  config = { ...config, opened: "Opened" };
  deliver(copy.mail);
  const mailbox = await Maildir.open(config, () => undefined);
  const [seen] = await mailbox.seenAbove(0);
  if (!seen) throw new Error("there is no letter");
  rmdirSync(join(config.path, ".Opened", "new"));
  await expect(mailbox.append(Buffer.from("Subject: secret\r\n\r\nThe secret text.\r\n"), seen)).rejects.toMatchObject({
    code: "unavailable",
  });
  await mailbox.close();
  expect(readdirSync(join(config.path, ".Opened", "tmp"))).toEqual([]);
});

const CUTS: readonly PowerCut[] = (["begun", "filed", "confirmed"] as const).flatMap((stage) => [
  { stage, when: "before" as const },
  { stage, when: "after" as const },
]);
test.each(CUTS)("with the power cut $when $stage the letter is there once afterwards, and confirmed", async (cut) => {
  deliver(copy.mail);
  journal.cut = cut;
  await look();
  journal.cut = undefined;
  expect(await look()).toEqual([]);
  expect(texts()).toEqual([expect.stringContaining("The secret text.")]);
  expect(await row()).toMatchObject({ state: "confirmed" });
});

describe("a folder that somebody deletes meanwhile is made again:", () => {
  test("the letter that waits for it is filed", async () => {
    config = { ...config, opened: "Opened" };
    const isConfirmed = ({ event }: LogLine): boolean => event === "letter.confirmed";
    const before = house.heard.lines.all.filter(isConfirmed).length;
    const stop = await startWatching((changed) => Maildir.open(config, changed));
    rmSync(join(config.path, ".Opened"), { recursive: true });
    deliver(copy.mail);
    await house.heard.lines.until(isConfirmed, before + 1);
    await stop();
    expect(texts(".Opened")).toEqual([expect.stringContaining("The secret text.")]);
  });

  test("so that the sealed original can be put away", async () => {
    config = { ...config, sealed: "Sealed" };
    deliver(copy.mail);
    const mailbox = await Maildir.open(config, () => undefined);
    const [seen] = await mailbox.seenAbove(0);
    rmSync(join(config.path, ".Sealed"), { recursive: true });
    await expect(mailbox.retire(seen?.uid ?? 0)).rejects.toMatchObject({ code: "unavailable" });
    expect(mailbox.usable).toBe(false); // the watcher opens it again
    await mailbox.close();
    expect(await look()).toEqual([]);
    expect(texts(".Sealed")).toEqual([expect.stringContaining("registered.p7m")]);
  });
});

describe("a folder that is none", () => {
  test("is not made: a wrong path would be a mailbox that nobody reads", async () => {
    config = { ...config, path: `${config.path}-wrong` };
    await expect(Maildir.open(config, () => undefined)).rejects.toMatchObject({
      code: "unavailable",
      message: expect.stringContaining("-wrong"),
    });
  });
});

test("a letter whose file was away at one look is looked at when it is back", async () => {
  const file = deliver(copy.mail);
  const mailbox = await Maildir.open(config, () => undefined);
  const [seen] = await mailbox.seenAbove(0);
  renameSync(file, join(config.path, "away"));
  expect(await mailbox.seenAbove(0)).toEqual([]);
  renameSync(join(config.path, "away"), file);
  expect(await mailbox.seenAbove(seen?.uid ?? 0)).toHaveLength(1); // the place may have moved on past its former number
  await mailbox.close();
});

test("ordinary mail stays as it is", async () => {
  const file = deliver(Buffer.from("Subject: hello\r\n\r\nOrdinary.\r\n"));
  const mailbox = await Maildir.open(config, () => undefined);
  const [seen] = await mailbox.seenAbove(0);
  expect(seen?.structure).toEqual({ type: "text/plain" });
  expect(await look()).toEqual([]);
  await mailbox.close();
  expect(filesIn()).toEqual([file]);
});
