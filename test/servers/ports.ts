/** Free loopback ports for the servers and programs that tests start. */

import { once } from "node:events";
import { createServer } from "node:net";

const given = new Set<number>();

/** Below 32768, where Linux takes the ports of outgoing connections from: none of them slips in between our look and the server's start. */
const [LOWEST, HIGHEST] = [10_000, 32_000];

/** Jest workers run at once; each keeps to its own share of the ports, so none takes a port another has chosen but not yet bound. */
const SHARES = 8;
const share = Number(process.env["JEST_WORKER_ID"] ?? 0) % SHARES;

/** A port on 127.0.0.1 that nobody listens on; never the same one twice. Where it begins is random, for several programs may look at once. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = LOWEST + Math.floor((Math.random() * (HIGHEST - LOWEST)) / SHARES) * SHARES + share;
    if (given.has(port) || !(await isFree(port))) continue;
    given.add(port);
    return port;
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer().listen(port, "127.0.0.1");
  try {
    await once(server, "listening");
  } catch {
    return false;
  }
  server.close();
  await once(server, "close");
  return true;
}
