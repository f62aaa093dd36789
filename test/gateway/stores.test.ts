/** Durable files, spool, letters and journal: what was promised is there after a restart, for its owner only, under names of our own making. */
import { existsSync, readFileSync, readdirSync, renameSync, statSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "@jest/globals";
import { createLog } from "../../config/log.ts";
import { Serial, claimFolder, makeFolder, namesIn, readIfPresent, removeDurably, writeDurably } from "../../gateway/durable.ts";
import { Journal, type JournalEntry } from "../../gateway/journal.ts";
import { Letters, type Letter } from "../../gateway/letters.ts";
import { restoreRegister } from "../../gateway/power.ts";
import { Spool } from "../../gateway/spool.ts";
import { temporaryFolder } from "../servers/process.ts";

let folder: string;

beforeEach(async () => {
  folder = join(await temporaryFolder("stores"), "data");
});

const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8);
/** Whatever a mail can say, none of it may become part of a file name. */
const EVIL = "<../../../../etc/passwd\0\n%2e%2e/CON@a.example>";

const readFile = (path: string): string => (statSync(path).isFile() ? readFileSync(path, "utf8") : "");

/** All files below are the owner's, and none is named by what a mail said. */
function expectPrivate(): void {
  expect(modeOf(folder)).toBe("700");
  for (const name of readdirSync(folder)) {
    expect([name, modeOf(join(folder, name))]).toEqual([name, "600"]);
    expect(name).toMatch(/^[\w-]+\.[\w.]+$/u);
    expect(name).not.toMatch(/passwd|alice|example/u);
  }
}

describe("a durable file", () => {
  beforeEach(() => makeFolder(folder));

  test("is written whole from its parts, replaced whole, and leaves nothing beside it", async () => {
    const path = join(folder, "a.file");
    await writeDurably(path, [Buffer.from("one "), Buffer.alloc(0), Buffer.from("two")]);
    await writeDurably(path, [Buffer.from("three")]);
    expect(readFileSync(path, "utf8")).toBe("three");
    expect(readdirSync(folder)).toEqual(["a.file"]);
    expectPrivate();
  });

  test("written by fifty at once is one of them, whole", async () => {
    const path = join(folder, "a.file");
    const texts = Array.from({ length: 50 }, (_none, at) => String(at).repeat(5_000));
    await Promise.all(texts.map((text) => writeDurably(path, [Buffer.from(text)])));
    expect(texts).toContain(readFileSync(path, "utf8"));
    expect(readdirSync(folder)).toEqual(["a.file"]);
  });

  test("that is missing is removed, and read as undefined", async () => {
    await removeDurably(join(folder, "none"));
    expect(await readIfPresent(join(folder, "none"))).toBeUndefined();
    expect(await namesIn(join(folder, "none"), ".x")).toEqual([]);
  });

  test("in a folder that is missing cannot be written, and says so", async () => {
    await expect(writeDurably(join(folder, "none", "a"), [Buffer.from("x")])).rejects.toThrow(/ENOENT/u);
  });

  test("that cannot be read is not taken for a missing one", async () => {
    await expect(readIfPresent(folder)).rejects.toThrow(/EISDIR/u);
  });

  test("what a crash left half-written goes when the folder is claimed, and only that", async () => {
    writeFileSync(join(folder, "a.letter.0123456789ab.tmp"), "half");
    writeFileSync(join(folder, "a.letter"), "whole");
    await claimFolder(folder);
    expect(readdirSync(folder)).toEqual(["a.letter"]);
  });
});

test("steps on one key run one after the other, past failures; steps on another beside them", async () => {
  const serial = new Serial();
  const order: string[] = [];
  let open = (): void => undefined;
  const gate = new Promise<void>((resolve) => (open = resolve));
  const first = serial.run("a", async () => (await gate, void order.push("a1")));
  const failed = serial.run("a", async () => {
    order.push("a2");
    throw new Error("broken");
  });
  const third = serial.run("a", async () => void order.push("a3"));
  await serial.run("b", async () => void order.push("b1"));
  open();
  await expect(failed).rejects.toThrow("broken");
  await Promise.all([first, third]);
  expect(order).toEqual(["b1", "a1", "a2", "a3"]);
});

