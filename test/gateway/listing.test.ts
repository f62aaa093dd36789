/** What is listed of a folder on a real Dovecot: message IDs as headers have them, and mails made to be too much for whoever lists them. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { ImapFlow } from "imapflow";
import { duration } from "../../config/units.ts";
import { Journal } from "../../gateway/journal.ts";
import { ImapMailbox, type MailboxAccess } from "../../gateway/mailbox.ts";
import { watch } from "../../gateway/watcher.ts";
import { Happenings, heardLog, type HeardLog } from "../broker/happenings.ts";
import { startDovecot, type DovecotServer } from "../servers/dovecot.ts";
import { temporaryFolder } from "../servers/process.ts";
import { startProxy, type Proxy } from "../servers/proxy.ts";

const BOB = "bob@b.example";
const SEALED = readFileSync(join(import.meta.dirname, "..", "vectors", "stranger.eml"));
const CROWD = "From: x@y.example\r\nSubject: crowd\r\n\r\nhello all\r\n";
/** Its ENVELOPE as a server has it that names every address (RFC 3501 §7.4.2), in more than a million tokens; Dovecot names at most 100,000. */
const crowded = (text: string): string => text.replaceAll('"crowd" ', `"crowd" (${'(NIL NIL "a" "b.example")'.repeat(220_000)}) `);

let dovecot: DovecotServer;
let proxy: Proxy;
let client: ImapFlow;
let access: MailboxAccess;
let heard: HeardLog;
let stopping: AbortController;
let count = 0;

beforeAll(async () => {
  dovecot = await startDovecot({ users: { [BOB]: "secret" } });
  proxy = await startProxy(dovecot.imapPort, crowded);
});
afterAll(async () => {
  await proxy?.close();
  await dovecot?.stop();
});
beforeEach(async () => {
  const host = "127.0.0.1";
  client = new ImapFlow({
    host,
    port: dovecot.imapPort,
    secure: false,
    doSTARTTLS: false,
    auth: { user: BOB, pass: "secret" },
    logger: false,
  });
  client.on("error", () => undefined);
  await client.connect();
  const folder = `listed${count++}`;
  await client.mailboxCreate(folder);
  const names = { user: BOB, passwordFile: "none", watch: folder, opened: folder, sealed: "remove" };
  access = { config: { host, port: proxy.port, tls: "none", ...names, poll: duration("1s") }, login: { pass: "secret" }, ca: undefined };
  heard = heardLog();
  stopping = new AbortController();
});
afterEach(() => {
  stopping.abort();
  client.close();
});

const append = (mail: Buffer | string) => client.append(access.config.watch, typeof mail === "string" ? Buffer.from(mail) : mail);

/** @returns the UIDs of sealed letters, as the watcher comes to them */
async function watched(): Promise<Happenings<number>> {
  const journal = new Journal(await temporaryFolder("journal"));
  await journal.prepare();
  const sights = new Happenings<number>();
  const others = { onReport: async () => undefined, onSigned: async () => undefined };
  const onSealed = async (_mailbox: unknown, { uid }: { uid: number }): Promise<void> => sights.add(uid);
  void watch({ access, address: BOB, journal, log: heard.log, largest: 10 << 20, onSealed, ...others }, stopping.signal);
  return sights;
}

test("message IDs are what the headers say, folded ones and the first of several too", async () => {
  const mails = [
    "Message-ID: <1@a.example>",
    "Message-ID:\r\n <2@a.example>",
    "MESSAGE-id: <3@a.example>\r\nMessage-ID: <4@a.example>",
    "Message-ID: <\u00fc@a.example>",
    "Subject: none",
  ];
  for (const header of mails) await append(`${header}\r\n\r\ntext\r\n`);
  const mailbox = await ImapMailbox.open(access, () => undefined);
  const seen = await mailbox.seenAbove(0);
  await mailbox.close();
  expect(seen.map(({ messageId }) => messageId)).toEqual([
    "<1@a.example>",
    "<2@a.example>",
    "<3@a.example>",
    "<\u00fc@a.example>",
    undefined,
  ]);
});

test("an ordinary mail to 220,000 addresses does not keep a letter behind it from being seen", async () => {
  await append(CROWD);
  await append(SEALED);
  const sights = await watched();
  expect(await sights.until(() => true)).toEqual([2]);
  expect(heard.lines.all.map(({ event }) => event)).not.toContain("mailbox.waits");
});

test("mails that enclose such a one, whose structure nobody can read, are settled with a line in the log, and all letters are seen", async () => {
  const enclosing = `Subject: fwd\r\nContent-Type: message/rfc822\r\n\r\n${CROWD}`;
  const mails = [SEALED, "Subject: hi\r\n\r\nhi\r\n", enclosing, SEALED, enclosing, SEALED];
  for (const mail of mails) await append(mail);
  const sights = await watched();
  await sights.until(() => true, 3);
  await heard.lines.until(({ event }) => event === "message.not-read", 2);
  expect(sights.all).toEqual([1, 4, 6]);
  expect(heard.lines.all.filter(({ event }) => event === "message.not-read").map((line) => line["uid"])).toEqual([3, 5]);
  await append(SEALED);
  expect(await sights.until((uid) => uid === 7)).toEqual([7]);
}, 60_000);
