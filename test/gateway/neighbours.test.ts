/** What belongs to which process of a gateway that has several: every address to one, a mailbox with its aliases, and what others' processes do for it. */
import { expect, test } from "@jest/globals";
import { join } from "node:path";
import { Letters } from "../../gateway/letters.ts";
import { Owners, senderOf } from "../../gateway/neighbours.ts";
import { parseMailbox } from "../../mime/address.ts";
import { openHouse } from "../broker/house.ts";
import { temporaryFolder } from "../servers/process.ts";
import { startHop } from "./hop.ts";
import { openDesk } from "./relay-place.ts";

const own = (address: string, ...aliases: string[]) => ({
  address: parseMailbox(address),
  aliases: aliases.map((alias) => parseMailbox(alias)),
  deliver: "signed" as const,
});

test("every address belongs to one process, an alias to its mailbox's, however it is written", () => {
  for (const count of [1, 2, 3, 7, 64]) {
    const owners = new Owners([own("alice@a.example", "sales@a.example")], count);
    for (let at = 0; at < 200; at++) {
      const owner = owners.of(`mailbox${at}@a.example`);
      expect(owner).toBeGreaterThanOrEqual(1);
      expect(owner).toBeLessThanOrEqual(count);
      expect(owners.of(`Mailbox${at}@A.example`)).toBe(owner);
    }
    expect(owners.of("sales@a.example")).toBe(owners.of("alice@a.example"));
    expect(owners.of("")).toBeGreaterThanOrEqual(1); // bounces that pass through
  }
  const owners = new Owners([], 4);
  const shares = Array.from({ length: 400 }, (_none, at) => owners.of(`mailbox${at}@a.example`));
  for (const number of [1, 2, 3, 4]) expect(shares.filter((one) => one === number).length).toBeGreaterThan(60);
});

test("a spooled letter is its sender's, a notice its recipient's, who sent what it is about", () => {
  const [consignment] = [{ recipient: "alice@a.example", notify: [], from: 0, to: 1 }];
  expect(senderOf({ sender: "bob@b.example", consignments: [consignment] })).toBe("bob@b.example");
  expect(senderOf({ sender: "", consignments: [consignment] })).toBe("alice@a.example");
  expect(senderOf({ sender: "", consignments: [] })).toBe("");
});

test("the register of a sender that belongs to another process is written there, and not here", async () => {
  const folder = join(await temporaryFolder("neighbours"), "letters");
  const asked: unknown[] = [];
  const letter = {
    messageId: "<one@a.example>",
    sender: "alice@a.example",
    acceptedAt: "2026-01-01T00:00:00.000Z",
    recipients: [{ address: "bob@b.example", session: "a".repeat(64), commit: "b".repeat(64), state: "accepted", at: "" } as const],
  };
  const theirs = new Letters(folder);
  await theirs.prepare();
  await theirs.add(letter);
  const ours = new Letters(folder, {
    isOurs: (address) => address !== letter.sender,
    add: async (added) => void asked.push(added),
    change: async (...change) => {
      asked.push(change);
      return true;
    },
  });
  const second = { ...letter, recipients: [{ ...letter.recipients[0], session: "c".repeat(64) }] } as typeof letter;
  await ours.add(second); // of a letter that somebody else sends for this author
  expect(await ours.change(letter, "a".repeat(64), { state: "opened", at: "2026-01-02T00:00:00.000Z" })).toBe(true);
  expect(asked).toEqual([second, [letter, "a".repeat(64), { state: "opened", at: "2026-01-02T00:00:00.000Z" }]]);
  expect(await ours.find(letter)).toEqual(letter);
});

test("after a restart each process takes up its own part of the spool, and leaves the others'", async () => {
  const [house, hop] = await Promise.all([openHouse(), startHop()]);
  const alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  await (await house.gateway("b.example")).enrol("bob@b.example");
  const first = await openDesk(house, alice, hop.port);
  await first.put({ id: "1".repeat(32), sender: "alice@a.example", recipients: ["bob@b.example"] });
  await first.put({ id: "2".repeat(32), sender: "carol@a.example", recipients: ["bob@b.example"] });
  const isOurs = ({ sender }: { readonly sender: string }): boolean => sender === "carol@a.example";
  const second = await openDesk(house, alice, hop.port, { folder: first.folder, isOurs });
  await second.relay.resume();
  await hop.attempts.until(() => true);
  await second.relay.close();
  expect(hop.attempts.all.map(({ from }) => from)).toEqual(["carol@a.example"]);
  expect((await second.spool.all()).map(({ entry }) => entry.sender)).toEqual(["alice@a.example"]);
  await Promise.all([first.stop(), second.stop(), hop.close()]);
  await house.stop();
});