describe("the spool", () => {
  const entry = { id: "0123abcd", sender: "alice@a.example", messageId: EVIL, acceptedAt: "2026-03-01T12:00:00.000Z" };
  const copies = [
    { recipient: "bob@b.example", ticket: "AAAA", notify: ["NEVER"], message: Buffer.from("first\r\n\n{}\n") },
    { recipient: "carol@b.example", notify: [], originalRecipient: "rfc822;c", message: Buffer.from([0, 10, 13, 255]) },
    { recipient: "dave@b.example", notify: [], message: Buffer.alloc(0) },
  ];

  test("gives every copy back octet for octet, after a restart too", async () => {
    const spool = new Spool(folder);
    await spool.prepare();
    await spool.put({ ...entry, envelopeId: "QQ", returns: "HDRS" }, copies);
    const again = new Spool(folder);
    await again.prepare();
    const [found, ...others] = await again.all();
    expect(others).toEqual([]);
    expect(found?.progress.map(({ stage }) => stage)).toEqual(["waiting", "waiting", "waiting"]);
    expect(found?.entry).toMatchObject({ ...entry, envelopeId: "QQ", returns: "HDRS" });
    for (const [at, { message, ...rest }] of copies.entries()) {
      const consignment = found?.entry.consignments[at];
      expect(consignment).toMatchObject(rest);
      if (found && consignment) expect((await again.message(found, consignment))?.equals(message)).toBe(true);
    }
    expectPrivate();
  });

  test("remembers how far each copy is, and changes at once do not lose one another", async () => {
    const spool = new Spool(folder);
    await spool.prepare();
    const spooled = await spool.put(entry, copies);
    const reached = [{ stage: "relayed" }, { stage: "refused", status: "5.1.1", answer: "no" }, { stage: "failed" }] as const;
    await Promise.all(
      reached.map((progress, at) => {
        spooled.progress[at] = progress;
        return spool.keep(spooled);
      }),
    );
    expect((await new Spool(folder).all())[0]?.progress).toEqual(reached);
  });

  test("lists the oldest first, and nothing of what was removed", async () => {
    const spool = new Spool(folder);
    await spool.prepare();
    for (const [id, acceptedAt] of [
      ["c", "2026-03-03"],
      ["a", "2026-03-01"],
      ["b", "2026-03-02"],
    ] as const)
      await spool.put({ ...entry, id, acceptedAt }, copies);
    for (const second of (await spool.all()).slice(1, 2)) {
      await spool.keep(second);
      await spool.finish(second);
    }
    expect((await spool.all()).map(({ entry: { id } }) => id)).toEqual(["a", "c"]);
    expect(readdirSync(folder).filter((name) => name.startsWith("b"))).toEqual(["b.done"]);
    expect(readFileSync(join(folder, "b.done"), "utf8")).toMatch(/^\{"id":"b",[^\n]*\}\n$/u); // and nothing of the copies
  });

  test("knows a submission again while it waits, when it is finished, after a restart, and no longer than wanted", async () => {
    const spool = new Spool(folder);
    await spool.prepare();
    const ran: string[] = [];
    const once = (of: Spool, what: string) => of.once(entry.id, async () => void ran.push(what));
    const both = [
      spool.once(entry.id, async () => void (await spool.put(entry, copies), ran.push("first"))),
      once(spool, "at the same time"),
    ];
    expect(await Promise.all(both)).toEqual([true, false]);
    for (const spooled of await spool.all()) await spool.finish(spooled);
    expect(await once(new Spool(folder), "after a restart")).toBe(false);
    await spool.forget(Date.now() - 60_000);
    expect(await once(spool, "within the time")).toBe(false);
    await spool.forget(Date.now() + 60_000);
    expect(await once(spool, "later")).toBe(true);
    expect(ran).toEqual(["first", "later"]);
  });

  test("forgets a finished submission in time, however often it is started meanwhile", async () => {
    const spool = new Spool(folder);
    await spool.prepare();
    await spool.finish(await spool.put(entry, copies));
    await spool.remember("passed", async () => undefined);
    const yesterday = new Date(Date.now() - 86_400_000);
    for (const name of readdirSync(folder)) utimesSync(join(folder, name), yesterday, yesterday);
    await new Spool(folder).prepare();
    await spool.forget(yesterday.getTime() + 1_000);
    expect(readdirSync(folder)).toEqual([]);
  });

  test("ends what an attempt to finish left behind the rename", async () => {
    const spool = new Spool(folder);
    await spool.prepare();
    const spooled = await spool.put(entry, copies);
    await spool.keep(spooled);
    renameSync(join(folder, `${entry.id}.letter`), join(folder, `${entry.id}.done`));
    await spool.finish(spooled);
    expect(readdirSync(folder)).toEqual([`${entry.id}.done`]);
    expect(statSync(join(folder, `${entry.id}.done`)).size).toBe(spooled.head);
  });

  test("takes what stayed of a former submission's progress for no progress of the next one of its id", async () => {
    const spool = new Spool(folder);
    await spool.prepare();
    writeFileSync(join(folder, `${entry.id}.state`), JSON.stringify(copies.map(() => ({ stage: "reported" }))));
    await spool.put(entry, copies);
    expect((await new Spool(folder).all())[0]?.progress.map(({ stage }) => stage)).toEqual(["waiting", "waiting", "waiting"]);
  });

  test("lets a submission that failed be tried again", async () => {
    const spool = new Spool(folder);
    await spool.prepare();
    await expect(spool.once(entry.id, async () => Promise.reject(new Error("no broker")))).rejects.toThrow("no broker");
    expect(await spool.once(entry.id, async () => undefined)).toBe(true);
  });

  test("goes on past an entry that cannot be read, which stays for a person", async () => {
    const spool = new Spool(folder);
    await spool.prepare();
    await spool.put(entry, copies);
    writeFileSync(join(folder, "broken.letter"), "no line end");
    const broken: string[] = [];
    expect(await spool.all((id) => void broken.push(id))).toHaveLength(1);
    expect(broken).toEqual(["broken"]);
    expect(existsSync(join(folder, "broken.letter"))).toBe(true);
  });

  test.each([
    ["empty", ""],
    ["full of NUL", "\0".repeat(100)],
    ["about fewer copies", "[]"],
  ])("takes an entry up from the beginning whose progress a loss of power left %s", async (_how, text) => {
    const spool = new Spool(folder);
    await spool.prepare();
    await spool.put(entry, copies);
    writeFileSync(join(folder, `${entry.id}.state`), text);
    expect((await spool.all())[0]?.progress.map(({ stage }) => stage)).toEqual(["waiting", "waiting", "waiting"]);
  });

  test("knows at its start that an entry was finished whose copies are cut off, though a loss of power took the new name", async () => {
    const spool = new Spool(folder);
    await spool.prepare();
    const [finished, empty, waiting] = [entry, { ...entry, id: "empty" }, { ...entry, id: "waiting" }];
    truncateSync(join(folder, `${entry.id}.letter`), (await spool.put(finished, copies)).head);
    writeFileSync(join(folder, `${entry.id}.state`), "[]");
    await spool.put(empty, copies.slice(2));
    await spool.put(waiting, copies);
    await new Spool(folder).prepare();
    expect(readdirSync(folder).toSorted()).toEqual([`${entry.id}.done`, "empty.letter", "waiting.letter"]);
  });

  test("clears away, at its start, what a crash left between two steps of finishing", async () => {
    const spool = new Spool(folder);
    await spool.prepare();
    writeFileSync(join(folder, "gone.state"), "[]");
    writeFileSync(join(folder, "ended.done"), `{${" ".repeat(100_000)}}\na sealed copy that was not cut off yet`);
    writeFileSync(join(folder, "older.done"), "a file without a line");
    await new Spool(folder).prepare();
    expect(readdirSync(folder).toSorted()).toEqual(["ended.done", "older.done"]);
    expect(["ended.done", "older.done"].map((name) => statSync(join(folder, name)).size)).toEqual([100_003, 0]);
  });

  test("tries whether it can be written, by many at once, and leaves nothing of that", async () => {
    const spool = new Spool(folder);
    await spool.prepare();
    for (const free of await Promise.all(Array.from({ length: 20 }, () => spool.probe()))) expect(free).toBeGreaterThan(0);
    expect(readdirSync(folder)).toEqual([]);
  });

  test("says which entry it cannot read", async () => {
    const spool = new Spool(folder);
    await spool.prepare();
    writeFileSync(join(folder, "broken.letter"), "no line end");
    await expect(spool.all()).rejects.toMatchObject({ code: "internal", message: "spool entry broken cannot be read" });
  });
});

