/** Rows of the broker: its steps over TLS with every row on the disk, against what their cryptography alone costs. */
import { startRedis } from "../test/servers/redis.ts";
import { atRedis, startBroker, type BrokerPlace } from "./broker.ts";
import { work } from "./child.ts";
import { startCluster } from "./cluster.ts";
import { enrolHere, type Enrolled, type Member } from "./enrolled.ts";
import { resident } from "./resident.ts";
import type { Figure, Row, Sides } from "./row.ts";
import { declaration, lineTo, presentation, ticketIn, type Line } from "./steps.ts";

const WARM = 2_000;
const COUNT = 2_000;
/** No receipt is due in these rows: nobody confirms. */
const NO_RELAY = 9;

interface Asking {
  readonly place: BrokerPlace;
  readonly gateway: Enrolled;
  readonly alice: Member;
  readonly bob: Member;
  readonly line: Line;
  stop(): Promise<void>;
}

/** One client process with two mailboxes. */
async function startAsking(order: {
  readonly table: object;
  readonly password: string;
  readonly count?: number;
  readonly workers?: number;
}): Promise<Asking> {
  const place = await startBroker({ ...order, relayPort: NO_RELAY });
  const gateway = await enrolHere(place, "a.example", "b.example");
  const [alice, bob] = [await gateway.enrol("alice@a.example"), await gateway.enrol("bob@b.example")];
  const line = lineTo(gateway);
  return {
    place,
    gateway,
    alice,
    bob,
    line,
    async stop() {
      await Promise.all([line.close(), gateway.client.close()]);
      await place.stop();
    },
  };
}

const declarations = ({ gateway, alice, bob }: Asking, count: number): Buffer[] =>
  Array.from({ length: count }, () => declaration(gateway, alice, bob));

/** Presentations of letters that are declared for them. */
async function presentations(asking: Asking, count: number): Promise<Buffer[]> {
  const { gateway, alice, bob, line } = asking;
  const answers = await line.ask("/v1/declare", declarations(asking, count));
  return answers.map((answer) => presentation(gateway, bob, ticketIn(gateway, alice, answer)));
}

const REQUESTS = { declare: async (asking: Asking, count: number) => declarations(asking, count), present: presentations } as const;
type Step = keyof typeof REQUESTS;

/** Answers a second, and the most memory of a broker's process. */
async function rate(asking: Asking, step: Step, count = COUNT): Promise<Figure> {
  const requests = await REQUESTS[step](asking, count);
  const from = performance.now();
  await asking.line.ask(`/v1/${step}`, requests);
  const value = count / ((performance.now() - from) / 1_000);
  return { value, memory: Math.max(...asking.place.processes.map(({ pid }) => resident(pid, "VmHWM"))) };
}

const againstCryptography = (step: Step) => async (): Promise<Sides> => {
  const redis = await startRedis();
  const asking = await startAsking(atRedis(redis));
  await rate(asking, step, WARM);
  return {
    ours: () => rate(asking, step),
    peer: () => work("steps.ts", step),
    async stop() {
      await asking.stop();
      await redis.stop();
    },
  };
};

/** Declarations at one broker against declarations at another. @param tables of both */
async function against(ours: Asking, peer: Asking, tables: readonly { stop(): Promise<void> }[]): Promise<Sides> {
  for (const asking of [ours, peer]) await rate(asking, "declare", WARM);
  return {
    ours: () => rate(ours, "declare"),
    peer: () => rate(peer, "declare"),
    async stop() {
      await Promise.all([ours.stop(), peer.stop()]);
      await Promise.all(tables.map((table) => table.stop()));
    },
  };
}

/** Two processes and one, each on a Redis of its own. */
async function twoWorkersAgainstOne(): Promise<Sides> {
  const [many, few] = [await startRedis(), await startRedis()];
  return against(await startAsking({ ...atRedis(many), workers: 2 }), await startAsking(atRedis(few)), [many, few]);
}

/** @param count processes at the cluster */
const clusterAgainstOne = (count: number) => async (): Promise<Sides> => {
  const [redis, cluster] = [await startRedis(), await startCluster()];
  return against(await startAsking({ ...cluster, count }), await startAsking(atRedis(redis)), [redis, cluster]);
};

export const broker: readonly Row[] = [
  {
    name: "declare",
    what: "S1-S3 for one recipient, 64 under way, every row synced",
    peer: "its cryptography alone, one process",
    unit: "requests/s",
    goal: { atLeast: 0.6 },
    prepare: againstCryptography("declare"),
  },
  {
    name: "release",
    what: "S6-S7, 64 under way, every row synced",
    peer: "its cryptography alone, one process",
    unit: "requests/s",
    goal: { atLeast: 0.6 },
    prepare: againstCryptography("present"),
  },
  {
    name: "workers",
    what: "S1-S3, a broker of two worker processes",
    peer: "a broker of one process",
    unit: "requests/s",
    goal: { atLeast: 1.3 },
    prepare: twoWorkersAgainstOne,
  },
  ...([1, 2] as const).map((count): Row => ({
    name: `declare-cluster-${count}`,
    what: `S1-S3, ${count === 1 ? "one broker" : "two brokers"} on a Redis Cluster, 3 primaries and 3 replicas`,
    peer: "one broker on one Redis",
    unit: "requests/s",
    isExtra: true,
    prepare: clusterAgainstOne(count),
  })),
];
