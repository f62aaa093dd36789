/** What the command line names, read where it is named: what cannot be meant is one sentence, before anything is done. */
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline/promises";
import { duration, type Milliseconds } from "../config/units.ts";
import { Fault } from "../mime/fault.ts";

/** @throws Fault `malformed` naming the file */
export function contentOf(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new Fault("malformed", `${path === "" ? "a file without a name" : path} cannot be read`, { cause });
  }
}

const LONGEST_WAIT = "24d"; // a timer of Node.js counts 31 bits of milliseconds

/** How long to wait. @param text such as `30s` @throws Fault `malformed` */
export function waitOf(text: string): Milliseconds {
  const wait = duration(text);
  if (wait > duration(LONGEST_WAIT)) throw new Fault("malformed", `--wait ${text}: at the most ${LONGEST_WAIT}`);
  return wait;
}

/** The first line of standard input, "" where it is empty. @param what a person at a terminal is asked for */
export async function firstLine(what: string): Promise<string> {
  if (process.stdin.isTTY) process.stderr.write(`${what} (shown as you type): `);
  const lines = createInterface({ input: process.stdin });
  try {
    for await (const line of lines) return line;
    return "";
  } finally {
    lines.close();
  }
}
