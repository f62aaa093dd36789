/** One connection at the door, stricter than the library: order of commands, a deadline for each phase, a bound on errors (RFC 5321 §4.5.3.2, RFC 2920 §3.1). */
import type { Socket } from "node:net";
import { SMTPConnection, type SMTPConnectionOptions } from "smtp-server/lib/smtp-connection.js";
import { doorReply, type Dismissal } from "./reply.ts";
import { StrictStream } from "./strict-stream.ts";
import type { StrictServer } from "./strict-server.ts";

/** `authenticate`: until AUTH. `idle`: until MAIL. `envelope`: until DATA. `data`: until the final dot. */
type Phase = "authenticate" | "idle" | "envelope" | "data";

/** What a pipelined group may only end with (RFC 2920 §3.1), where what stands behind is not just early but believed by the wrong party. */
const LAST_OF_A_GROUP = new Set(["HELO", "EHLO", "LHLO", "STARTTLS", "DATA"]);
/** What a client does that sends mail; anything else is counted until a message is accepted. */
const BRINGS_MAIL = new Set(["MAIL", "RCPT", "DATA", "AUTH", "STARTTLS", "QUIT"]);
/** AUTH lines may be this long (RFC 4954 §4); all others are shorter (RFC 5321 §4.5.3.1.4). */
const LONGEST_COMMAND = 12_288;

export class StrictConnection extends SMTPConnection {
  declare readonly _server: StrictServer;
  #phase: Phase | undefined;
  #timer: NodeJS.Timeout | undefined;
  #verb = "";
  #errors = 0;
  #idling = 0;
  /** The socket on top: the one of TLS once its handshake has begun. */
  #top: Socket | undefined;

  constructor(server: StrictServer, socket: Socket, options?: SMTPConnectionOptions | null) {
    super(server, socket, options);
    this.#top = socket;
  }

