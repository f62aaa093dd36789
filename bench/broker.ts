/** The built broker, one process or several on one table, with no limit on what a gateway asks. */
import { cpSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { freePort } from "../test/servers/ports.ts";
import { temporaryFolder } from "../test/servers/process.ts";
import { must, startKakitome, type Process } from "../test/walks/kakitome.ts";

export interface BrokerPlace {
  /** Its name, and where its first process listens. */
  readonly url: string;
  /** Where each process listens. */
  readonly doors: readonly string[];
  readonly processes: readonly Process[];
  /** A token for these domains, and what a gateway compares. */
  invite(...domains: readonly string[]): { readonly token: string; readonly fingerprint: string };
  stop(): Promise<void>;
}

export interface BrokerOrder {
  /** Section `table` of its file, but for the password. */
  readonly table: object;
  readonly password: string;
  /** Where receipts go. */
  readonly relayPort: number;
  /** Brokers; one where left out. */
  readonly count?: number;
  /** Processes of each; one where left out. */
  readonly workers?: number;
}

const UNLIMITED = { perGateway: { burst: 1_000_000, perSecond: 1_000_000 } };

export async function startBroker({ table, password, relayPort, count = 1, workers = 1 }: BrokerOrder): Promise<BrokerPlace> {
  const home = await temporaryFolder("bench-broker");
  const ports: number[] = [];
  while (ports.length < count) ports.push(await freePort());
  const doors = ports.map((port) => `https://127.0.0.1:${port}`);
  const [url = ""] = doors;
  const relay = ["--relay", `127.0.0.1:${relayPort}`, "--relay-tls", "none"];
  must(["init", "broker", "--dir", home, "--url", url, "--receipts-from", "receipts@broker.example", ...relay]);
  writeFileSync(join(home, "redis.password"), password, { mode: 0o600 });
  const files = ports.map((port, at) => {
    const [file, data] = [join(home, `broker${at}.yaml`), at === 0 ? "data" : `data${at}`];
    if (at > 0) cpSync(join(home, "data"), join(home, data), { recursive: true });
    writeFileSync(
      file,
      stringify({
        url,
        listen: `127.0.0.1:${port}`,
        data,
        dayKeys: "days",
        table: { ...table, passwordFile: "redis.password" },
        limits: UNLIMITED,
        workers,
        receipts: { from: "receipts@broker.example", relay: { host: "127.0.0.1", port: relayPort, tls: "none" } },
      }),
    );
    return file;
  });
  const processes = files.map((file) => startKakitome(["broker", "run", "--config", file]));
  for (const broker of processes) await broker.until("broker.started", ({ event }) => event === "broker.started");
  return {
    url,
    doors,
    processes,
    invite(...domains) {
      const wanted = domains.flatMap((domain) => ["--for", domain]);
      return JSON.parse(must(["broker", "invite", "--config", files[0] ?? "", ...wanted, "--json"])) as {
        token: string;
        fingerprint: string;
      };
    },
    async stop() {
      await Promise.all(processes.map((broker) => broker.stop()));
    },
  };
}

/** Section `table` for one Redis of the tests. */
export const atRedis = ({ port, password }: { readonly port: number; readonly password: string }) => ({
  table: { redis: `redis://default@127.0.0.1:${port}` },
  password,
});
