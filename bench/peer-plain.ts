/** The libraries alone as a peer: smtp-server takes a mail, writes it to the disk as our spool does, says 250, and a pool of nodemailer hands it on. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { freePort } from "../test/servers/ports.ts";
import { temporaryFolder } from "../test/servers/process.ts";
import { compiled } from "./child.ts";
import { inTheClear } from "./load.ts";
import type { Relay } from "./peer-postfix.ts";
import { startSink } from "./sink.ts";

export async function plainRelay(): Promise<Relay> {
  const [sink, port, folder] = [await startSink(), await freePort(), await temporaryFolder("bench-plain")];
  const child = spawn(process.execPath, [join(compiled, "relay.js"), String(port), String(sink.port), folder], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "data"); // it says that it listens
  return {
    sink,
    target: inTheClear(port),
    async stop() {
      child.kill();
      await sink.stop();
    },
  };
}
