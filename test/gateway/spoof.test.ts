/** Whoever is logged in writes as nobody else: a matrix of ways to seem to, each with its reason (RFC 6409 §8.1, RFC 5322 §3.4, §3.6). */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { accept } from "../../gateway/accept.ts";
import type { Submission } from "../../gateway/submission.ts";
import { ALICE, openTestDoor, type TestDoor } from "./door.ts";
import type { Talk } from "./talk.ts";

let door: TestDoor;
let talk: Talk;

beforeAll(async () => {
  door = await openTestDoor({ limits: { errors: 10_000, commands: 10_000 } });
  door.consign = async (submission: Submission) => {
    const { author } = accept(submission, "gateway.a.example", new Date());
    door.taken.push({ ...submission, sender: author });
    return `id-${door.taken.length}`;
  };
  talk = await door.enter();
});
afterAll(() => door?.stop());
beforeEach(async () => {
  door.taken.length = 0;
  await talk.say("RSET");
});

const CEO = "ceo@a.example";
const MALFORMED = /^554 5\.6\.0 /u;
const FORBIDDEN = /^550 5\.7\.1 /u;

describe("AUTH alice, and as MAIL FROM", () => {
  test.each([
    ["a foreign address", CEO, FORBIDDEN],
    ["nobody, as only notices have it", "", FORBIDDEN],
    ["her name in a foreign domain", "alice@b.example", FORBIDDEN],
    ["her name in a domain below", "alice@x.a.example", FORBIDDEN],
    ["her address with a tag, which may be another's", "alice+ceo@a.example", FORBIDDEN],
    ["her address in quotes, which need not be the same mailbox", '"alice"@a.example', FORBIDDEN],
    ["a foreign address in quotes that ends like hers", '"ceo@a.example"@a.example', /^501 /u],
    ["a domain that looks like hers (Cyrillic a)", "alice@\u0430.example", FORBIDDEN],
    ["a name that looks like hers (Cyrillic a)", "\u0430lice@a.example", FORBIDDEN],
    ["the punycode of a domain that looks like hers", "alice@xn--80a.example", FORBIDDEN],
    ["an address literal", "alice@[127.0.0.1]", FORBIDDEN],
    ["a percent route", "ceo%a.example@a.example", FORBIDDEN],
  ])("%s: refused", async (_why, address, reply) => {
    expect(await talk.say(`MAIL FROM:<${address}> SMTPUTF8`)).toMatch(reply);
    expect(await talk.say("RCPT TO:<bob@b.example>")).toMatch(/^503 /u);
  });

  test("a source route before her own address is dropped (RFC 5321 §4.1.2), and the address counts", async () => {
    expect(await talk.say(`MAIL FROM:<@evil.example:${ALICE}>`)).toMatch(/^250 /u);
    await talk.say("RSET");
    expect(await talk.say(`MAIL FROM:<@a.example:${CEO}>`)).toMatch(FORBIDDEN);
  });
});

const b64 = (text: string, charset: BufferEncoding = "utf8"): string => Buffer.from(text, charset).toString("base64");

