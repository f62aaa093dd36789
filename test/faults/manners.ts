/** Six manners in which a network fails at one request: each strikes once, and what comes later passes. */
import { Happenings } from "../broker/happenings.ts";
import type { Line, Manner } from "./faulty-line.ts";

export const CUTS = ["cut before", "cut after", "delay", "half-close", "slow", "reset"] as const;
/**
 * `cut before`: the request never reaches; `cut after`: it does, and no answer comes back; `delay`: the answer is late;
 * `half-close`: the server's side ends in place of an answer; `slow`: the answers come octet by octet; `reset`: RST in place of an answer.
 */
export type Cut = (typeof CUTS)[number];

const DELAY_MS = 1_500;

export interface Strike extends Manner {
  /** The moment of the blow, in milliseconds. */
  readonly struck: Happenings<number>;
}

/** @param isRequest which of the client's pieces is the request */
export function strikeAt(cut: Cut, isRequest: (piece: string) => boolean): Strike {
  const struck = new Happenings<number>();
  let victim: Line | undefined;
  let ended = false;
  const strike = (): void => {
    if (struck.all.length === 0) struck.add(Date.now());
  };
  const answers = answering(cut);
  return {
    struck,
    fromClient(chunk, line) {
      if (victim || !isRequest(chunk.toString("latin1"))) return chunk;
      victim = line;
      if (cut !== "cut before") return chunk;
      line.cut();
      strike();
      return undefined;
    },
    fromServer(chunk, line) {
      if (line !== victim) return chunk;
      if (ended) return undefined;
      ended = cut === "half-close";
      answers(chunk, line);
      strike();
      return undefined;
    },
  };
}

function answering(cut: Cut): (chunk: Buffer, line: Line) => void {
  if (cut === "reset") return (_chunk, line) => line.reset();
  if (cut === "half-close") return (_chunk, { client }) => void client.end();
  if (cut === "delay") return delayed();
  if (cut === "slow") return octetwise();
  return (_chunk, line) => line.cut();
}

/** The first answer is late; those behind it wait for it. */
function delayed(): (chunk: Buffer, line: Line) => void {
  const waiting: Buffer[] = [];
  let state: "fresh" | "waiting" | "passed" = "fresh";
  return (chunk, { client }) => {
    const release = (): void => {
      state = "passed";
      if (client.writable) client.write(Buffer.concat(waiting));
    };
    if (state === "passed") {
      client.write(chunk);
      return;
    }
    waiting.push(chunk);
    if (state === "fresh") setTimeout(release, DELAY_MS);
    state = "waiting";
  };
}

function octetwise(): (chunk: Buffer, line: Line) => void {
  const waiting: number[] = [];
  let isRunning = false;
  return (chunk, { client }) => {
    waiting.push(...chunk);
    const next = (): void => {
      const octet = waiting.shift();
      isRunning = octet !== undefined && client.writable;
      if (!isRunning || octet === undefined) return;
      client.write(Buffer.from([octet]));
      setImmediate(next);
    };
    if (!isRunning) next();
  };
}
