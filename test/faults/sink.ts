/** Postfix's smtp-sink as a next hop that fails: what it takes it keeps in files. */
import { accessSync, constants } from "node:fs";
import { chmod, mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "../servers/ports.ts";
import { start, temporaryFolder } from "../servers/process.ts";

const COMMAND = "/usr/sbin/smtp-sink";

export const hasSink: boolean = (() => {
  try {
    accessSync(COMMAND, constants.X_OK);
    return true;
  } catch {
    return false;
  }
})();

export interface Sink {
  readonly port: number;
  /** What it took, with line feeds only, behind fields of its own. */
  taken(): Promise<string[]>;
  stop(): Promise<void>;
}

/** @param faults its options, such as `-r RCPT` */
export async function startSink(faults: readonly string[]): Promise<Sink> {
  const folder = await temporaryFolder("sink", "shared");
  const dump = join(folder, "taken");
  await mkdir(dump);
  await chmod(dump, 0o777); // it gives up being root
  const port = await freePort();
  const who = process.getuid?.() === 0 ? ["-u", "nobody"] : [];
  const running = await start({
    command: COMMAND,
    args: [...who, "-c", "-d", join(dump, "mail."), ...faults, `127.0.0.1:${port}`, "64"],
    folder,
    ready: { ports: [port] },
  });
  return {
    port,
    async taken() {
      const mails = await Promise.all((await readdir(dump)).map((name) => readFile(join(dump, name), "latin1")));
      return mails.filter((mail) => mail !== "");
    },
    stop: () => running.stop(),
  };
}
