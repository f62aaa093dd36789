/** Mail clients: so many connections at once, each one letter after the other; every letter has words and a Message-ID of its own. */
import { randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { Talk } from "../test/gateway/talk.ts";

export interface Target {
  readonly from: string;
  readonly to: string;
  /** A connection, greeted, and logged in where that is to be. */
  connect(): Promise<Talk>;
}

/** Clients of a door that wants neither TLS nor a password. */
export const inTheClear = (port: number): Target => ({
  from: "alice@a.example",
  to: "bob@b.example",
  async connect() {
    const talk = await Talk.open(port);
    await talk.say("EHLO client.a.example");
    return talk;
  },
});

const line = `${randomBytes(57).toString("base64")}\r\n`;
const run = randomBytes(6).toString("hex");
let made = 0;
const END = Buffer.from("\r\n.\r\n");

function letter({ from, to }: Target, octets: number): Buffer {
  const id = `${run}.${made++}`;
  const head = `From: ${from}\r\nTo: ${to}\r\nSubject: letter ${id}\r\nMessage-ID: <${id}@a.example>\r\nDate: Sun, 01 Mar 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\n\r\n`;
  return Buffer.from(head + line.repeat(Math.max(1, Math.round((octets - head.length) / line.length))), "latin1");
}

/** @returns milliseconds from before the letter's octets until after the 250 @throws Error where a reply is not the one that takes the letter */
export async function one(talk: Talk, target: Target, octets: number): Promise<number> {
  for (const command of [`MAIL FROM:<${target.from}>`, `RCPT TO:<${target.to}>`]) {
    const reply = await talk.say(command);
    if (!reply.startsWith("250")) throw new Error(`${command}: ${reply}`);
  }
  const message = Buffer.concat([letter(target, octets), END]); // no line of it begins with a dot
  const ready = await talk.say("DATA");
  if (!ready.startsWith("354")) throw new Error(ready);
  const from = performance.now();
  talk.write(message);
  const reply = await talk.hear();
  if (!reply.startsWith("250")) throw new Error(reply);
  return performance.now() - from;
}

/** Sends letters over kept connections, which are divided among the senders. */
export async function send(targets: readonly Target[], octets: number, count: number, connections: number): Promise<void> {
  let left = count;
  await Promise.all(
    Array.from({ length: connections }, async (_, at) => {
      const target = targets[at % targets.length];
      if (!target) return;
      const talk = await target.connect();
      while (left-- > 0) await one(talk, target, octets);
      talk.close();
    }),
  );
}

/** Sends letters over kept connections at a pace that does not wait for answers: a letter that is due while all are busy is late. @returns for each, milliseconds from when it was due or its octets left until the 250 */
export async function sendAtRate(
  target: Target,
  octets: number,
  { count, perSecond, connections }: { count: number; perSecond: number; connections: number },
): Promise<number[]> {
  const times: number[] = [];
  let next = 0;
  const start = performance.now();
  await Promise.all(
    Array.from({ length: connections }, async () => {
      const talk = await target.connect();
      for (let at = next++; at < count; at = next++) {
        const due = start + (at / perSecond) * 1_000;
        const early = due - performance.now();
        if (early > 0) await pause(early);
        const late = Math.max(0, -early);
        times.push(late + (await one(talk, target, octets)));
      }
      talk.close();
    }),
  );
  return times;
}

/** One letter on a fresh connection. @returns milliseconds from the connection until after the 250 */
export async function timeFresh(target: Target, octets: number): Promise<number> {
  const from = performance.now();
  const talk = await target.connect();
  await one(talk, target, octets);
  talk.close();
  return performance.now() - from;
}
