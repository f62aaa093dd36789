/** Free loopback ports for the servers and programs that tests start. */

import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";

const given = new Set<number>();

/** Jest workers run at once; each keeps to its own share of the ports, so none takes a port another has chosen but not yet bound. */
const SHARES = 8;
const share = Number(process.env["JEST_WORKER_ID"] ?? 0) % SHARES;

/** A port on 127.0.0.1 that nobody listens on; never the same one twice. */
export async function freePort(): Promise<number> {
  for (;;) {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, "close");
    const ours = (port >> 1) % SHARES === share; // Linux offers odd ports to listeners, so the lowest bit says nothing.
    if (!ours || given.has(port)) continue;
    given.add(port);
    return port;
  }
}
