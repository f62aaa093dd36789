/** A next hop that fails where a test says: at a stage of SMTP, in one of six manners, until it is healed (RFC 5321). */
import { createServer, type Socket } from "node:net";
import { Happenings } from "../broker/happenings.ts";
import { freePort } from "../servers/ports.ts";

export const STAGES = ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".", "RSET", "QUIT"] as const;
export type Stage = (typeof STAGES)[number];

/** `abort`: silent for a while, then 550 and gone, without reading on. */
export const FAULTS = ["4xx", "5xx", "421", "drop", "hang", "abort"] as const;
export type Fault = (typeof FAULTS)[number];

export interface Script {
  readonly stage: Stage;
  readonly fault: Fault;
  /** Answers RCPT with 450 as well, so that there is a reason for RSET. */
  readonly busy?: boolean;
}

/** A message whose end has come. */
export interface Kept {
  readonly from: string;
  readonly to: string;
  readonly mail: Buffer;
  /** Whether the client was told so. */
  readonly answered: boolean;
}

export interface FakeHop {
  readonly port: number;
  readonly kept: Happenings<Kept>;
  /** The stage, whenever the fault struck. */
  readonly struck: Happenings<Stage>;
  heal(): void;
  /** Does this to every connection that is open, unasked. */
  unasked(fault: "421" | "drop" | "hang" | "reset"): void;
  close(): Promise<void>;
}

const ABORT_AFTER_MS = 150;
const REFUSALS = { "4xx": "450 4.3.0 Not now", "5xx": "550 5.3.0 Not ever", "421": "421 4.3.2 Closing" } as const;

/** The fault strikes letters only, never a notice with the empty reverse-path: a hop that refuses one message is not one that refuses all. */
export async function startFakeHop(first?: Script): Promise<FakeHop> {
  let script = first;
  const kept = new Happenings<Kept>();
  const struck = new Happenings<Stage>();
  const sockets = new Map<Socket, () => void>();
  const server = createServer((socket) => {
    socket.on("error", () => undefined).once("close", () => sockets.delete(socket));
    sockets.set(socket, serve(socket, { kept, struck, script: () => script }));
  });
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  return {
    port,
    kept,
    struck,
    heal: () => void (script = undefined),
    unasked(fault) {
      for (const [socket, hush] of sockets) {
        hush();
        if (fault === "421") socket.end(`${REFUSALS[fault]}\r\n`);
        if (fault === "drop") socket.destroy();
        if (fault === "reset") socket.resetAndDestroy();
      }
    },
    async close() {
      for (const socket of sockets.keys()) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

interface Desk {
  readonly kept: Happenings<Kept>;
  readonly struck: Happenings<Stage>;
  script(): Script | undefined;
}

/** One conversation. @returns what makes it say nothing any more */
function serve(socket: Socket, { kept, struck, script }: Desk): () => void {
  let waiting = Buffer.alloc(0);
  let inData = false;
  let deaf = false;
  let [from, to] = ["", ""];

  const say = (line: string): void => void socket.write(`${line}\r\n`);
  const strike = (fault: Fault): void => {
    if (fault === "4xx" || fault === "5xx") return say(REFUSALS[fault]);
    deaf = true;
    if (fault === "421") socket.end(`${REFUSALS[fault]}\r\n`);
    if (fault === "drop") socket.destroy();
    if (fault === "abort") setTimeout(() => socket.end("550 5.3.0 Aborted\r\n"), ABORT_AFTER_MS).unref();
  };
  /** Does what is done at a stage, or what the script does instead. @returns whether it was done well */
  const at = (stage: Stage, well: string): boolean => {
    const now = script();
    const isNotice = from === "" && (stage === "MAIL" || stage === "RCPT" || stage === "DATA" || stage === ".");
    if (now?.stage === stage && !isNotice) {
      strike(now.fault);
      struck.add(stage);
      return false;
    }
    say(stage === "RCPT" && now?.busy ? REFUSALS["4xx"] : well);
    return true;
  };
  const command = (line: string): void => {
    const verb = line.slice(0, 4).toUpperCase();
    const address = /<([^>]*)>/u.exec(line)?.[1] ?? "";
    if (verb === "EHLO") at("EHLO", "250-hop.example\r\n250 8BITMIME");
    else if (verb === "HELO") say("250 hop.example");
    else if (verb === "MAIL") {
      from = address;
      at("MAIL", "250 2.1.0 OK");
    } else if (verb === "RCPT") {
      to = address;
      at("RCPT", "250 2.1.5 OK");
    } else if (verb === "DATA") {
      inData = at("DATA", "354 Go on");
    } else if (verb === "RSET") at("RSET", "250 2.0.0 OK");
    else if (verb === "QUIT") {
      if (at("QUIT", "221 2.0.0 Bye")) socket.end();
    } else say("502 5.5.1 Unknown");
  };
  const end = (mail: Buffer): void => {
    const now = script();
    inData = false;
    const answered = at(".", "250 2.0.0 Taken");
    const lost = !answered && (now?.fault === "drop" || now?.fault === "hang"); // the hop has it, and the client cannot know
    if (answered || lost) kept.add({ from, to, mail, answered });
  };
  const read = (): void => {
    for (;;) {
      if (deaf) return;
      const mark = inData ? "\r\n.\r\n" : "\r\n";
      const found = waiting.indexOf(mark);
      if (found < 0) return;
      const piece = waiting.subarray(0, found);
      waiting = waiting.subarray(found + mark.length);
      if (inData) end(unstuffed(Buffer.concat([piece, Buffer.from("\r\n")])));
      else command(piece.toString("latin1"));
    }
  };
  socket.on("data", (chunk: Buffer) => {
    if (deaf) return;
    waiting = Buffer.concat([waiting, chunk]);
    read();
  });
  at("CONNECT", "220 hop.example ESMTP");
  return () => void (deaf = true);
}

/** Without the dots that SMTP puts before dots (RFC 5321 §4.5.2). */
function unstuffed(data: Buffer): Buffer {
  return Buffer.from(data.toString("latin1").replaceAll(/^\./gmu, ""), "latin1");
}
