/** The proof that a 250 comes after the disk: the system calls of a real gateway, as the kernel saw them (docs/durability.md). */
import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { openHouse, type House } from "../broker/house.ts";
import { startHop, type Hop } from "../gateway/hop.ts";
import { start, temporaryFolder, type Running } from "../servers/process.ts";
import { ALICE, BOB, letter, prepareSender, type Sender } from "./sender.ts";
import { callsIn, Line, type Call } from "./trace.ts";

const COMMAND = join(import.meta.dirname, "..", "..", "dist", "cli", "main.js");
const CALLS = "openat,read,readv,write,writev,fsync,fdatasync,rename,renameat,renameat2,close,sendmsg,recvmsg";
const CONNECTIONS = 10;
const LETTERS_EACH = 20;

const canTrace = spawnSync("strace", ["-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=read", "/bin/true"]).status === 0;
if (!canTrace) console.log("skipped: strace is missing, or may not trace here");
const suite = canTrace ? describe : describe.skip;

/** What the client knows of one accepted letter. */
interface Told {
  readonly id: string;
  /** The client's port. */
  readonly port: number;
  /** Octets it had heard before it sent the text. */
  readonly heard: number;
  /** Octets it had sent with the end of the text. */
  readonly said: number;
}

suite("before the client is told that its letter was accepted", () => {
  let house: House;
  let hop: Hop;
  let sender: Sender;
  let gateway: Running;
  let file: string;

  beforeAll(async () => {
    [house, hop] = await Promise.all([openHouse(), startHop()]);
    await (await house.gateway("b.example")).enrol(BOB);
    sender = await prepareSender(house, hop.port);
    file = join(await temporaryFolder("trace"), "trace");
    gateway = await start({
      command: "strace",
      args: [
        "-f",
        "--seccomp-bpf",
        "-ttt",
        "-yy",
        "-s",
        "0",
        "-o",
        file,
        "-e",
        `trace=${CALLS}`,
        process.execPath,
        COMMAND,
        "gateway",
        "run",
        "--config",
        sender.config,
      ],
      ready: { line: /mailbox\.enrolled/u },
      environment: { UV_USE_IO_URING: "0" }, // its calls would not be seen
    });
  });
  afterAll(async () => {
    await gateway?.stop();
    await hop?.close();
    await house?.stop();
  });

  /** Submits letters one after the other on one connection. */
  async function client(number: number): Promise<Told[]> {
    const talk = await sender.enter();
    const told: Told[] = [];
    for (let at = 0; at < LETTERS_EACH; at++) {
      await talk.say(`MAIL FROM:<${ALICE}>`);
      await talk.say(`RCPT TO:<${BOB}>`);
      await talk.say("DATA");
      const { heard } = talk.wire;
      talk.write(`${letter(`order-${number}-${at}`)}.\r\n`);
      const id = /^250 2\.0\.0 Accepted as (\w+)/u.exec(await talk.hear())?.[1] ?? "";
      const { port, said } = talk.wire;
      told.push({ id, port, heard, said });
    }
    talk.close();
    return told;
  }

  test("its file is synced, renamed, and its folder synced: 200 letters, judged by the system calls", async () => {
    const clients = Array.from({ length: CONNECTIONS }, (_, number) => client(number));
    const told = (await Promise.all(clients)).flat();
    expect(new Set(told.map(({ id }) => id)).size).toBe(CONNECTIONS * LETTERS_EACH);
    expect(told.every(({ id }) => id !== "")).toBe(true);
    await gateway.stop();
    const calls = callsIn(await readFile(file, "latin1"));
    const lines = new Map([...new Set(told.map(({ port }) => port))].map((port) => [port, new Line(calls, port)]));
    const spooling = calls.filter(({ args }) => args.includes(sender.spool));
    const wrong = told.flatMap((one) => {
      const line = lines.get(one.port);
      return line ? wrongWith(one, line, spooling, sender.spool) : ["no line"];
    });
    expect(wrong).toEqual([]);
  }, 180_000);
});

/** Goes from the last octet of the text to the first octet of the reply, each step after the end of the one before. @returns what is not so */
function wrongWith({ id, heard, said }: Told, line: Line, calls: readonly Call[], spool: string): string[] {
  const steps: [string, (call: Call) => boolean][] = [
    ["open the unfinished file", ({ name, args }) => name === "openat" && args.includes(`${spool}/${id}.letter.`) && args.includes(".tmp")],
    ["sync it", ({ name, args }) => name === "fsync" && args.includes(`${spool}/${id}.letter.`)],
    ["give it its name", ({ name, args }) => name.startsWith("rename") && args.includes(`, "${spool}/${id}.letter"`)],
    ["open the folder", ({ name, args }) => name === "openat" && args.includes(`"${spool}", O_RDONLY`)],
    ["sync the folder", ({ name, args }) => name === "fsync" && args.endsWith(`<${spool}>`)],
  ];
  const reply = line.writeOf(heard + 1);
  let last: Call = line.readOf(said);
  if (last.ended > reply.began) return [`${id}: answered before it was read`];
  for (const [what, fits] of steps) {
    const after = last.ended;
    const next = calls.find((call) => call.began > after && call.result >= 0 && fits(call));
    if (!next || next.ended > reply.began) return [`${id}: answered before the gateway had come to "${what}"`];
    if (next.name === "fsync" && calls.some((call) => isWriteTo(`${spool}/${id}.letter.`, call) && call.ended > next.began)) {
      return [`${id}: written to after its sync`];
    }
    last = next;
  }
  return [];
}

const isWriteTo = (path: string, { name, args }: Call): boolean => (name === "write" || name === "writev") && args.includes(path);
