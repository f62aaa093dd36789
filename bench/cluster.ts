/** A real Redis Cluster on the loopback: three primaries, each with a replica, `appendfsync always` at all of them. */
import { setTimeout as pause } from "node:timers/promises";
import { freePort } from "../test/servers/ports.ts";
import { startRedis, type RedisServer } from "../test/servers/redis.ts";

export interface RedisCluster {
  /** Section `table` of a broker's file, but for the password. */
  readonly table: object;
  readonly password: string;
  stop(): Promise<void>;
}

const NODES = 6;

export async function startCluster(): Promise<RedisCluster> {
  const nodes: RedisServer[] = [];
  for (let at = 0; at < NODES; at++) nodes.push(await startRedis({ lines: ["cluster-enabled yes", `cluster-port ${await freePort()}`] }));
  const [first] = nodes;
  if (!first) throw new Error("a cluster without nodes");
  const addresses = nodes.map(({ port }) => `127.0.0.1:${port}`);
  first.cli("--no-auth-warning", "--cluster", "create", ...addresses, "--cluster-replicas", "1", "--cluster-yes");
  const isWhole = (node: RedisServer): boolean => /cluster_state:ok[^]*cluster_known_nodes:6/u.test(node.cli("CLUSTER", "INFO"));
  while (!nodes.every(isWhole)) await pause(100);
  return {
    table: { cluster: addresses.slice(0, 3) },
    password: first.password,
    async stop() {
      await Promise.all(nodes.map((node) => node.stop()));
    },
  };
}
