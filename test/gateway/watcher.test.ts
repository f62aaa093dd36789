/** The watcher on a real Dovecot: IDLE and without it, broken lines, a new UIDVALIDITY; every message is looked at, none twice without reason. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Writable } from "node:stream";
import { afterAll, beforeAll, beforeEach, afterEach, expect, test } from "@jest/globals";
import { ImapFlow } from "imapflow";
import { stringify } from "yaml";
import { loadGateway } from "../../config/load.ts";
import { createLog } from "../../config/log.ts";
import type { ImapConfig } from "../../config/schema.ts";
import { Journal } from "../../gateway/journal.ts";
import type { Mailbox, Seen } from "../../gateway/mailbox.ts";
import { watch } from "../../gateway/watcher.ts";
import { startDovecot, type DovecotServer } from "../servers/dovecot.ts";
import { temporaryFolder } from "../servers/process.ts";
import { startProxy, type Proxy } from "../servers/proxy.ts";

const BOB = "bob@b.example";
const SEALED = readFileSync(join(import.meta.dirname, "..", "vectors", "stranger.eml"));
const PLAIN = Buffer.from("From: x@y.example\r\nSubject: ordinary\r\n\r\nnot ours\r\n");

let dovecot: DovecotServer;
let client: ImapFlow;
let folderCount = 0;
let watched = "";
let stopping: AbortController;

beforeAll(async () => {
  dovecot = await startDovecot({ users: { [BOB]: "secret" } });
});
afterAll(() => dovecot?.stop());

beforeEach(async () => {
  stopping = new AbortController();
  watched = `watched${folderCount++}`;
  client = await connect();
  await client.mailboxCreate(watched);
});
afterEach(() => {
  stopping.abort();
  client.close();
});

async function connect(): Promise<ImapFlow> {
  const opened = new ImapFlow({
    host: "127.0.0.1",
    port: dovecot.imapPort,
    secure: false,
    doSTARTTLS: false,
    auth: { user: BOB, pass: "secret" },
    logger: false,
  });
  opened.on("error", () => undefined);
  await opened.connect();
  return opened;
}

async function imapConfig(port: number, extra: object = {}): Promise<ImapConfig> {
  const folder = await temporaryFolder("watcher");
  const file = join(folder, "gateway.yaml");
  const imap = { host: "127.0.0.1", port, tls: "none", user: BOB, passwordFile: "none", watch: watched, poll: "50ms", ...extra };
  writeFileSync(
    file,
    stringify({ name: "gw.b.example", data: "d", broker: { url: "https://127.0.0.1:1" }, mailboxes: [{ address: BOB, imap }] }),
  );
  const config = loadGateway(file).mailboxes[0]?.imap;
  if (!config) throw new Error("no imap in the configuration");
  return config;
}

/** Starts a watcher. @returns what it saw, and a wait for the next sight */
async function start(port: number, onSealed?: (mailbox: Mailbox, seen: Seen) => Promise<void>, extra: object = {}) {
  const journal = new Journal(await temporaryFolder("journal"));
  await journal.prepare();
  const sights: number[] = [];
  const events: string[] = [];
  const waiting = new Set<() => void>();
  const wake = (): void => {
    for (const look of waiting) look();
  };
  const lines = new Writable({
    write(chunk: Buffer, _encoding, done) {
      events.push((JSON.parse(chunk.toString()) as { event: string }).event);
      wake();
      done();
    },
  });
  const parts = {
    access: { config: await imapConfig(port, extra), login: { pass: "secret" }, ca: undefined },
    address: BOB,
    journal,
    log: createLog(lines),
    largest: 1 << 20,
    onSealed: async (mailbox: Mailbox, seen: Seen) => {
      await onSealed?.(mailbox, seen);
      sights.push(seen.uid);
      wake();
    },
    onReport: async () => undefined,
    onSigned: async () => undefined,
  };
  void watch(parts, stopping.signal);
  const until = (holds: () => boolean): Promise<void> =>
    new Promise((resolve) => {
      const look = (): void => {
        if (!holds()) return;
        waiting.delete(look);
        resolve();
      };
      waiting.add(look);
      look();
    });
  return { sights, events, until, journal };
}

const append = (mail: Buffer) => client.append(watched, mail);

test("by IDLE a sealed letter is seen at once, and mail that is not ours is not even fetched", async () => {
  const { sights, until, events } = await start(dovecot.imapPort);
  await until(() => events.includes("mailbox.watched"));
  await append(PLAIN);
  await append(SEALED);
  await until(() => sights.length === 1);
  expect(sights).toEqual([2]);
  await client.mailboxOpen(watched);
  expect(await client.search({ seen: true })).toEqual([]);
});