  /** The library greets after 100 ms, to see who speaks first. Whatever came before us is there after two turns of the event loop. */
  override init(): void {
    this._setListeners(() => {
      this.#enter("authenticate");
      setImmediate(() => setImmediate(() => this.#greet()));
    });
  }

  #greet(): void {
    if (this._parser && this._parser._remainder.length > 0) this.dismiss("too-soon"); // not a whole line yet
    if (!this._closing && !this._closed) this.connectionReady();
  }

  /** Says why and ends the connection; a message that was on its way is not accepted. */
  dismiss(why: Dismissal): void {
    if (this._closing || this._closed) return;
    const { code, text } = doorReply(why);
    this._server.dismissed(this.session, why);
    if (this._upgrading) return void this.#top?.destroy(); // no words in the clear, and not the socket below, on which that of TLS stands
    super.send(code, text);
    this.close();
    if (this._dataStream && this._parser && this._parser._dataMode) this._dataStream.destroy(new Error(`dismissed: ${why}`));
  }

  override close(): void {
    super.close();
    clearTimeout(this.#timer);
  }

  override _onClose(): void {
    clearTimeout(this.#timer);
    super._onClose();
  }

  /** The base class calls this while it is constructed: nothing of this class is there yet. */
  override _createParser(): StrictStream {
    const limits = { command: LONGEST_COMMAND, data: this._server.limits.line };
    const parser = new StrictStream(limits, (why) => this.dismiss(why));
    parser.oncommand = (line: Buffer, done?: () => void) => {
      parser.took(line);
      this.#verb = this._nextHandler ? "AUTH" : (/^[A-Za-z]+/u.exec(line.toString("latin1"))?.[0].toUpperCase() ?? "");
      if (!this._upgrading && !this.#demandOrder(parser.behind)) return;
      this._onCommand(line, done);
    };
    parser.on("error", () => this.dismiss("long-command"));
    return parser;
  }

  #demandOrder(behind: number): boolean {
    if (!this._ready) this.dismiss("too-soon");
    else if (LAST_OF_A_GROUP.has(this.#verb) && behind + this._socket.readableLength > 0) this.dismiss("unsynchronised");
    else if (!BRINGS_MAIL.has(this.#verb) && ++this.#idling > this._server.limits.commands) this.dismiss("idling");
    return !this._closing && !this._closed;
  }

  override _isDisabled(command: string): boolean {
    return super._isDisabled(command) || (command === "XFORWARD" && !this._server.isTrusted(this._originalRemoteAddress));
  }

  /** The library takes what is said of another client for our own client's; here only the next hop hears of it (forwarded.ts). */
  override handler_XFORWARD(command: Buffer, callback: () => void): void {
    const { remoteAddress, remotePort, clientHostname, hostNameAppearsAs } = this;
    super.handler_XFORWARD(command, () => {
      Object.assign(this, { remoteAddress, remotePort, clientHostname, hostNameAppearsAs });
      Object.assign(this.session, { remoteAddress, remotePort, clientHostname, hostNameAppearsAs });
      callback();
    });
  }

  override _armTimeout(socket?: Socket): void {
    if (socket) this.#top = socket; // the deadlines of phases stand in for the library's idle timeout, which each octet prolongs
  }

  override upgrade(done: () => void, secured?: () => void): void {
    const wire = this._socket;
    super.upgrade(done, secured);
    this._server.keepCounting(wire); // the library has taken all listeners off
  }

  override send(code: number, data?: string | string[] | null, context?: string | false): void {
    const isClear = Array.isArray(data) && !this.secure;
    super.send(code, isClear ? data.filter((feature) => !feature.startsWith("AUTH ")) : data, context);
    if (this._closing || this._closed) return;
    this.#count(code);
    if (!this._closing) this.#enter(this.#phaseNow());
  }

  #count(code: number): void {
    const isRecipient = this.#verb === "RCPT" && Boolean(this.session.user);
    const { errors, commands } = this._server.limits;
    if (code === 250 && this.#verb === "DATA") [this.#errors, this.#idling] = [0, 0];
    if (isRecipient && code >= 400 && ++this.#idling > commands) this.dismiss("idling"); // an answer of the policy, not an error
    if (!isRecipient && code >= 500 && ++this.#errors >= errors) this.dismiss("errors");
  }

  #phaseNow(): Phase {
    if (this._parser && this._parser._dataMode) return "data";
    if (this.session.envelope?.mailFrom && this.#phase !== "data") return "envelope"; // behind the final dot the library forgets the sender only after its reply
    return this.session.user ? "idle" : "authenticate";
  }

  /** A phase has one deadline, which nothing prolongs; only a message that comes well gets the next window of time. */
  #enter(phase: Phase): void {
    if (phase === this.#phase) return;
    this.#phase = phase;
    clearTimeout(this.#timer);
    if (phase === "data") this.#watchData(0, this._server.limits.message);
    else this.#arm(this._server.limits[phase], () => this.#strike("late"));
  }

  #watchData(seen: number, left: number): void {
    const { window, rate } = this._server.limits;
    const wait = Math.min(window, left);
    this.#arm(wait, () => {
      const parser = this._parser;
      if (!parser || !parser._dataMode) return this.#strike("late");
      const wanted = (rate * wait) / 1_000;
      if (parser.dataBytes - seen < wanted) this.dismiss("slow");
      else if (left <= wait) this.dismiss("late");
      else this.#watchData(parser.dataBytes, left - wait);
    });
  }

  #arm(milliseconds: number, struck: () => void): void {
    this.#timer = setTimeout(struck, milliseconds);
    this.#timer.unref();
  }

  /** The client is late, unless it is we who are. */
  #strike(why: Dismissal): void {
    const isOurTurn = this._handlerPending || (this._dataStream && this._parser && !this._parser._dataMode);
    if (!isOurTurn) return this.dismiss(why);
    this.#arm(1_000, () => this.#strike(why));
  }
}
