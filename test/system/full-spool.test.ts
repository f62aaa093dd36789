/** A spool that filled up while the next hop was away: everything goes out once, in bounded memory, and the door is open meanwhile. */
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { openHouse, type House } from "../broker/house.ts";
import { startHop, type Hop } from "../gateway/hop.ts";
import type { Process } from "../walks/kakitome.ts";
import { BOB, letter, nameOf, prepareSender, submit, type Sender } from "./sender.ts";

const LETTERS = 2_000;
/** Lines of a letter before it is sealed; all of them together would not go into the memory that is granted. */
const TEXT_LINES = 20_000;
const MOST_MEMORY = 300 << 20;
/** Entries that are cut off. */
const UNREADABLE = ["b".repeat(32), "d".repeat(32)] as const;

let house: House;
let hop: Hop;
let sender: Sender;
let gateway: Process | undefined;
/** Ids of the entries that are made of the first one. */
const copies = Array.from({ length: LETTERS }, (_, at) => `c0${at.toString(16).padStart(30, "0")}`);

beforeAll(async () => {
  [house, hop] = await Promise.all([openHouse(), startHop()]);
  await (await house.gateway("b.example")).enrol(BOB);
  sender = await prepareSender(house, hop.port, { retry: { first: "500ms", longest: "1s" } });
  await hop.close();
  gateway = await sender.run();
  const talk = await sender.enter();
  expect(await submit(talk, letter("first", "x\r\n".repeat(TEXT_LINES)))).toMatch(/^250 /u);
  talk.close();
  await gateway.stop();
  multiply();
});
afterAll(async () => {
  await gateway?.stop("SIGKILL");
  await hop?.close();
  await house?.stop();
});

/** Writes copies of the one entry, each with an id and a Message-ID of its own, and two that are cut off: in the first line, and in the text. */
function multiply(): void {
  const [name = ""] = readdirSync(sender.spool);
  const bytes = readFileSync(join(sender.spool, name));
  const end = bytes.indexOf("\n");
  const entry = JSON.parse(bytes.subarray(0, end).toString()) as { register: object; consignments: object[] };
  for (const id of copies) {
    const messageId = `<${id}@a.example>`;
    const register = { ...entry.register, messageId };
    const head = Buffer.from(JSON.stringify({ ...entry, id, messageId, register }));
    const message = bytes.subarray(end).toString("latin1").replace("<first@a.example>", messageId);
    writeFileSync(join(sender.spool, `${id}.letter`), Buffer.concat([head, Buffer.from(message, "latin1")]));
  }
  const consignments = entry.consignments.map((one) => ({ ...one, ticket: "AAAA" })); // given up, it takes its own key with it and not that of the others
  const cutOff = Buffer.from(JSON.stringify({ ...entry, id: UNREADABLE[1], consignments }));
  writeFileSync(join(sender.spool, `${UNREADABLE[0]}.letter`), bytes.subarray(0, end / 2));
  writeFileSync(join(sender.spool, `${UNREADABLE[1]}.letter`), Buffer.concat([cutOff, bytes.subarray(end, end + 1_000)]));
}

test("2,000 letters go out once each, whatever cannot be read among them, and the door takes mail meanwhile", async () => {
  gateway = await sender.run(); // nobody listens at the next hop yet
  await gateway.until("refusal", ({ event }) => event === "relay.refused");
  const talk = await sender.enter();
  expect(await submit(talk, letter("while-away"))).toMatch(/^250 /u);
  const taken = new Map<string, number>();
  hop = await startHop({
    port: hop.port,
    onMail(mail) {
      taken.set(nameOf(mail), (taken.get(nameOf(mail)) ?? 0) + 1);
      return undefined;
    },
  });
  await hop.attempts.until(() => true, 100);
  expect(await submit(talk, letter("while-busy"))).toMatch(/^250 /u);
  talk.close();
  const expected = ["first", "while-away", "while-busy", ...copies];
  await hop.attempts.until(() => true, expected.length);
  await sender.untilSpool((names) => names.filter((name) => name.endsWith(".letter")).length === 1); // the one that nobody can read
  expect(expected.filter((name) => taken.get(name) !== 1)).toEqual([]);
  const notices = hop.attempts.all.filter(({ from, mail }) => from === "" && String(mail).includes("copy of the letter was damaged"));
  expect(notices).toHaveLength(1); // of the one whose text is cut off
  expect(hop.attempts.all).toHaveLength(expected.length + 1);
  for (const id of UNREADABLE) await gateway.until(`word of ${id}`, (line) => line["accepted"] === id && isComplaint(line));
  expect(mostMemoryOf(gateway.pid)).toBeLessThan(MOST_MEMORY);
}, 180_000);

const isComplaint = ({ event }: { readonly event?: string }): boolean => event === "spool.broken" || event === "relay.failed";

/** The most that a process held at any time, octets. */
function mostMemoryOf(pid: number): number {
  const [, kibibytes] = /^VmHWM:\s+(\d+) kB$/mu.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kibibytes) * 1024;
}