describe("the letters", () => {
  const NAME = { sender: "alice@a.example", messageId: EVIL };
  const recipient = (session: string, commit = "c".repeat(64)) => ({
    address: "bob@b.example",
    session,
    commit,
    state: "accepted" as const,
    at: "2026",
  });
  const letter = (changes: Partial<Letter> = {}): Letter => ({
    messageId: EVIL,
    sender: "alice@a.example",
    acceptedAt: "2026-03-01T12:00:00.000Z",
    recipients: [recipient("s1"), recipient("s2")],
    ...changes,
  });

  async function open(): Promise<Letters> {
    const letters = new Letters(folder);
    await letters.prepare();
    return letters;
  }

  test("are there after a restart, with signatures and receipts beside them", async () => {
    const letters = await open();
    await letters.add(letter());
    await letters.keepReceipt("evidence-1", Buffer.from("receipt"), { session: "c".repeat(64), original: Buffer.from("signature") });
    expect(await (await open()).find(NAME)).toEqual(letter());
    expect(readFileSync(letters.pathOf(`${"c".repeat(64)}.original.p7s`), "utf8")).toBe("signature");
    expect(readFileSync(letters.pathOf("evidence-1.receipt.eml"), "utf8")).toBe("receipt");
    expectPrivate();
  });

  test("changed by forty at once lose nothing", async () => {
    const letters = await open();
    const sessions = Array.from({ length: 40 }, (_none, at) => `s${at}`);
    await letters.add(letter({ recipients: sessions.map((session) => recipient(session)) }));
    await Promise.all(sessions.map((session) => letters.change(NAME, session, { state: "handed-over" })));
    expect((await letters.find(NAME))?.recipients.every(({ state }) => state === "handed-over")).toBe(true);
  });

  test("after a loss of power are restored from the spool, once: what is missing or torn, and nothing that went further", async () => {
    const letters = await open();
    const spool = new Spool(join(folder, "spool"));
    await spool.prepare();
    const [kept, missing, torn, waiting] = ["kept", "missing", "torn", "waiting"].map((id) => letter({ messageId: `<${id}@a.example>` }));
    for (const [at, register] of [kept, missing, torn, waiting].entries()) {
      const { messageId, sender, acceptedAt } = register!;
      const spooled = await spool.put({ id: `entry${at}`, sender, messageId, acceptedAt, register: register! }, []);
      if (register !== waiting) await spool.finish(spooled);
    }
    for (const one of [kept!, torn!]) await letters.add(one);
    await letters.change(kept!, "s1", { state: "opened", evidence: "e" });
    const tornPath = join(
      folder,
      readdirSync(folder).find((name) => readFile(join(folder, name)).includes("<torn@"))!,
    );
    truncateSync(tornPath);
    writeFileSync(join(folder, "spool", "odd.done"), "{\n");
    const complaints: string[] = [];
    const log = createLog({ write: (line) => void complaints.push(line) });

    await restoreRegister(folder, { spool, letters, log }, "first boot");
    expect((await letters.find(kept!))?.recipients).toMatchObject([{ state: "opened" }, { state: "accepted" }]);
    expect([await letters.find(missing!), await letters.find(torn!)]).toEqual([missing, torn]);
    expect(await letters.find(waiting!)).toBeUndefined(); // its entry adds it when it goes on
    expect(existsSync(`${tornPath}.damaged`)).toBe(true);
    expect(complaints.join("")).toMatch(/"event":"spool\.broken".*"accepted":"odd"|"accepted":"odd".*"event":"spool\.broken"/u);

    truncateSync(tornPath);
    await restoreRegister(folder, { spool, letters, log }, "first boot");
    await expect(letters.find(torn!)).rejects.toMatchObject({ code: "internal" });
    await restoreRegister(folder, { spool, letters, log }, "second boot");
    expect(await letters.find(torn!)).toEqual(torn);
  });

  test("what was opened stays opened, whatever the next hop answers later", async () => {
    const letters = await open();
    await letters.add(letter());
    await letters.change(NAME, "s1", { state: "opened", evidence: "e" });
    expect(await letters.change(NAME, "s1", { state: "failed" })).toBe(true);
    expect((await letters.find(NAME))?.recipients[0]).toMatchObject({ state: "opened", evidence: "e" });
  });

  test.each([
    ["an unknown letter", "<unknown@a.example>", "s1"],
    ["an unknown session", EVIL, "s3"],
  ])("a change of %s changes nothing and says so", async (_why, messageId, session) => {
    const letters = await open();
    await letters.add(letter());
    expect(await letters.change({ ...NAME, messageId }, session, { state: "failed" })).toBe(false);
    expect(await letters.all()).toEqual([letter()]);
  });

  test("the same Message-ID sent again keeps its earlier recipients", async () => {
    const letters = await open();
    await letters.add(letter());
    await letters.add(letter({ recipients: [recipient("s3")] }));
    expect((await letters.find(NAME))?.recipients.map(({ session }) => session)).toEqual(["s1", "s2", "s3"]);
  });

  test("a letter added again, after a crash, keeps how far its recipients are", async () => {
    const letters = await open();
    await letters.add(letter());
    await letters.change(NAME, "s1", { state: "opened", evidence: "e" });
    await letters.add(letter());
    expect((await letters.find(NAME))?.recipients).toMatchObject([{ session: "s1", state: "opened" }, { session: "s2" }]);
  });

  test("a Message-ID that another sender uses again does not take the first one's letter over", async () => {
    const letters = await open();
    await letters.add(letter());
    const foreign = letter({ sender: "mallory@a.example", recipients: [recipient("s3")] });
    await letters.add(foreign);
    expect(await letters.find(NAME)).toEqual(letter());
    expect(await letters.find(foreign)).toEqual(foreign);
  });

  test("are listed the oldest first", async () => {
    const letters = await open();
    for (const acceptedAt of ["2026-03-02", "2026-03-01"]) await letters.add(letter({ messageId: `<${acceptedAt}@x>`, acceptedAt }));
    expect((await letters.all()).map(({ acceptedAt }) => acceptedAt)).toEqual(["2026-03-01", "2026-03-02"]);
  });
});