/** The header before To and Subject. */
const HEADERS: readonly (readonly [why: string, header: string | Buffer, reply: RegExp])[] = [
  ["a foreign From", `From: ${CEO}`, FORBIDDEN],
  ["no From", "X-From: alice@a.example", MALFORMED],
  ["an empty From", "From:", MALFORMED],
  ["a From of white space and a comment", "From: (alice@a.example) ", MALFORMED],
  ["a From that names nobody", "From: <>", MALFORMED],
  ["two From fields, of which readers show either", `From: ${ALICE}\r\nFrom: ${CEO}`, MALFORMED],
  ["two From fields in the other order", `From: ${CEO}\r\nFrom: ${ALICE}`, MALFORMED],
  ["two From fields that are the same", `From: ${ALICE}\r\nfrom: ${ALICE}`, MALFORMED],
  ["two From fields, one with a space before the colon (RFC 5322 §4.5.2)", `From: ${ALICE}\r\nFrom : ${CEO}`, MALFORMED],
  ["a foreign From with a space before the colon", `From : ${CEO}`, FORBIDDEN],
  ["a foreign From behind a thousand spaces before the colon", `From: ${ALICE}\r\nFrom${" ".repeat(1_000)}: ${CEO}`, MALFORMED],
  ["two mailboxes in one From", `From: ${ALICE}, ${CEO}`, MALFORMED],
  ["two mailboxes and a comma that begins the list", `From: ,${CEO}, ${ALICE}`, MALFORMED],
  ["two mailboxes without a comma", `From: ${ALICE} ${CEO}`, MALFORMED],
  ["two mailboxes in angle brackets without a comma", `From: <${ALICE}> <${CEO}>`, MALFORMED],
  ["a group that hides a second mailbox", `From: Board: ${ALICE}, ${CEO};`, MALFORMED],
  ["a group of nobody", "From: Board:;", MALFORMED],
  ["a group whose name is a foreign address", `From: "${CEO}": ${ALICE};`, FORBIDDEN],
  ["a foreign group", `From: Alice: ${CEO};`, FORBIDDEN],
  ["a display name that is a foreign address", `From: "${CEO}" <${ALICE}>`, FORBIDDEN],
  ["a display name with a foreign address in brackets", `From: "The CEO <${CEO}>" <${ALICE}>`, FORBIDDEN],
  ["a foreign address hidden in an encoded word (Q)", `From: =?utf-8?q?ceo=40a=2Eexample?= <${ALICE}>`, FORBIDDEN],
  ["a foreign address hidden in an encoded word (B)", `From: =?utf-8?B?${b64(`CEO <${CEO}>`)}?= <${ALICE}>`, FORBIDDEN],
  ["a foreign address hidden in two encoded words", `From: =?utf-8?q?ceo?=\r\n =?utf-8?q?=40a.example?= <${ALICE}>`, FORBIDDEN],
  ["a foreign address hidden in UTF-16", `From: =?utf-16le?B?${b64(CEO, "utf16le")}?= <${ALICE}>`, FORBIDDEN],
  ["a foreign address hidden in UTF-7", `From: =?utf-7?q?ceo+AEA-a.example?= <${ALICE}>`, FORBIDDEN],
  ["an at sign of full width cut in two encoded words", `From: =?utf-8?q?ceo=EF=BC?= =?utf-8?q?=A0a.example?= <${ALICE}>`, FORBIDDEN],
  ["an at sign cut in two encoded words of UTF-16", `From: =?utf-16be?q?=00c=00?= =?utf-16be?q?=40=00a=00.=00b?= <${ALICE}>`, FORBIDDEN],
  ["a foreign address with an at sign of full width", `From: "ceo\uff20a.example" <${ALICE}>`, FORBIDDEN],
  ["a foreign address with an invisible character in it", `From: "ceo\u200b@a.example" <${ALICE}>`, FORBIDDEN],
  ["a foreign address with a quoted pair in it", `From: "ceo\\@a.example" <${ALICE}>`, FORBIDDEN],
  ["an address that is an encoded word", "From: =?utf-8?q?ceo=40a.example?=", MALFORMED],
  ["a local part that is an encoded word", "From: <=?utf-8?q?ceo?=@a.example>", FORBIDDEN],
  ["a comment with a foreign address behind hers", `From: ${ALICE} (${CEO})`, FORBIDDEN],
  ["a comment with a foreign address inside hers", `From: alice(${CEO})@a.example`, FORBIDDEN],
  ["a comment that is not closed", `From: ${ALICE} (${CEO}`, MALFORMED],
  ["a foreign address behind a folded line", `From:\r\n ${CEO}`, FORBIDDEN],
  ["a foreign address folded into the name", `From: "x\r\n ${CEO}" <${ALICE}>`, FORBIDDEN],
  ["a source route (RFC 5322 §4.4)", `From: <@evil.example:${ALICE}>`, MALFORMED],
  ["her address in quotes", 'From: "alice"@a.example', FORBIDDEN],
  ["a foreign address in quotes before her domain", `From: "${CEO}"@a.example`, FORBIDDEN],
  ["a domain that looks like hers (Cyrillic a)", "From: alice@\u0430.example", FORBIDDEN],
  ["the punycode of a domain that looks like hers", "From: alice@xn--80a.example", FORBIDDEN],
  ["a dot behind her domain, which is not hers by the letter", `From: ${ALICE}.`, MALFORMED],
  ["a foreign Sender", `From: ${ALICE}\r\nSender: ${CEO}`, FORBIDDEN],
  ["a foreign Sender behind her own", `From: ${ALICE}\r\nSender: ${ALICE}\r\nSender: ${CEO}`, FORBIDDEN],
  ["a Sender with a foreign name", `From: ${ALICE}\r\nSender: "${CEO}" <${ALICE}>`, FORBIDDEN],
  ["a Sender that cannot be read", `From: ${ALICE}\r\nSender: <<${CEO}`, MALFORMED],
  ["a foreign Resent-From", `From: ${ALICE}\r\nResent-From: ${CEO}`, FORBIDDEN],
  ["a second Resent-From that is foreign", `From: ${ALICE}\r\nResent-From: ${ALICE}\r\nResent-From: ${CEO}`, FORBIDDEN],
  ["a foreign Resent-Sender", `From: ${ALICE}\r\nResent-Sender: ${CEO}`, FORBIDDEN],
  ["a foreign From as a continuation of nothing", ` From: ${CEO}\r\nFrom: ${ALICE}`, MALFORMED],
  [
    "a foreign From behind lines of spaces before the colon",
    `From: ${ALICE}\r\nFrom${`${" ".repeat(9_000)}\r\n`.repeat(3)} : ${CEO}`,
    MALFORMED,
  ],
  ["an invisible character in the name", `From: ${ALICE}\r\nFrom\u200b: ${CEO}`, MALFORMED],
  ["a Sender with a space before it", ` Sender: ${CEO}\r\nFrom: ${ALICE}`, MALFORMED],
  ["a name folded in two", `From: ${ALICE}\r\nFr\r\n om: ${CEO}`, MALFORMED],
  ["a name with a space that no field has", `From: ${ALICE}\r\nFrom ceo: ${CEO}`, MALFORMED],
  ["a header that ends before its From", `X: y\r\n\r\nFrom: ${ALICE}`, MALFORMED],
];

