/** Commands as they arrive: lines, literals, and the limits of both: RFC 3501 §2.2.1 and §7.5, RFC 7888. */

import type { Duplex } from "node:stream";
import { Refusal } from "./refusal.ts";

/** A whole command: line n ends with the mark of literal n, and the line after it goes on. */
export interface RawCommand {
  readonly lines: readonly string[];
  readonly literals: readonly Buffer[];
  /** Set when the command broke a limit while it was read; then it is not to be run. */
  readonly refusal: Refusal | undefined;
}

export interface CommandLimits {
  readonly lineOctets: number;
  readonly literalOctets: number;
}

const MOST_LITERALS = 100;

/** Octets of a stream, taken by line or by count; the stream rests while nobody takes. */
export class Input {
  readonly #stream: Duplex;
  readonly #chunks: Buffer[] = [];
  #ended = false;
  #wake: () => void = () => undefined;

  constructor(stream: Duplex) {
    this.#stream = stream;
    stream.on("data", this.#keep).on("end", this.#end).on("close", this.#end);
    stream.pause();
  }

  /** Leave the stream to another reader, and drop what was read ahead. */
  detach(): void {
    this.#stream.off("data", this.#keep).off("end", this.#end).off("close", this.#end);
    this.#chunks.length = 0;
  }

  /** Be at the end: what still comes is read and forgotten, so that the peer gets our last words and no reset. */
  stop(): void {
    this.detach();
    this.#end();
    this.#stream.resume();
  }

  /** The next line as one character an octet, without its end; undefined when the peer is gone. @throws Refusal, fatal: too long. */
  async line(most: number): Promise<string | undefined> {
    const parts: Buffer[] = [];
    for (let length = 0; ;) {
      const chunk = await this.#next();
      if (chunk === undefined) return undefined;
      const end = chunk.indexOf(0x0a);
      const part = end < 0 ? chunk : chunk.subarray(0, end);
      if (end >= 0 && end + 1 < chunk.length) this.#chunks.unshift(chunk.subarray(end + 1));
      parts.push(part);
      length += part.length;
      const text = (): string => Buffer.concat(parts).toString("latin1");
      if (length > most) throw new TooLong(text().slice(0, 128), most);
      if (end >= 0) return text().replace(/\r$/, "");
    }
  }

  /** Exactly so many octets; undefined when the peer is gone before. */
  async octets(count: number): Promise<Buffer | undefined> {
    const parts: Buffer[] = [];
    for (let missing = count; missing > 0;) {
      const chunk = await this.#next();
      if (chunk === undefined) return undefined;
      if (chunk.length > missing) this.#chunks.unshift(chunk.subarray(missing));
      const part = chunk.subarray(0, missing);
      parts.push(part);
      missing -= part.length;
    }
    return Buffer.concat(parts, count);
  }

  async #next(): Promise<Buffer | undefined> {
    while (this.#chunks.length === 0 && !this.#ended) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        this.#stream.resume();
      });
    }
    return this.#chunks.shift();
  }

  readonly #keep = (chunk: Buffer): void => {
    this.#stream.pause();
    this.#chunks.push(chunk);
    this.#wake();
  };

  readonly #end = (): void => {
    this.#ended = true;
    this.#wake();
  };
}

class TooLong extends Refusal {
  readonly start: string;
  constructor(start: string, most: number) {
    super("BAD", `a command line is longer than ${most} octets`, { fatal: true });
    this.start = start;
  }
}

/** Read one command, and call `invite` where the client waits for leave to send a literal. Undefined when the peer is gone. */
export async function readCommand(input: Input, limits: CommandLimits, invite: () => void): Promise<RawCommand | undefined> {
  const lines: string[] = [];
  const literals: Buffer[] = [];
  let [room, literalRoom] = [limits.lineOctets, limits.literalOctets];
  for (;;) {
    let line: string | undefined;
    try {
      line = await input.line(room);
    } catch (cause) {
      if (!(cause instanceof TooLong)) throw cause;
      return { lines: [...lines, cause.start], literals, refusal: cause };
    }
    if (line === undefined) return undefined;
    lines.push(line);
    room -= line.length;
    const mark = /\{(\d{1,19})(\+?)\}$/.exec(line);
    if (mark === null) return { lines, literals, refusal: undefined };
    const [size, waits] = [Number(mark[1]), mark[2] === ""];
    if (size > literalRoom || literals.length === MOST_LITERALS) {
      // A client that does not wait has the octets under way already: only closing keeps them from being read as commands.
      return { lines, literals, refusal: new Refusal("NO", "the literal is too big", { code: "TOOBIG", fatal: !waits }) };
    }
    if (waits) invite();
    const literal = await input.octets(size);
    if (literal === undefined) return undefined;
    literals.push(literal);
    literalRoom -= size;
  }
}
