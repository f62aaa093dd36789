/** A disk that is full or read-only: nothing is accepted that cannot be kept, nothing that was accepted is lost, and it heals without a restart. */
import { readdirSync, readlinkSync } from "node:fs";
import { setImmediate as turn } from "node:timers/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import type { Running } from "../../config/lifecycle.ts";
import type { HeardLog } from "../broker/happenings.ts";
import { openHouse, type House } from "../broker/house.ts";
import { startHop, type Attempt, type Hop } from "../gateway/hop.ts";
import type { Talk } from "../gateway/talk.ts";
import { BOB, letter, nameOf, prepareSender, submit, type Sender } from "./sender.ts";
import { mountSmallDisk, whyNoDisk, type SmallDisk } from "./small-disk.ts";

const why = await whyNoDisk();
if (why !== undefined) console.log(`skipped: ${why}`);
const suite = why === undefined ? describe : describe.skip;

/** How far a letter is, is written down where more than one copy is to leave. */
const CAROL = "carol@b.example";
const PASSED = "x@pass.example";
function pathOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return ""; // it was the one that listed them
  }
}

/** Whether this process has a file in the folder open: a disk is not made read-only then. */
const isOpen = (folder: string): boolean => readdirSync("/proc/self/fd").some((fd) => pathOf(fd).startsWith(folder));
const FULL = /^452 4\.3\.1 The gateway's disk is full; the letter was not accepted, try again later$/u;

suite("a sending gateway on a small disk", () => {
  let house: House;
  let hop: Hop;
  let onMail: (mail: Buffer) => string | undefined;
  let sender: Sender;
  let gateway: Running & { readonly heard: HeardLog };
  let spoolDisk: SmallDisk;
  let disk: SmallDisk;
  let talk: Talk;

  beforeEach(async () => {
    house = await openHouse();
    const receiving = await house.gateway("b.example");
    await receiving.enrol(BOB);
    await receiving.enrol(CAROL);
    onMail = () => undefined;
    hop = await startHop({ onMail: (mail) => onMail(mail) });
    disk = await mountSmallDisk();
    const policy = { rules: { "pass.example": { unenrolled: "pass" } } };
    sender = await prepareSender(house, hop.port, { data: join(disk.folder, "data"), policy });
    spoolDisk = await mountSmallDisk(sender.spool);
    gateway = await sender.runHere();
    talk = await sender.enter();
  });
  afterEach(async () => {
    talk?.close();
    await gateway?.stop();
    await hop?.close();
    await house?.stop();
    spoolDisk?.unmount();
    disk?.unmount();
  });

  const named =
    (name: string): ((attempt: Attempt) => boolean) =>
    ({ mail }) =>
      nameOf(mail) === name;
  const attempts = (name: string): number => hop.attempts.all.filter(named(name)).length;
  const event = (name: string) => gateway.heard.lines.until((line) => line.event === name);
  const isTaken = (name: string) => hop.attempts.until(named(name));
  const kept = (): string[] => readdirSync(sender.spool).filter((name) => !name.startsWith("ballast") && !name.endsWith(".done"));

  test.each([
    ["is full", () => spoolDisk.fill(), () => spoolDisk.free()],
    ["has no inode left", () => spoolDisk.fillInodes(), () => spoolDisk.free()],
    ["is read-only", () => spoolDisk.remount("ro"), () => spoolDisk.remount("rw")],
  ])("answers 452 and keeps nothing while its spool %s, and accepts again as soon as it can", async (_how, hinder, heal) => {
    expect(await submit(talk, letter("before"))).toMatch(/^250 /u);
    await sender.untilSpool((names) => names.length === 0);
    while (isOpen(sender.spool)) await turn(); // a finished letter is cut off to its first line
    hinder();
    expect(await submit(talk, letter("meanwhile"))).toMatch(FULL);
    expect(await submit(talk, letter("meanwhile", "x\r\n".repeat(100_000)))).toMatch(FULL);
    expect(kept()).toEqual([]);
    heal();
    expect(await submit(talk, letter("meanwhile"))).toMatch(/^250 /u);
    expect(await submit(talk, letter("after"))).toMatch(/^250 /u);
    await Promise.all([isTaken("meanwhile"), isTaken("after")]);
    expect(["before", "meanwhile", "after"].map(attempts)).toEqual([1, 1, 1]);
  });

  test.each([
    ["mail that it only passes on", [PASSED]],
    ["a letter", [BOB, PASSED]],
  ])("passes nothing on unsealed of %s that it answers 452, and all of it once when there is room", async (_what, recipients) => {
    spoolDisk.fillInodes();
    for (let times = 0; times < 3; times++) expect(await submit(talk, letter("unsealed"), ...recipients)).toMatch(FULL);
    expect(attempts("unsealed")).toBe(0);
    spoolDisk.free();
    for (let times = 0; times < 2; times++) expect(await submit(talk, letter("unsealed"), ...recipients)).toMatch(/^250 /u);
    await hop.attempts.until(named("unsealed"), recipients.length);
    expect(attempts("unsealed")).toBe(recipients.length);
  });

  test("with no room at all for its own records hands a letter over that it had accepted, once there is room", async () => {
    disk.fill(); // the register of sent letters; the spool has a disk of its own
    expect(await submit(talk, letter("patient"))).toMatch(/^250 /u);
    await event("relay.failed");
    expect(attempts("patient")).toBe(0); // the register must know it first
    disk.free();
    await isTaken("patient");
  });

  test("does not lose a letter whose progress could not be written", async () => {
    let full: boolean | undefined;
    onMail = () => {
      if (full) return "451 4.3.0 The other copy waits as long as the disk is full"; // for an entry that is done leaves a full disk too
      if (full === undefined) spoolDisk.fill();
      full ??= true;
      return undefined;
    };
    expect(await submit(talk, letter("written-late"), BOB, CAROL)).toMatch(/^250 /u);
    await event("relay.failed");
    expect(await submit(talk, letter("refused"))).toMatch(FULL);
    expect(kept().filter((name) => name.endsWith(".letter"))).toHaveLength(1);
    spoolDisk.free();
    full = false;
    expect(await submit(talk, letter("next"))).toMatch(/^250 /u);
    await isTaken("next");
    await hop.attempts.until(({ to, answer }) => to[0] === CAROL && answer === "");
    const copies = hop.attempts.all.filter(named("written-late")).map(({ to, mail }) => `${to.join()} ${mail.toString("latin1")}`);
    expect(new Set(copies).size).toBe(2); // each in the same octets and with the same ticket, by which its recipient's gateway knows it
  });

  test("does not hand a letter over again that the next hop has taken, only because its progress cannot be written", async () => {
    onMail = () => void (attempts("once") === 0 && spoolDisk.fill());
    expect(await submit(talk, letter("once"), BOB, CAROL)).toMatch(/^250 /u);
    await gateway.heard.lines.until((line) => line.event === "relay.failed");
    spoolDisk.free();
    expect(await submit(talk, letter("behind"))).toMatch(/^250 /u);
    await isTaken("behind");
    expect(attempts("once")).toBe(2);
  });
});