describe("AUTH alice, MAIL FROM alice, and in the message", () => {
  test.each(HEADERS)("%s: refused", async (_why, header, reply) => {
    await talk.say(`MAIL FROM:<${ALICE}> SMTPUTF8`);
    await talk.say("RCPT TO:<bob@b.example>");
    expect(await talk.data(Buffer.concat([Buffer.from(header), Buffer.from("\r\nTo: bob@b.example\r\n\r\nHello.")]))).toMatch(reply);
    expect(door.taken).toEqual([]);
  });

  test.each([
    ["NUL in From", `From: ceo@a.example\0, ${ALICE}`],
    ["CR in From", `From: ${ALICE}\rFrom: ${CEO}`],
    ["LF in From", `From: ${ALICE}\nFrom: ${CEO}`],
  ])("%s: refused, and the connection ends", async (_why, header) => {
    const other = await door.enter();
    await other.say(`MAIL FROM:<${ALICE}>`);
    await other.say("RCPT TO:<bob@b.example>");
    expect(await other.data(`${header}\r\nTo: bob@b.example\r\n\r\nHello.`)).toMatch(/^554 5\.5\.2 /u);
    await other.ended();
    expect(door.taken).toEqual([]);
  });

  test.each([
    ["her address", `From: ${ALICE}`],
    ["her address in another case", "From: ALICE@A.Example"],
    ["her other address", "From: A. Liddell <a.liddell@a.example>"],
    ["her name in an encoded word", `From: =?utf-8?q?Alic=C3=A9?= <${ALICE}>`],
    ["her own address as her name", `From: "${ALICE}" <${ALICE}>`],
    ["a name with an at sign that is no address", `From: "Alice @ A. Example" <${ALICE}>`],
    ["a folded field", `From:\r\n Alice\r\n <${ALICE}>`],
    ["a group of herself (RFC 6854)", `From: Alice: ${ALICE};`],
    ["her own Sender and Resent-From", `From: ${ALICE}\r\nSender: ${ALICE}\r\nResent-From: a.liddell@a.example`],
    ["a foreign Reply-To and To, which claim nothing", `From: ${ALICE}\r\nReply-To: ${CEO}`],
    ["a line that is no field, as old mail has it", `Hello there\r\nFrom: ${ALICE}`],
    ["a separator of an mbox on top, which no reader shows", `From ${CEO} Thu Jan  1 00:00:00 1970\r\nFrom: ${ALICE}`],
    ["a name in Cyrillic, which no reader takes for From", `From: ${ALICE}\r\nFr\u043em: ${CEO}`],
    ["a first line of the body that looks like a From", `From: ${ALICE}\r\n\r\nFrom: ${CEO}`],
  ])("%s: taken, as hers", async (_why, header) => {
    await talk.say(`MAIL FROM:<${ALICE}>`);
    await talk.say("RCPT TO:<bob@b.example>");
    expect(await talk.data(`${header}\r\nX: y\r\n\r\nHello.`)).toMatch(/^250 /u);
    expect(door.taken[0]?.sender.key).toMatch(/^(?:alice|a\.liddell)@a\.example$/u);
  });
});
