/** The real servers themselves: each starts, works, and leaves no process behind. */

import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, readdirSync, readlinkSync, watch, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { transformFile } from "@swc/core";
import { ImapFlow, type ImapFlowOptions } from "imapflow";
import { createTransport } from "nodemailer";
import { startDovecot, type DovecotServer } from "./dovecot.ts";
import { freePort } from "./ports.ts";
import { canRunPostfix, startPostfix, type PostfixServer } from "./postfix.ts";
import { start, temporaryFolder } from "./process.ts";
import { startRedis, type RedisServer } from "./redis.ts";

const ALICE = "alice@example.test";
const PASSWORD = "alicepw";

/** The processes that stand in this folder or below, or have a file there open. */
function processesIn(folder: string): string[] {
  const isIn = (pid: string): boolean => {
    try {
      const links = readdirSync(`/proc/${pid}/fd`).map((fd) => join("fd", fd));
      return ["cwd", ...links].some((link) => readlinkSync(`/proc/${pid}/${link}`).startsWith(folder));
    } catch {
      return false; // Ended meanwhile, or somebody else's.
    }
  };
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name) && name !== String(process.pid) && isIn(name));
}

async function inboxOf(dovecot: DovecotServer, how: Partial<ImapFlowOptions> = {}): Promise<ImapFlow> {
  const client = new ImapFlow({
    host: "127.0.0.1",
    port: dovecot.imapPort,
    auth: { user: ALICE, pass: PASSWORD },
    tls: { ca: readFileSync(dovecot.ca) },
    logger: false,
    ...how,
  });
  await client.connect();
  await client.mailboxOpen("INBOX");
  return client;
}

async function subjectsSeen(client: ImapFlow): Promise<(string | undefined)[]> {
  const messages = await client.fetchAll("1:*", { envelope: true });
  return messages.map((message) => message.envelope?.subject);
}

/** Resolves when the log holds the pattern. */
async function logged(postfix: PostfixServer, pattern: RegExp): Promise<void> {
  const watcher = watch(postfix.folder);
  while (!pattern.test(postfix.log())) await once(watcher, "change");
  watcher.close();
}

async function ehlo(port: number): Promise<string> {
  const socket = connect(port, "127.0.0.1").setEncoding("utf8");
  socket.write("EHLO client.example.test\r\nQUIT\r\n");
  return (await socket.toArray()).join("");
}

const letter = (subject: string) => ({ from: "bob@example.test", to: ALICE, subject, text: "Good morning" });

describe("a program", () => {
  test("is ready when it says so", async () => {
    const running = await start({
      command: "sh",
      args: ["-c", "echo getting up; echo ready; exec sleep 600"],
      ready: { line: /^ready$/m },
    });
    expect(running.output()).toBe("getting up\nready\n");
    await running.stop();
    expect(() => process.kill(running.pid, 0)).toThrow("ESRCH");
  });

  test("that does not start is reported with its own words", async () => {
    const ready = { ports: [await freePort()] };
    await expect(start({ command: "sh", args: ["-c", "echo no such setting >&2; exit 3"], ready })).rejects.toThrow(/no such setting/);
    await expect(start({ command: "/no/such/server", args: [], ready })).rejects.toThrow("/no/such/server ENOENT");
  });

  test("that hides from SIGTERM is killed, with the children it leaves", async () => {
    const folder = await temporaryFolder("stubborn");
    const script = "sleep 600 & trap '' TERM; sleep 600 & echo ready; exec sleep 600";
    const running = await start({ command: "sh", args: ["-c", script], folder, ready: { line: /ready/ } });
    expect(processesIn(folder)).toHaveLength(3);
    running.kill("SIGKILL");
    await running.stop();
    expect(processesIn(folder)).toEqual([]);
  });

  test("and its folder are gone when the test process is killed", async () => {
    const folder = await temporaryFolder("guarded");
    mkdirSync(join(folder, "data"));
    const { code } = await transformFile(join(import.meta.dirname, "guard.ts"), {
      jsc: { parser: { syntax: "typescript" }, target: "es2022" },
    });
    writeFileSync(join(folder, "guard.mjs"), code);
    writeFileSync(join(folder, "dies.mjs"), DIES);
    const child = spawn(process.execPath, [join(folder, "dies.mjs"), join(folder, "data")], { stdio: ["ignore", "pipe", "inherit"] });
    await once(child.stdout, "data");
    const watcher = watch(folder);
    child.kill("SIGKILL");
    await once(child, "close"); // Its server holds the same output: closed means that both have ended.
    while (existsSync(join(folder, "data"))) await once(watcher, "change");
    watcher.close();
  });
});

/** A test process with one server left and one stopped, and a folder. */
const DIES = `
import { spawn } from "node:child_process";
import { killAtExit, removeAtExit, spareAtExit } from "./guard.mjs";
for (const seconds of ["600", "601"]) {
  const { pid } = spawn("sleep", [seconds], { detached: true, stdio: "inherit" });
  killAtExit(pid);
  if (seconds === "600") continue;
  process.kill(pid);
  spareAtExit(pid);
}
removeAtExit(process.argv[2]);
console.log("ready");
setInterval(() => {}, 1000);
`;