describe("the journal", () => {
  const session = "5".repeat(64);
  const entry: JournalEntry = {
    stage: "filed",
    session,
    nextTicket: "AAAA",
    receipt: "BBBB",
    mailbox: "bob@b.example",
    messageId: EVIL,
    at: "2026-03-01T12:00:00.000Z",
  };

  test("keeps the last stage of a session, after a restart too", async () => {
    const journal = new Journal(folder);
    await journal.prepare();
    await journal.put({ ...entry, nextTicket: "BBBB" });
    await journal.put(entry);
    const again = new Journal(folder);
    await again.prepare();
    expect(await again.all()).toEqual([entry]);
    expectPrivate();
  });

  test("keeps a place for each mailbox and folder, and takes no name of theirs for a file", async () => {
    const journal = new Journal(folder);
    await journal.prepare();
    await journal.keepPosition("bob@b.example", "../INBOX", { uidValidity: "1", uid: 7 });
    await journal.keepPosition("bob@b.example", "Other", { uidValidity: "2", uid: 8 });
    expect(await new Journal(folder).position("bob@b.example", "../INBOX")).toEqual({ uidValidity: "1", uid: 7 });
    expect(await journal.position("carol@b.example", "Other")).toBeUndefined();
    expect(existsSync(join(folder, "..", "INBOX"))).toBe(false);
    expectPrivate();
  });
});
