/** The octets of a door's client before the library reads them: only whole CRLFs, no NUL, no endless line (RFC 5321 §2.3.8, §4.1.1.4). */
import { SMTPStream } from "smtp-server/lib/smtp-stream.js";
import type { Dismissal } from "./reply.ts";

const [NUL, LF, CR] = [0x00, 0x0a, 0x0d];

export interface LineLimits {
  /** Octets without CRLF. */
  readonly command: number;
  readonly data: number;
}

/**
 * The library's parser behind a check of the raw octets. It stands here because the parser itself takes a bare LF for a line end in
 * commands, passes bare CR, bare LF and NUL on in DATA, and unstuffs dots behind a bare LF: afterwards nobody can tell what was sent.
 */
export class StrictStream extends SMTPStream {
  readonly #limits: LineLimits;
  readonly #refuse: (why: Dismissal) => void;
  /** While a chunk is worked on, what `_write` gets are its pieces, which the library hands to itself. */
  #current = 0;
  #isReading = false;
  #afterCr = false;
  #lineLength = 0;
  /** Octets of the chunk that no command has taken yet. */
  #unread = 0;

  /** @param refuse called once what stood before the fault was worked on; nothing behind it is read */
  constructor(limits: LineLimits, refuse: (why: Dismissal) => void) {
    super({ maxCommandLength: limits.command });
    this.#limits = limits;
    this.#refuse = refuse;
  }

  /** Octets that the client sent behind the command that is being worked on. */
  get behind(): number {
    return this.#unread + this.writableLength - this.#current;
  }

  override _write(chunk: Buffer, encoding: BufferEncoding | "buffer", next: (error?: Error | null) => void): void {
    if (this.#isReading || this.isClosed) return super._write(chunk, encoding, next);
    const [good, why] = this.#check(chunk);
    this.#isReading = true;
    this.#current = chunk.length;
    this.#unread += good;
    super._write(chunk.subarray(0, good), encoding, (error) => {
      this.#isReading = false;
      this.#current = 0;
      if (why && !this.isClosed) this.#refuse(why);
      next(error);
    });
  }

  /** @param line without its CRLF */
  took(line: Buffer): void {
    this.#unread -= line.length + 2;
  }

  override startDataMode(most?: number | string | null): ReturnType<SMTPStream["startDataMode"]> {
    this.#unread = 0;
    return super.startDataMode(most);
  }

  override _endDataMode(chunk: Buffer | false, rest: Buffer, next: (error?: Error | null) => void): void {
    this.#unread = rest.length;
    super._endDataMode(chunk, rest, next);
  }

  /** A command whose line never ended is none. */
  override _flushData(): void {
    this._remainder = "";
  }

  /** How many octets of the chunk may be read, and what is wrong with the next one. */
  #check(chunk: Buffer): [good: number, why?: Dismissal] {
    const longest = this._dataMode ? this.#limits.data : this.#limits.command;
    for (let at = 0; at < chunk.length; at++) {
      const octet = chunk[at];
      if ((octet === LF) !== this.#afterCr || octet === NUL) return [at, "bare"];
      this.#afterCr = octet === CR;
      if (octet === LF) this.#lineLength = 0;
      else if (octet !== CR && ++this.#lineLength > longest) return [at, this._dataMode ? "long-line" : "long-command"];
    }
    return [chunk.length];
  }
}
