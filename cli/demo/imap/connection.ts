/** One connection: its greeting, its loop of commands, STARTTLS and its end: RFC 3501 §3 and §6.2.1. */

import type { Socket } from "node:net";
import { TLSSocket, type SecureContext } from "node:tls";
import { capabilities } from "./access.ts";
import { execute } from "./commands.ts";
import { Input, readCommand, type CommandLimits } from "./input.ts";
import { Session, type Wire } from "./session.ts";
import type { MailStore } from "./store.ts";
import type { Piece } from "./wire.ts";

const LINGER_MILLISECONDS = 2000;

export interface ConnectionOptions {
  readonly store: MailStore;
  readonly tls: SecureContext | undefined;
  readonly limits: CommandLimits & { readonly idleMilliseconds: number };
  readonly report: (fault: unknown) => void;
}

export class Connection implements Wire {
  readonly #options: ConnectionOptions;
  readonly #session: Session;
  readonly local: boolean;
  #socket: Socket;
  #input: Input;
  #ended = false;

  constructor(socket: Socket, options: ConnectionOptions) {
    this.#options = options;
    this.#socket = socket;
    this.#input = this.#attach(socket);
    this.local = /^(?:::ffff:)?127\.|^::1$/.test(socket.remoteAddress ?? "");
    this.#session = new Session(options.store, this);
  }

  get secure(): boolean {
    return this.#socket instanceof TLSSocket;
  }

  get offersTls(): boolean {
    return this.#options.tls !== undefined;
  }

  /** Greet, and answer commands until either side is done. */
  async run(): Promise<void> {
    try {
      this.#session.say(`* OK [CAPABILITY ${capabilities(this.#session)}] Kakitome demo, mail is kept in memory`);
      while (!this.#ended && (await this.#answerOne())) await this.#drained();
    } finally {
      this.#session.deselect();
      this.end();
    }
  }

  /** Say why, and close. */
  bye(why: string): void {
    this.#session.say(`* BYE ${why}`);
    this.end();
  }

  write(pieces: readonly Piece[]): void {
    const socket = this.#socket;
    if (this.#ended || !socket.writable) return;
    if (socket.writableCorked === 0) {
      socket.cork(); // one packet for all that is written in this turn
      process.nextTick(() => socket.uncork());
    }
    for (const piece of pieces) {
      if (typeof piece === "string") socket.write(piece, "latin1");
      else socket.write(piece);
    }
  }

  line(): Promise<string | undefined> {
    return this.#input.line(this.#options.limits.lineOctets);
  }

  async startTls(): Promise<void> {
    const plain = this.#socket;
    // What was sent in the clear behind STARTTLS is dropped, never run as if it had come under TLS: RFC 9051 §11.1.
    this.#input.detach();
    await new Promise((resolve) => plain.write("", resolve));
    this.#detachErrors(plain);
    const secure = new TLSSocket(plain, {
      isServer: true,
      ...(this.#options.tls === undefined ? {} : { secureContext: this.#options.tls }),
    });
    secure.on("_tlsError", this.#drop); // after the handshake, node tells of broken records by this name only
    this.#socket = secure;
    this.#input = this.#attach(secure);
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    const socket = this.#socket;
    this.#input.stop();
    if (socket.closed) return;
    socket.end();
    const linger = setTimeout(() => socket.destroy(), LINGER_MILLISECONDS).unref();
    socket.once("close", () => clearTimeout(linger));
  }

  /** Close at once, whatever is still to be written. */
  destroy(): void {
    this.#ended = true;
    this.#socket.destroy();
  }

  async #answerOne(): Promise<boolean> {
    const { limits, report } = this.#options;
    // Before a login nobody may make the server hold more than a command's worth.
    const literalOctets = this.#session.state === "guest" ? limits.lineOctets : limits.literalOctets;
    const raw = await readCommand(this.#input, { ...limits, literalOctets }, () => this.#session.say("+ go on"));
    if (raw !== undefined) await execute(this.#session, raw, report);
    return raw !== undefined;
  }

  /** A client that does not read its answers gets no more of them. */
  async #drained(): Promise<void> {
    const socket = this.#socket;
    if (!socket.writableNeedDrain || socket.destroyed) return;
    await new Promise<void>((resolve) => {
      const go = (): void => {
        socket.off("drain", go).off("close", go);
        resolve();
      };
      socket.on("drain", go).on("close", go);
    });
  }

  #attach(socket: Socket): Input {
    socket.on("error", this.#drop);
    socket.setTimeout(this.#options.limits.idleMilliseconds, () => this.bye("nothing was heard for too long"));
    return new Input(socket);
  }

  #detachErrors(socket: Socket): void {
    socket.setTimeout(0);
    socket.off("error", this.#drop);
    socket.on("error", () => this.#socket.destroy());
  }

  // A broken connection is an end like any other: the input reports it to the loop.
  readonly #drop = (): void => {
    this.#socket.destroy();
  };
}
