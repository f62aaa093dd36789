/** A loopback proxy whose lines fail as a test says: what either side says can be held, changed or answered, and the line broken. */
import { connect, createServer, type Socket } from "node:net";
import { freePort } from "../servers/ports.ts";

/** One connection through the proxy. */
export interface Line {
  readonly client: Socket;
  readonly server: Socket;
  cut(): void;
  /** Ends it with RST to both sides. */
  reset(): void;
}

/** What is done with what is said. @returns what is passed on; undefined where that was seen to */
export interface Manner {
  fromClient?(chunk: Buffer, line: Line): Buffer | undefined;
  fromServer?(chunk: Buffer, line: Line): Buffer | undefined;
}

export interface FaultyLine {
  readonly port: number;
  /** Sets how lines fail from here on, also those that run; undefined heals. */
  behave(manner: Manner | undefined): void;
  /** Breaks every line that runs. */
  cut(): void;
  close(): Promise<void>;
}

export async function startFaultyLine(target: number, first?: Manner): Promise<FaultyLine> {
  let manner = first;
  const lines = new Set<Line>();
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    const upstream = connect({ port: target, host: "127.0.0.1", noDelay: true });
    const line: Line = {
      client,
      server: upstream,
      cut: () => both((socket) => socket.destroy()),
      reset: () => both((socket) => socket.resetAndDestroy()),
    };
    const both = (end: (socket: Socket) => void): void => {
      for (const socket of [client, upstream]) if (!socket.destroyed) end(socket);
    };
    lines.add(line);
    for (const socket of [client, upstream]) socket.on("error", () => undefined);
    for (const socket of [client, upstream]) socket.once("close", () => (lines.delete(line), line.cut()));
    client.on("data", (chunk: Buffer) => pass(manner?.fromClient ? manner.fromClient(chunk, line) : chunk, upstream));
    upstream.on("data", (chunk: Buffer) => pass(manner?.fromServer ? manner.fromServer(chunk, line) : chunk, client));
    client.on("end", () => upstream.end());
    upstream.on("end", () => client.end());
  });
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  const cut = (): void => {
    for (const line of lines) line.cut();
  };
  return {
    port,
    behave: (next) => void (manner = next),
    cut,
    async close() {
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function pass(chunk: Buffer | undefined, to: Socket): void {
  if (chunk !== undefined && to.writable) to.write(chunk);
}
