/** The ledger sees what it is there to see: each kind of fault is put before it once. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { temporaryFolder } from "../servers/process.ts";
import { filesWith } from "./disk.ts";
import type { Facts } from "./facts.ts";
import { judge, type Account } from "./ledger.ts";

const BOB = "bob@b.example";
const MAIL = { token: "K1n0", messageId: "<one@a.example>", recipients: [BOB] };
const ACCEPTED: Account = { mail: MAIL, answers: ["lost", "250"] };
const COPY = { recipient: BOB, token: MAIL.token, messageId: MAIL.messageId };
const RECORD = { messageId: MAIL.messageId, address: BOB, session: "s", state: "opened", evidence: "e" };
const ROW = { name: "n", session: "s", state: "confirmed", messageId: MAIL.messageId, recipient: BOB, evidence: "e", holdsKey: false };
const GOOD: Facts = {
  opened: [COPY],
  sealed: 0,
  notices: [],
  register: [RECORD],
  rows: [ROW],
  unsent: 0,
  unequal: [],
  spooled: [],
  queued: 0,
};

const kinds = (facts: Partial<Facts>, account = ACCEPTED): string[] => [
  ...new Set(judge([account], { ...GOOD, ...facts }).map(({ kind }) => kind)),
];

test("finds nothing where each accepted mail was opened once and has one receipt", () => {
  expect(judge([ACCEPTED], GOOD)).toEqual([]);
});

test.each<[string, Partial<Facts>, string[]]>([
  ["an accepted mail that nobody opened", { opened: [] }, ["lost"]],
  ["a second copy", { opened: [COPY, { ...COPY }] }, ["duplicated"]],
  ["a second copy under another Message-ID", { opened: [COPY, { ...COPY, messageId: "<two@a.example>" }] }, ["duplicated", "lost"]],
  ["another text under the Message-ID", { opened: [{ ...COPY, token: "K1n9" }] }, ["lost"]],
  ["no record", { register: [] }, ["receipt"]],
  ["two records", { register: [RECORD, { ...RECORD, session: "t" }] }, ["receipt"]],
  ["a record that waits", { register: [{ ...RECORD, state: "handed-over" }] }, ["receipt"]],
  ["two confirmed rows", { rows: [ROW, { ...ROW, name: "m", session: "t" }] }, ["receipt"]],
  ["evidence that differs", { rows: [{ ...ROW, evidence: "f" }] }, ["receipt"]],
  ["a key that was kept", { rows: [{ ...ROW, holdsKey: true }] }, ["receipt"]],
  ["other bytes of the receipt", { unequal: ["e"] }, ["receipt"]],
  ["a sealed letter that stayed", { sealed: 1 }, ["left over"]],
  ["a receipt not mailed", { unsent: 1 }, ["left over"]],
  ["a file in the spool", { spooled: ["x.letter"] }, ["left over"]],
  ["a mail in the queue", { queued: 1 }, ["left over"]],
  ["a row that was released and no more", { rows: [ROW, { ...ROW, name: "m", state: "released" }] }, ["left over"]],
])("finds %s", (_what, facts, expected) => {
  expect(kinds(facts)).toEqual(expected);
});

test("a mail that was never accepted may arrive or not, but not twice", () => {
  const refused: Account = { mail: MAIL, answers: ["4xx", "lost"] };
  expect(kinds({ opened: [], register: [], rows: [] }, refused)).toEqual([]);
  expect(kinds({ register: [], rows: [] }, refused)).toEqual([]);
  expect(kinds({ opened: [COPY, { ...COPY }] }, refused)).toEqual(["duplicated"]);
});

test("a failure notice is as good as the letter", () => {
  const notices = [`Recipient: ${BOB}\nMessage-ID: ${MAIL.messageId}\nAction: failed`];
  expect(kinds({ opened: [], register: [], rows: [], notices })).toEqual([]);
});

test("finds a text on a disk: plain, and in base64 wherever it begins", async () => {
  const folder = await temporaryFolder("disk");
  const path = (name: string): string => join(folder, "below", name);
  mkdirSync(join(folder, "below"));
  writeFileSync(path("plain"), "before K0123456789abn17 after");
  for (const before of ["", "x", "xy"])
    writeFileSync(path(`base64-${before}`), Buffer.from(`${before}K0123456789abn17`).toString("base64"));
  writeFileSync(path("other"), "K0123456789aan17");
  expect(filesWith([folder], "K0123456789abn").sort()).toEqual(["base64-", "base64-x", "base64-xy", "plain"].map(path));
});
