/** Faults at commands of IMAP; at APPEND (RFC 3501 §6.3.11, RFC 7888) the proxy has the whole letter before the server sees any of it. */
import type { Line, Manner } from "./faulty-line.ts";

export interface Append {
  readonly tag: string;
  /** The command with a literal that the server does not have to ask for. */
  readonly command: Buffer;
  readonly literal: Buffer;
}

/** What a fault does with an APPEND in place of the server. */
export type AppendFault = (append: Append, line: Line) => void;

const END = Buffer.from("\r\n");
const COMMAND = /^(\S+) APPEND [^\r\n]*\{(\d+)(\+?)\}\r\n/mu;

interface Held {
  readonly append: Omit<Append, "literal">;
  readonly size: number;
  bytes: Buffer;
}

/** The fault strikes the first appends; later ones pass. @param struck is told each time, when the fault was done */
export function atAppends(fault: AppendFault, times: number, struck: () => void = () => undefined): Manner {
  const held = new WeakMap<Line, Held>();
  const lost = new WeakMap<Line, string>();
  let left = times;
  return {
    fromClient(chunk, line) {
      let before = held.get(line);
      if (!before) {
        const found = left > 0 ? COMMAND.exec(chunk.toString("latin1")) : null;
        if (!found) return chunk;
        const [whole, tag = "", size = "", plus] = found;
        const command = Buffer.from(whole.replace(/\+?\}\r\n$/u, "+}\r\n"), "latin1");
        before = { append: { tag, command }, size: Number(size), bytes: chunk.subarray(found.index + whole.length) };
        held.set(line, before);
        if (plus === "") line.client.write("+ Go on\r\n");
      } else before.bytes = Buffer.concat([before.bytes, chunk]);
      if (before.bytes.length < before.size + END.length) return undefined;
      held.delete(line);
      left--;
      if (fault === beforeOk) lost.set(line, before.append.tag);
      fault({ ...before.append, literal: before.bytes.subarray(0, before.size) }, line);
      if (fault !== beforeOk) struck();
      return undefined;
    },
    fromServer(chunk, line) {
      const tag = lost.get(line);
      if (tag === undefined || !chunk.toString("latin1").includes(`${tag} OK`)) return chunk;
      line.cut();
      struck();
      return undefined;
    },
  };
}

export const midLiteral: AppendFault = ({ command, literal }, line) => {
  line.server.write(Buffer.concat([command, literal.subarray(0, literal.length / 2)]), () => line.cut());
};

export const afterLiteral: AppendFault = ({ command, literal }, line) => {
  line.server.write(Buffer.concat([command, literal]), () => line.cut());
};

/** The server files the letter, and nobody hears of it. */
export const beforeOk: AppendFault = ({ command, literal }, line) => {
  line.server.write(Buffer.concat([command, literal, END]));
};

export const answer =
  (words: string): AppendFault =>
  ({ tag }, line) =>
    void line.client.write(`${tag} ${words}\r\n`);

export const bye: AppendFault = (_append, line) => {
  line.client.end("* BYE Shutting down\r\n");
  line.server.end();
};

/** The first commands that begin with these words, behind their tag, are answered in place of the server; without an answer the line drops. */
export function atCommands(command: string, words: string | undefined, struck: () => void, times = 1): Manner {
  let left = times;
  return {
    fromClient(chunk, line) {
      const text = chunk.toString("latin1");
      const [tag = ""] = text.split(" ", 1);
      if (left === 0 || !text.startsWith(`${tag} ${command} `)) return chunk;
      left--;
      if (words === undefined) line.cut();
      else line.client.write(`${tag} ${words}\r\n`);
      struck();
      return undefined;
    },
  };
}

/** One manner, and the other for what the first one passes on. */
export function together(first: Manner, second: Manner): Manner {
  return {
    fromClient(chunk, line) {
      const passed = first.fromClient ? first.fromClient(chunk, line) : chunk;
      return passed && second.fromClient ? second.fromClient(passed, line) : passed;
    },
    fromServer: (chunk, line) => (first.fromServer ? first.fromServer(chunk, line) : chunk),
  };
}
