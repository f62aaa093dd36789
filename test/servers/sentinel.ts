/** A real Redis Sentinel for tests: watches one primary, and makes its replica the primary when it dies. */
import { execFileSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "./ports.ts";
import { start, temporaryFolder } from "./process.ts";
import type { RedisServer } from "./redis.ts";

export interface Sentinel {
  readonly port: number;
  /** The name under which it knows the primary. */
  readonly name: string;
  /** How often it has made another server the primary. */
  switches(): number;
  /** What redis-cli prints. */
  cli(...args: string[]): string;
  stop(): Promise<void>;
}

export async function startSentinel(primary: RedisServer): Promise<Sentinel> {
  const folder = await temporaryFolder("sentinel");
  const [port, name] = [await freePort(), "kakitome"];
  const configuration = join(folder, "sentinel.conf"); // it writes into the file
  const lines = [
    "bind 127.0.0.1",
    `port ${port}`,
    `dir "${folder}"`,
    'logfile ""',
    `sentinel monitor ${name} 127.0.0.1 ${primary.port} 1`,
    `sentinel auth-pass ${name} ${primary.password}`,
    `sentinel down-after-milliseconds ${name} 1500`, // on a busy machine a server that lives can be silent for half a second
    `sentinel failover-timeout ${name} 3000`,
  ];
  await writeFile(configuration, `${lines.join("\n")}\n`, { mode: 0o600 });
  const running = await start({
    command: "redis-server",
    args: [configuration, "--sentinel"],
    folder,
    ready: { line: /\+monitor master/ },
  });
  const cli = (...args: string[]) => execFileSync("redis-cli", ["-h", "127.0.0.1", "-p", String(port), ...args], { encoding: "utf8" });
  return { port, name, cli, switches: () => running.output().split("+switch-master").length - 1, stop: () => running.stop() };
}
