/** The library's server with our connections: counted before a single octet is read, TLS handshakes under a deadline, each dismissal logged. */
import type { Socket } from "node:net";
import { SMTPServer, type SMTPServerOptions, type SMTPServerSession } from "smtp-server";
import type { SMTPConnectionOptions } from "smtp-server/lib/smtp-connection.js";
import type { Log } from "../config/log.ts";
import type { DoorLimits } from "../config/schema.ts";
import { doorReply, type Dismissal } from "./reply.ts";
import { StrictConnection } from "./strict-connection.ts";
import type { Visits } from "./visits.ts";

/** A client that was turned away gets this long to take its answer. */
const LINGER_MS = 1_000;

/** What of the limits a connection is held to. */
export type StrictLimits = Pick<
  DoorLimits,
  "errors" | "commands" | "line" | "authenticate" | "idle" | "envelope" | "message" | "rate" | "window"
>;

/** Which door: its events in the log begin with it. */
export type DoorName = "submission" | "inbound";

interface StrictParts {
  readonly name: DoorName;
  readonly limits: StrictLimits;
  readonly visits: Visits;
  readonly log: Log;
  isTrusted(address: string): boolean;
}

export class StrictServer extends SMTPServer {
  readonly limits: StrictLimits;
  readonly #name: DoorName;
  readonly #visits: Visits;
  readonly #log: Log;
  /** Whether a mail server in front is at this address, which may say who its client was (XFORWARD). */
  readonly isTrusted: (address: string) => boolean;
  readonly #leaving = new WeakMap<Socket, () => void>();

  constructor(options: SMTPServerOptions, { name, limits, visits, log, isTrusted }: StrictParts) {
    super(options);
    this.#name = name;
    this.limits = limits;
    this.#visits = visits;
    this.#log = log;
    this.isTrusted = isTrusted;
  }

  override connect(socket: Socket, options?: SMTPConnectionOptions | null): void {
    const connection = new StrictConnection(this, socket, options);
    this.connections.add(connection);
    connection.on("error", (error: Error) => this._onError(error));
    connection.init();
  }

  /** Every socket comes by here first, before TLS and before the library makes anything of it. */
  override _acceptSocket(socket: Socket, handshake: boolean): (() => void) | false {
    const address = socket.remoteAddress ?? "";
    const leave = this.#visits.enter(address);
    if (!leave) {
      this.#turnAway(socket, address, handshake);
      return false;
    }
    this.#leaving.set(socket, leave);
    this.keepCounting(socket);
    const release = super._acceptSocket(socket, handshake);
    if (!handshake || !release) return release;
    const late = setTimeout(() => (this._pendingSockets.get(socket) ?? socket).destroy(), this.limits.authenticate); // the library's timeout starts anew with each octet
    late.unref();
    return () => {
      clearTimeout(late);
      release();
    };
  }

  /** The visit ends with the socket. */
  keepCounting(socket: Socket): void {
    const leave = this.#leaving.get(socket);
    if (leave) socket.once("close", leave);
  }

  dismissed({ id, remoteAddress }: SMTPServerSession, why: Dismissal): void {
    this.#log.warn({ event: `${this.#name}.dismissed`, connection: id, remote: remoteAddress, why });
  }

  #turnAway(socket: Socket, remote: string, handshake: boolean): void {
    this.#log.warn({ event: `${this.#name}.turned-away`, remote });
    socket.on("error", () => undefined);
    if (handshake) return void socket.destroy(); // no words before TLS
    const { code, text } = doorReply("crowded");
    socket.end(`${code} ${text}\r\n`);
    socket.resume();
    setTimeout(() => socket.destroy(), LINGER_MS).unref();
  }
}
