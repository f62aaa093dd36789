/** Prints the table: each row ours, the named peer, their ratio, both figures, our memory; medians of interleaved runs. `npm run bench -- --help` */
import { cpus, totalmem } from "node:os";
import { parseArgs } from "node:util";
import { median, type Figure, type Remark, type Row, type Sides, type Wishes } from "./row.ts";
import { broker } from "./rows-broker.ts";
import { crypto } from "./rows-crypto.ts";
import { outbound } from "./rows-outbound.ts";
import { receiving } from "./rows-receiving.ts";
import { steady } from "./rows-steady.ts";

const ROWS: readonly Row[] = [...crypto, ...outbound, ...broker, ...receiving, ...steady];
const namesOf = (rows: readonly Row[]): string => rows.map(({ name }) => name).join(" ");

const HELP = `npm run bench                      all rows but those that take long
npm run bench -- --only NAME,NAME  these: ${namesOf(ROWS.filter(({ isExtra }) => !isExtra))}
                                   and only so: ${namesOf(ROWS.filter(({ isExtra }) => isExtra))}
npm run bench -- --runs 5          runs of each side, interleaved
npm run bench -- --minutes 10      how long "steady" goes on
npm run bench -- --quick           few letters and mailboxes, to see whether it works
npm run bench -- --json            one JSON document`;

interface Measured {
  readonly row: Row;
  readonly ours: number;
  readonly peer: number;
  readonly ratio: number;
  readonly memory: number | undefined;
  /** Of the last run. */
  readonly remarks: readonly Remark[];
  /** Undefined where nothing is asked of it. */
  readonly isMet: boolean | undefined;
}

async function measure(row: Row, runs: number, wishes: Wishes): Promise<Measured> {
  const sides: Sides = await row.prepare(wishes);
  const [ours, peer]: [Figure[], Figure[]] = [[], []];
  try {
    for (let run = 0; run < Math.min(runs, row.mostRuns ?? runs); run++) {
      const both = [async () => void ours.push(await sides.ours()), async () => void peer.push(await sides.peer())];
      for (const side of run % 2 === 0 ? both : both.toReversed()) await side();
    }
  } finally {
    await sides.stop?.();
  }
  const of = (figures: readonly Figure[]): number => median(figures.map(({ value }) => value));
  const memories = ours.flatMap(({ memory }) => (memory === undefined ? [] : [memory]));
  const memory = memories.length > 0 ? Math.max(...memories) : undefined;
  const remarks = [...(ours.at(-1)?.remarks ?? []), ...(peer.at(-1)?.remarks ?? [])];
  const measured = { row, ours: of(ours), peer: of(peer), ratio: of(ours) / of(peer), memory, remarks };
  return { ...measured, isMet: isMet(measured) };
}

function isMet({ row, ours, peer, ratio, memory, remarks }: Omit<Measured, "isMet">): boolean | undefined {
  const { goal, mostMemory } = row;
  if (!goal) return undefined;
  const isSmall = mostMemory === undefined || (memory ?? 0) <= mostMemory;
  if (!isSmall || remarks.some((remark) => remark.isMet === false)) return false;
  if ("atMostBeyond" in goal) return ours - peer <= goal.atMostBeyond;
  return "atLeast" in goal ? ratio >= goal.atLeast : ratio <= goal.atMost;
}

const round = (value: number): string => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));

function goalOf({ goal, mostMemory, unit }: Row): string {
  if (!goal) return "stated";
  if ("atMostBeyond" in goal) return `<= ${goal.atMostBeyond} ${unit} beyond`;
  const ratio = "atLeast" in goal ? `>= ${goal.atLeast}` : `<= ${goal.atMost}`;
  return mostMemory === undefined ? ratio : `${ratio}, < ${mostMemory} MiB`;
}

function lineOf({ row, ours, peer, ratio, memory, isMet }: Measured): string {
  const { name, what, unit, goal } = row;
  const told = goal && "atMostBeyond" in goal ? `${round(ours - peer)} ${unit} beyond` : ratio.toFixed(2);
  const cells = [name, what, row.peer, `${round(ours)} ${unit}`, `${round(peer)} ${unit}`, told, goalOf(row)];
  const met = isMet === undefined ? "" : isMet ? "yes" : "**no**";
  return `| ${[...cells, memory === undefined ? "" : memory.toFixed(0), met].join(" | ")} |`;
}

const documentOf = ({ row: { name, what, peer: peerName, unit, goal, mostMemory }, ...figures }: Measured): object => ({
  name,
  what,
  peerName,
  unit,
  goal,
  mostMemory,
  ...figures,
});

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    runs: { type: "string" },
    minutes: { type: "string" },
    quick: { type: "boolean" },
    json: { type: "boolean" },
    help: { type: "boolean" },
  },
});
const wanted = values.only?.split(",");
const unknown = wanted?.filter((name) => !ROWS.some((row) => row.name === name)) ?? [];
if (values.help || unknown.length > 0) {
  if (unknown.length > 0) console.error(`There is no row ${unknown.join(", ")}.`);
  console.log(HELP);
  process.exit(unknown.length > 0 ? 2 : 0);
}
const runs = Number(values.runs ?? 5);
const wishes: Wishes = { minutes: Number(values.minutes ?? 10), isQuick: values.quick ?? false };
const results: Measured[] = [];
if (!values.json) {
  const [cpu] = cpus();
  const machine = `${cpus().length} x ${cpu?.model}, ${Math.round(totalmem() / 2 ** 30)} GiB, Node.js ${process.versions.node}`;
  console.log(`${new Date().toISOString().slice(0, 10)}, ${machine}; medians of ${runs} interleaved runs\n`);
  console.log("| row | ours | peer | ours | peer | ratio | goal | MiB | met |\n|---|---|---|---|---|---|---|---|---|");
}
for (const row of ROWS.filter(({ name, isExtra }) => wanted?.includes(name) ?? !isExtra)) {
  const measured = await measure(row, runs, wishes);
  results.push(measured);
  if (!values.json) console.log(lineOf(measured));
}
if (values.json) console.log(JSON.stringify(results.map(documentOf), null, 2));
else {
  const remarks = results.flatMap((result) => result.remarks.map((remark) => ({ name: result.row.name, ...remark })));
  if (remarks.length > 0) console.log("");
  for (const { name, text, isMet } of remarks) console.log(`- ${name}: ${text}${isMet === false ? ", **not met**" : ""}`);
}
process.exit(0);
