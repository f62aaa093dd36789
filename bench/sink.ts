/** A next hop that says yes to everything and counts letters: it costs both sides the same and as little as can be. */
import { createServer, type Socket } from "node:net";
import { freePort } from "../test/servers/ports.ts";

export interface Sink {
  readonly port: number;
  /** Resolves once so many letters came in all. */
  until(count: number): Promise<void>;
  readonly count: () => number;
  stop(): Promise<void>;
}

const END = Buffer.from("\r\n.\r\n");

export async function startSink(): Promise<Sink> {
  let count = 0;
  const waiting = new Set<() => void>();
  const open = new Set<Socket>();
  const talk = (socket: Socket): void => {
    open.add(socket);
    socket.on("close", () => open.delete(socket));
    let held: Buffer = Buffer.alloc(0);
    let inData = false;
    socket.setNoDelay(true);
    socket.on("error", () => undefined);
    socket.write("220 sink.example\r\n");
    const step = (): boolean => {
      const end = inData ? held.indexOf(END) : held.indexOf("\r\n");
      if (end < 0) {
        if (inData) held = held.subarray(Math.max(0, held.length - END.length)); // a letter is counted, not kept
        return false;
      }
      const verb = inData ? "" : held.subarray(0, 4).toString("latin1").toUpperCase();
      held = held.subarray(end + (inData ? END.length : 2));
      if (inData) {
        count++;
        for (const look of waiting) look();
      }
      inData = verb === "DATA";
      if (verb === "EHLO") socket.write("250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0\r\n");
      else socket.write(inData ? "354 go on\r\n" : verb === "QUIT" ? "221 bye\r\n" : "250 2.0.0 yes\r\n");
      if (verb === "QUIT") socket.end();
      return true;
    };
    socket.on("data", (chunk: Buffer) => {
      held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
      while (step());
    });
  };
  const port = await freePort();
  const server = createServer(talk);
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  return {
    port,
    count: () => count,
    until: (wanted) =>
      new Promise((resolve) => {
        const look = (): void => {
          if (count < wanted) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
      }),
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of open) socket.destroy();
      }),
  };
}
