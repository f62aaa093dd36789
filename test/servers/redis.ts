/** A real Redis for tests, with its data in a folder of its own. */

import { execFileSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "./ports.ts";
import { start, temporaryFolder, type Running } from "./process.ts";

export interface RedisServer {
  readonly port: number;
  /** With the user and the password. */
  readonly url: string;
  readonly folder: string;
  readonly password: string;
  stop(): Promise<void>;
  /** End it by SIGKILL: it gets no chance to write anything more. */
  kill(): Promise<void>;
  /** Stop it if it runs, and start it again on the same port with the same data. */
  restart(): Promise<void>;
  /** What redis-cli prints. */
  cli(...args: string[]): string;
}

export interface RedisOptions {
  /** "always" when left out: no acknowledged write is lost. */
  appendfsync?: "always" | "everysec";
  /** true when left out. */
  appendonly?: boolean;
  /** maxmemory-policy; "noeviction" when left out. */
  policy?: string;
  /** More lines for redis.conf. */
  lines?: readonly string[];
  /** A folder with data to start on, which the server then owns; a new one when left out. */
  folder?: string;
  /** Port of the primary whose replica it is. */
  replicaOf?: number;
}

const PASSWORD = "testpass";

export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const folder = options.folder ?? (await temporaryFolder("redis"));
  const port = await freePort();
  const configuration = join(folder, "redis.conf");
  await writeFile(configuration, configurationOf(folder, port, options), { mode: 0o600 });

  function cli(...args: string[]): string {
    const env = { ...process.env, REDISCLI_AUTH: PASSWORD };
    return execFileSync("redis-cli", ["-h", "127.0.0.1", "-p", String(port), ...args], { encoding: "utf8", env, stdio: "pipe" }).trimEnd();
  }
  async function launch(): Promise<Running> {
    // Printed after the append-only file is loaded; until then commands are refused.
    const running = await start({ command: "redis-server", args: [configuration], folder, ready: { line: /Ready to accept connections/ } });
    const answer = cli("PING");
    if (answer !== "PONG") throw new Error(`redis-server answered ${answer} to PING`);
    return running;
  }

  let running = await launch();
  return {
    port,
    url: `redis://default:${PASSWORD}@127.0.0.1:${port}`,
    folder,
    password: PASSWORD,
    cli,
    stop: () => running.stop(),
    kill: () => {
      running.kill("SIGKILL");
      return running.stop();
    },
    restart: async () => {
      await running.stop();
      running = await launch();
    },
  };
}

function configurationOf(folder: string, port: number, options: RedisOptions): string {
  return `bind 127.0.0.1
port ${port}
protected-mode yes
user default on >${PASSWORD} ~* &* +@all
dir "${folder}"
daemonize no
logfile ""
save ""
appendonly ${(options.appendonly ?? true) ? "yes" : "no"}
appendfsync ${options.appendfsync ?? "always"}
maxmemory-policy ${options.policy ?? "noeviction"}
${(options.lines ?? []).join("\n")}
masterauth ${PASSWORD}
repl-diskless-sync-delay 0
${options.replicaOf === undefined ? "" : `replicaof 127.0.0.1 ${options.replicaOf}`}
`;
}