test("from a server without IDLE, UIDPLUS and MOVE letters are seen by asking, and a retired one is only marked as deleted", async () => {
  const poor = (text: string): string => text.replaceAll(/ (?:IDLE|UIDPLUS|MOVE)(?=[ \]\r])/gu, "");
  const proxy: Proxy = await startProxy(dovecot.imapPort, poor);
  await append(PLAIN);
  await client.mailboxOpen(watched);
  await client.messageFlagsAdd("1", ["\\Deleted"]);
  const { sights, until } = await start(proxy.port, (mailbox, { uid }) => mailbox.retire(uid));
  await append(SEALED);
  await until(() => sights.length === 1);
  await append(SEALED);
  await until(() => sights.length === 2);
  await client.noop();
  expect(await client.search({ deleted: true }, { uid: true })).toEqual([1, 2, 3]); // nobody's deleted mail was expunged with ours
  await proxy.close();
});

test("after a broken line the watcher comes back and misses nothing", async () => {
  const proxy = await startProxy(dovecot.imapPort);
  const { sights, until, events } = await start(proxy.port);
  await until(() => events.includes("mailbox.watched"));
  await append(SEALED);
  await until(() => sights.length === 1);
  proxy.cut();
  await append(SEALED);
  await until(() => sights.length === 2);
  expect(sights).toEqual([1, 2]);
  await proxy.close();
});

test("after a restart of the mail server the watcher comes back", async () => {
  const { sights, until, events } = await start(dovecot.imapPort);
  await until(() => events.includes("mailbox.watched"));
  await dovecot.restart();
  client = await connect();
  await append(SEALED);
  await until(() => sights.length === 1);
});

test("a new UIDVALIDITY makes every message be looked at anew", async () => {
  const proxy = await startProxy(dovecot.imapPort);
  const { sights, until } = await start(proxy.port);
  await append(SEALED);
  await append(SEALED);
  await until(() => sights.length === 2);
  await client.mailboxDelete(watched);
  const made = async (): Promise<boolean> => (await client.mailboxCreate(watched).catch(() => undefined))?.created ?? false;
  while (!(await made())) await client.noop(); // Dovecot may not have let go of the old one yet, and says that it is there
  await append(SEALED);
  proxy.cut();
  await until(() => sights.length === 3);
  expect(sights).toEqual([1, 2, 1]);
  await proxy.close();
});

test("a letter that has to wait is tried again, and the ones behind it are not lost", async () => {
  let refusals = 2;
  const { sights, until } = await start(dovecot.imapPort, async () => {
    if (refusals-- > 0) throw new Error("the broker is away");
  });
  await append(SEALED);
  await append(SEALED);
  await until(() => sights.length === 2);
  expect(new Set(sights)).toEqual(new Set([1, 2])); // the second one does not wait for the first
});

test("a retired letter moves to the folder of sealed originals, which is made where it is missing", async () => {
  const { sights, until } = await start(dovecot.imapPort, (mailbox, { uid }) => mailbox.retire(uid), { sealed: `${watched}/Sealed` });
  await append(SEALED);
  await until(() => sights.length === 1);
  await client.mailboxOpen(`${watched}/Sealed`);
  expect(await client.search({ all: true })).toHaveLength(1);
  await client.mailboxOpen(watched);
  expect(await client.search({ all: true })).toEqual([]);
});

test("a step in another folder does not cut short the pause after a letter that waits", async () => {
  const times: number[] = [];
  const { sights, until } = await start(
    dovecot.imapPort,
    async (mailbox) => {
      times.push(performance.now());
      await mailbox.hasOpened({ name: "Kakitome-Filing", value: "none" });
      if (times.length < 3) throw new Error("there is no room");
    },
    { opened: `${watched}/Opened` },
  );
  await append(SEALED);
  await until(() => sights.length === 1);
  const [first = 0, , third = 0] = times;
  expect(third - first).toBeGreaterThan(1_400); // half a second, then a whole one
});

test("what comes while a step is in another folder is seen although nobody announced it", async () => {
  const { sights, until } = await start(
    dovecot.imapPort,
    async (mailbox, { uid }) => {
      await mailbox.hasOpened({ name: "Kakitome-Filing", value: "none" });
      if (uid === 1) await append(SEALED);
      await mailbox.hasOpened({ name: "Kakitome-Filing", value: "none" });
    },
    { opened: `${watched}/Opened` },
  );
  await append(SEALED);
  await until(() => sights.length === 2);
  expect(sights).toEqual([1, 2]);
});
