/** Mail clients: so many connections at once, each one letter after the other; every letter has words and a Message-ID of its own. */
import { randomBytes } from "node:crypto";
import { Talk } from "../test/gateway/talk.ts";

export interface Target {
  readonly from: string;
  readonly to: string;
  /** A connection, greeted, and logged in where that is to be. */
  connect(): Promise<Talk>;
}

const line = `${randomBytes(57).toString("base64")}\r\n`;
const run = randomBytes(6).toString("hex");
let made = 0;

function letter({ from, to }: Target, octets: number): Buffer {
  const id = `${run}.${made++}`;
  const head = `From: ${from}\r\nTo: ${to}\r\nSubject: letter ${id}\r\nMessage-ID: <${id}@a.example>\r\nDate: Sun, 01 Mar 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\n\r\n`;
  return Buffer.from(head + line.repeat(Math.max(1, Math.round((octets - head.length) / line.length))), "latin1");
}

/** @throws Error where a reply is not the one that takes the letter */
async function one(talk: Talk, target: Target, octets: number): Promise<void> {
  for (const command of [`MAIL FROM:<${target.from}>`, `RCPT TO:<${target.to}>`]) {
    const reply = await talk.say(command);
    if (!reply.startsWith("250")) throw new Error(`${command}: ${reply}`);
  }
  const reply = await talk.data(letter(target, octets));
  if (!reply.startsWith("250")) throw new Error(reply);
}

/** Sends letters over kept connections. */
export async function send(target: Target, octets: number, count: number, connections: number): Promise<void> {
  let left = count;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      const talk = await target.connect();
      while (left-- > 0) await one(talk, target, octets);
      talk.close();
    }),
  );
}

/** One letter on a kept connection. @returns milliseconds from before MAIL until after the 250 */
export async function timeOne(talk: Talk, target: Target, octets: number): Promise<number> {
  const from = performance.now();
  await one(talk, target, octets);
  return performance.now() - from;
}

/** One letter on a fresh connection. @returns milliseconds from the connection until after the 250 */
export async function timeFresh(target: Target, octets: number): Promise<number> {
  const from = performance.now();
  const talk = await target.connect();
  await one(talk, target, octets);
  talk.close();
  return performance.now() - from;
}
