/** The row of mailboxes in which nothing happens: what each of them costs a gateway, against bare connections in IDLE. */
import { readFileSync, writeFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { work } from "./child.ts";
import { PASSWORD, startReceiving } from "./receiving.ts";
import { cpuSeconds, resident } from "./resident.ts";
import type { Figure, Row, Sides, Wishes } from "./row.ts";

const [MANY, FEW] = [1_000, 50];
const WITHIN_MS = 10 * 60_000;
/** Until the engine has cleared away what the logins left behind: seen 42 to 45 seconds after the last one, and in one run not within a minute. */
const SETTLE_MS = 120_000;
const REST_MS = 30_000;
const MOST_CPU = 0.02;

/** Dovecot has a process for each connection, and each of them an instance of inotify. */
const ROOMY = `
default_client_limit = 8000
default_process_limit = 4000
service imap-login {
  service_count = 0
  client_limit = 4000
  process_min_avail = 2
  vsz_limit = 1G
}
service imap {
  process_limit = 4000
}
service anvil {
  client_limit = 8000
}
service auth {
  client_limit = 8000
}
service stats {
  client_limit = 8000
}
`;

const INOTIFY = "/proc/sys/fs/inotify/max_user_instances";

/** Lets one user have so many instances of inotify. @returns what sets the former limit again @throws Error where only root can */
function raiseInotify(wanted: number): () => void {
  const before = readFileSync(INOTIFY, "utf8");
  if (Number(before) >= wanted) return () => undefined;
  try {
    writeFileSync(INOTIFY, String(wanted));
  } catch (cause) {
    throw new Error(`${INOTIFY} is ${before.trim()}; ${wanted} are needed, and root can say so`, { cause });
  }
  return () => writeFileSync(INOTIFY, before);
}

async function prepare({ isQuick }: Wishes): Promise<Sides> {
  const count = isQuick ? FEW : MANY;
  const addresses = Array.from({ length: count }, (_none, at) => `mailbox${at}@b.example`);
  const lower = raiseInotify(2 * count);
  const place = await startReceiving(["single@b.example", ...addresses], ROOMY);
  const single = await place.gateway("single", ["single@b.example"]).start();
  await pause(SETTLE_MS);
  const small = resident(single.pid, "VmRSS");
  await single.stop();
  const many = place.gateway("many", addresses);
  const from = performance.now();
  await (await many.start(WITHIN_MS)).stop();
  const enrolled = `enrolling ${count} mailboxes took ${Math.round((performance.now() - from) / 1_000)} s`;
  const { imapsPort, ca } = place.dovecot;
  const bare = async (users: readonly string[]): Promise<number> => {
    const { value } = await work("idle.ts", String(imapsPort), ca, PASSWORD, String(SETTLE_MS), ...users);
    return value;
  };
  /** KiB for each mailbox but the first. */
  const each = (all: number, one: number): number => ((all - one) * 1_024) / (count - 1);
  return {
    async ours(): Promise<Figure> {
      const gateway = await many.start(WITHIN_MS);
      await pause(SETTLE_MS);
      const memory = resident(gateway.pid, "VmRSS");
      const before = cpuSeconds(gateway.pid);
      await pause(REST_MS);
      const cpu = (cpuSeconds(gateway.pid) - before) / (REST_MS / 1_000);
      await gateway.stop();
      const rest = { text: `at rest ${(cpu * 100).toFixed(1)} % of a core (goal < 2 %)`, isMet: cpu < MOST_CPU };
      const resting = { text: `${memory.toFixed(0)} MiB with ${count} mailboxes, ${small.toFixed(0)} MiB with one` };
      return { value: each(memory, small), memory, remarks: [rest, resting, { text: enrolled }] };
    },
    peer: async () => ({ value: each(await bare(addresses), await bare(addresses.slice(0, 1))) }),
    async stop() {
      await place.stop();
      lower();
    },
  };
}

export const idle: Row = {
  name: "idle",
  what: "memory for each of 1,000 idle mailboxes over TLS",
  peer: "imapflow connections in IDLE, one process",
  unit: "KiB",
  goal: { atMost: 1.5 },
  mostRuns: 1,
  prepare,
};
