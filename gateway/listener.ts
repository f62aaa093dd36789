/** What every SMTP door does: it listens, answers with a step's result or its fault's reply, and stops without losing a message that is coming in. */
import type { SMTPServer, SMTPServerDataStream, SMTPServerOptions, SMTPServerSession } from "smtp-server";
import { everybodyMayListen, type Running } from "../config/lifecycle.ts";
import { reasonOf, type Log } from "../config/log.ts";
import { Fault } from "../mime/fault.ts";
import { replyFor, type Reply } from "./reply.ts";
import type { DoorName } from "./strict-server.ts";

/** How long a stop waits for letters whose octets are on their way. */
const LONGEST_STOP_MS = 10_000;
const NOTHING_FOR_MS = 5 * 60_000; // RFC 5321 §4.5.3.2.7

/** Commands of the library that no door knows. */
export const NEVER = ["XCLIENT", "WIZ", "SHELL", "KILL", "HELP"];

/** What the library is told at every door. */
export const COMMON = {
  banner: "Kakitome",
  hideENHANCEDSTATUSCODES: true, // the library would put a second, generic code before ours
  disableReverseLookup: true,
  logger: false,
  socketTimeout: NOTHING_FOR_MS, // of a TLS handshake; the phases of a connection have deadlines of their own
  closeTimeout: LONGEST_STOP_MS,
} as const satisfies SMTPServerOptions;

type Callback<T> = (error: Error | null, value?: T) => void;

export class Listener implements Running {
  readonly #name: DoorName;
  readonly #log: Log;
  readonly #late = new AbortController();
  readonly #receiving = new Set<string>();
  #server: SMTPServer | undefined;
  #isStopping = false;

  constructor(name: DoorName, log: Log) {
    this.#name = name;
    this.#log = log;
    everybodyMayListen(this.#late.signal);
  }

  /** Aborts when a stop has waited long enough. */
  get signal(): AbortSignal {
    return this.#late.signal;
  }

  /** Answers one command. */
  async answer<T>(session: SMTPServerSession, phase: string, step: () => Promise<T>, callback: Callback<T>): Promise<void> {
    try {
      callback(null, await step());
    } catch (thrown) {
      const reply = replyFor(thrown);
      this.#log.warn({ event: `${this.#name}.refused`, phase, code: reply.code, connection: session.id, reason: reasonOf(thrown) });
      callback(smtpError(reply));
    }
  }

  /** Answers DATA; meanwhile a stop does not send the client away. */
  async receive<T>(session: SMTPServerSession, step: () => Promise<T>, callback: Callback<T>): Promise<void> {
    this.#receiving.add(session.id);
    await this.answer(session, "DATA", step, callback);
    this.#receiving.delete(session.id);
    if (this.#isStopping) this.#dismiss();
  }

  /** @param facts of this door, for the log. @returns the port */
  async listen(
    server: SMTPServer,
    { host, port }: { host: string; port: number },
    facts: Readonly<Record<string, string>>,
  ): Promise<number> {
    this.#server = server;
    server.on("error", (error) => this.#log.warn({ event: `${this.#name}.connection`, reason: reasonOf(error) }));
    const bound = await new Promise<number>((resolve, reject) => {
      server.server.once("error", reject);
      server.listen(port, host, () => {
        const address = server.server.address();
        resolve(typeof address === "object" && address ? address.port : port);
      });
    });
    this.#log.info({ event: `${this.#name}.listening`, port: bound, ...facts });
    return bound;
  }

  /** Refuses new connections, sends idle clients away, and lets what is coming in be accepted. */
  async stop(): Promise<void> {
    const limit = setTimeout(() => this.#late.abort(new Error("stopping")), LONGEST_STOP_MS);
    const closed = new Promise<void>((resolve) => (this.#server ? this.#server.close(() => resolve()) : resolve()));
    this.#isStopping = true;
    this.#dismiss();
    await closed;
    clearTimeout(limit);
  }

  #dismiss(): void {
    for (const connection of this.#server?.connections ?? []) if (!this.#receiving.has(connection.session.id)) connection.close();
  }
}

export function smtpError({ code, text }: Reply): Error {
  return Object.assign(new Error(text), { responseCode: code });
}

/** Reads DATA to its end; beyond the limit it keeps nothing more, so that the client still gets its answer. */
export async function collect(stream: SMTPServerDataStream, largest: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream) {
    const bytes = Buffer.from(chunk as Uint8Array);
    length += bytes.length;
    if (length <= largest) chunks.push(bytes);
    else chunks.length = 0;
  }
  if (length > largest || stream.sizeExceeded) {
    throw new Fault("too-large", "DATA beyond the limit", {
      advice: `The message is larger than ${largest} octets, the most this gateway takes.`,
    });
  }
  return Buffer.concat(chunks);
}