describe("redis", () => {
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis.stop());

  test("keeps what it is given, and asks for the password", () => {
    expect(redis.cli("SET", "greeting", "good morning")).toBe("OK");
    expect(redis.cli("GET", "greeting")).toBe("good morning");
    expect(redis.url).toBe(`redis://default:${redis.password}@127.0.0.1:${redis.port}`);
    expect(redis.cli("--user", "default", "--pass", "wrong", "--no-auth-warning", "PING")).toMatch(/WRONGPASS|NOAUTH/);
  });

  test("has, after SIGKILL and a new start, every write it acknowledged", async () => {
    redis.cli("SET", "acknowledged", "yes");
    await redis.kill();
    expect(processesIn(redis.folder)).toEqual([]);
    await redis.restart();
    expect(redis.cli("GET", "acknowledged")).toBe("yes");
  });

  test("takes the settings of a test", async () => {
    const other = await startRedis({ appendonly: false, appendfsync: "everysec", policy: "allkeys-lru" });
    expect(other.port).not.toBe(redis.port);
    expect(other.cli("CONFIG", "GET", "append*sync").split("\n")).toEqual(["appendfsync", "everysec"]);
    expect(other.cli("CONFIG", "GET", "appendonly")).toMatch(/no$/);
    expect(other.cli("CONFIG", "GET", "maxmemory-policy")).toMatch(/allkeys-lru$/);
    await other.stop();
  });

  test("stops without leaving a process", async () => {
    expect(processesIn(redis.folder)).toHaveLength(1);
    await redis.stop();
    expect(processesIn(redis.folder)).toEqual([]);
  });
});

describe("dovecot", () => {
  let dovecot: DovecotServer;
  beforeAll(async () => {
    dovecot = await startDovecot({ users: { [ALICE]: PASSWORD } });
  });
  afterAll(() => dovecot.stop());

  test("shows by IMAP what came by LMTP", async () => {
    const lmtp = createTransport({ host: "127.0.0.1", port: dovecot.lmtpPort, lmtp: true, ignoreTLS: true });
    await lmtp.sendMail(letter("by LMTP"));
    const inbox = await inboxOf(dovecot);
    expect(await subjectsSeen(inbox)).toEqual(["by LMTP"]);
    await inbox.logout();
    expect(existsSync(join(dovecot.maildir(ALICE), "cur"))).toBe(true);
    expect(dovecot.doveadm("mailbox", "status", "-u", ALICE, "messages", "INBOX").trim()).toBe("INBOX messages=1");
  });

  test.each([
    ["STARTTLS", (): Partial<ImapFlowOptions> => ({ doSTARTTLS: true }), true],
    ["TLS from the start", (): Partial<ImapFlowOptions> => ({ port: dovecot.imapsPort, secure: true }), true],
    ["no TLS", (): Partial<ImapFlowOptions> => ({ doSTARTTLS: false }), false],
  ])("is reached by IMAP with %s", async (_how, options, secure) => {
    const inbox = await inboxOf(dovecot, options());
    expect(inbox.secureConnection).toBe(secure);
    await inbox.logout();
  });

  test("refuses a wrong password and an unknown recipient's mailbox by IMAP", async () => {
    await expect(inboxOf(dovecot, { auth: { user: ALICE, pass: "wrong" } })).rejects.toMatchObject({ authenticationFailed: true });
    await expect(inboxOf(dovecot, { auth: { user: "carol@example.test", pass: PASSWORD } })).rejects.toMatchObject({
      authenticationFailed: true,
    });
  });

  test("keeps the mail over a restart, and stops without leaving a process", async () => {
    await dovecot.restart();
    const inbox = await inboxOf(dovecot);
    expect(await subjectsSeen(inbox)).toEqual(["by LMTP"]);
    expect(processesIn(dovecot.folder)).not.toEqual([]);
    const closed = once(inbox, "close");
    await dovecot.stop(); // With a client connected.
    expect(processesIn(dovecot.folder)).toEqual([]);
    await closed;
  });
});

if (!canRunPostfix) console.log("skipped: Postfix runs as root only");
(canRunPostfix ? describe : describe.skip)("postfix", () => {
  let dovecot: DovecotServer;
  let postfix: PostfixServer;
  beforeAll(async () => {
    dovecot = await startDovecot({ users: { [ALICE]: PASSWORD } });
    const transport = `lmtp:inet:127.0.0.1:${dovecot.lmtpPort}`;
    postfix = await startPostfix({ domains: ["example.test"], transport, settings: { myhostname: "post.example.test" } });
  });
  afterAll(async () => {
    await postfix.stop();
    await dovecot.stop();
  });

  test("takes a letter by SMTP and delivers it to Dovecot by LMTP", async () => {
    const inbox = await inboxOf(dovecot);
    const arrived = once(inbox, "exists");
    void inbox.idle(); // Ends with the connection.
    const smtp = createTransport({ host: "127.0.0.1", port: postfix.port, ignoreTLS: true });
    await smtp.sendMail(letter("by Postfix"));
    await arrived;
    expect(await subjectsSeen(inbox)).toEqual(["by Postfix"]);
    await inbox.logout();
    await logged(postfix, /relay=127\.0\.0\.1\[127\.0\.0\.1\]:\d+.* status=sent [^]*: removed/);
    expect(postfix.queue()).toMatch(/Mail queue is empty/);
  });

  test("offers SMTPUTF8, sets no limit of size, and takes the settings of a test", async () => {
    const offer = await ehlo(postfix.port);
    expect(offer).toMatch(/^250-post\.example\.test\r$/m);
    expect(offer).toMatch(/^250[- ]SMTPUTF8\r$/m);
    expect(offer).toMatch(/^250[- ]SIZE( 0)?\r$/m);
  });

  test("keeps what its transport does not take", async () => {
    await dovecot.stop();
    const smtp = createTransport({ host: "127.0.0.1", port: postfix.port, ignoreTLS: true });
    await smtp.sendMail(letter("nobody at home"));
    await logged(postfix, /status=deferred .*Connection refused/);
    expect(postfix.queue()).toMatch(/alice@example\.test/);
  });

  test("stops without leaving a process", async () => {
    expect(processesIn(postfix.folder)).not.toEqual([]);
    await postfix.stop();
    expect(processesIn(postfix.folder)).toEqual([]);
  });
});
