/** A disk under the inbound journal that is full or read-only: the letter waits, and is opened once when it can be written again, without a restart. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import type { JournalEntry } from "../../gateway/journal.ts";
import { openHouse, type House, type Member } from "../broker/house.ts";
import { FragileJournal, PASSWORD } from "../gateway/inbound-place.ts";
import { startDovecot, type DovecotServer } from "../servers/dovecot.ts";
import { foundOf, openReceiver, sealedLetter, type Receiver } from "./receiver.ts";
import { ALICE, BOB } from "./sender.ts";
import { mountSmallDisk, whyNoDisk, type SmallDisk } from "./small-disk.ts";

const why = await whyNoDisk();
if (why !== undefined) console.log(`skipped: ${why}`);
const suite = why === undefined ? describe : describe.skip;

/** Has something happen to the disk as soon as a stage is on it. */
class HinderedJournal extends FragileJournal {
  after: { stage: JournalEntry["stage"]; happen: () => void } | undefined;

  override async put(entry: JournalEntry): Promise<void> {
    await super.put(entry);
    if (this.after?.stage !== entry.stage) return;
    this.after.happen();
    this.after = undefined;
  }
}

suite("a receiving gateway whose journal is on a small disk", () => {
  let house: House;
  let dovecot: DovecotServer;
  let alice: Member;
  let bob: Member;
  let disk: SmallDisk;
  let journal: HinderedJournal;
  let receiver: Receiver;

  beforeAll(async () => {
    [house, dovecot] = await Promise.all([openHouse(), startDovecot({ users: { [BOB]: PASSWORD } })]);
    alice = await (await house.gateway("a.example")).enrol(ALICE);
    bob = await (await house.gateway("b.example")).enrol(BOB);
  });
  afterAll(async () => {
    await house?.stop();
    await dovecot?.stop();
  });
  beforeEach(async () => {
    disk = await mountSmallDisk();
    journal = new HinderedJournal(disk.folder);
    receiver = await openReceiver(house, bob, dovecot, { journal });
  });
  afterEach(async () => {
    await receiver?.stop();
    disk?.unmount();
  });

  const event = (name: string) => receiver.heard.lines.until((line) => line.event === name);
  const count = (name: string): number => receiver.heard.lines.all.filter((line) => line.event === name).length;
  const hindrances = [
    ["is full", () => disk.fill(), () => disk.free()],
    ["has no inode left", () => disk.fillInodes(), () => disk.free()],
    ["is read-only", () => disk.remount("ro"), () => disk.remount("rw")],
  ] as const;

  test.each(hindrances)("asks for no key while the disk %s, and opens the letter once afterwards", async (how, hinder, heal) => {
    const name = `begin-${how.replaceAll(" ", "-")}`;
    hinder();
    await receiver.desk.deliver(await sealedLetter(house, alice, BOB, name));
    await event("letter.waits");
    expect(count("letter.presented")).toBe(0);
    expect(await foundOf(receiver.desk, name)).toEqual({ opened: 0, sealed: 1 });
    heal();
    await receiver.settled.until(() => true);
    expect(await foundOf(receiver.desk, name)).toEqual({ opened: 1, sealed: 0 });
    expect([count("letter.filed"), count("letter.confirmed")]).toEqual([1, 1]);
  });

  const stages = ["begun", "filed"] as const;
  test.each(stages.flatMap((stage) => hindrances.map((one) => [stage, ...one] as const)))(
    "that has written %s and then %s files the letter once, and one receipt waits for its way",
    async (stage, how, hinder, heal) => {
      const name = `${stage}-${how.replaceAll(" ", "-")}`;
      const before = (await house.table.pending()).length;
      journal.after = { stage, happen: hinder };
      await receiver.desk.deliver(await sealedLetter(house, alice, BOB, name));
      await event("letter.waits");
      expect((await foundOf(receiver.desk, name)).sealed).toBe(1); // the original goes last
      heal();
      await receiver.settled.until(() => true);
      expect(await foundOf(receiver.desk, name)).toEqual({ opened: 1, sealed: 0 });
      expect(await house.table.pending()).toHaveLength(before + 1);
    },
  );
});
