/** Prints the table: each row ours, the named peer, their ratio, both figures, our memory; medians of interleaved runs. `npm run bench -- --help` */
import { cpus, totalmem } from "node:os";
import { parseArgs } from "node:util";
import { median, type Figure, type Row, type Sides } from "./row.ts";
import { crypto } from "./rows-crypto.ts";
import { outbound } from "./rows-outbound.ts";

const ROWS: readonly Row[] = [...crypto, ...outbound];

const HELP = `npm run bench                      all rows
npm run bench -- --only NAME,NAME  these: ${ROWS.map(({ name }) => name).join(" ")}
npm run bench -- --runs 5          runs of each side, interleaved
npm run bench -- --json            one JSON document`;

interface Measured {
  readonly row: Row;
  readonly ours: number;
  readonly peer: number;
  readonly ratio: number;
  readonly memory: number | undefined;
  readonly isMet: boolean;
}

async function measure(row: Row, runs: number): Promise<Measured> {
  const sides: Sides = await row.prepare();
  const [ours, peer]: [Figure[], Figure[]] = [[], []];
  try {
    for (let run = 0; run < runs; run++) {
      const both = [async () => void ours.push(await sides.ours()), async () => void peer.push(await sides.peer())];
      for (const side of run % 2 === 0 ? both : both.toReversed()) await side();
    }
  } finally {
    await sides.stop?.();
  }
  const of = (figures: readonly Figure[]): number => median(figures.map(({ value }) => value));
  const memories = ours.flatMap(({ memory }) => (memory === undefined ? [] : [memory]));
  const memory = memories.length > 0 ? Math.max(...memories) : undefined;
  const ratio = of(ours) / of(peer);
  const isRatioMet = "atLeast" in row.goal ? ratio >= row.goal.atLeast : ratio <= row.goal.atMost;
  const isMet = isRatioMet && (row.mostMemory === undefined || (memory ?? 0) <= row.mostMemory);
  return { row, ours: of(ours), peer: of(peer), ratio, memory, isMet };
}

const round = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));

function lineOf({ row, ours, peer, ratio, memory, isMet }: Measured): string {
  const ratioGoal = "atLeast" in row.goal ? `>= ${row.goal.atLeast}` : `<= ${row.goal.atMost}`;
  const goal = row.mostMemory === undefined ? ratioGoal : `${ratioGoal}, < ${row.mostMemory} MiB`;
  const cells = [row.name, row.what, row.peer, `${round(ours)} ${row.unit}`, `${round(peer)} ${row.unit}`, ratio.toFixed(2), goal];
  return `| ${[...cells, memory === undefined ? "" : memory.toFixed(0), isMet ? "yes" : "**no**"].join(" | ")} |`;
}

const { values } = parseArgs({
  options: { only: { type: "string" }, runs: { type: "string" }, json: { type: "boolean" }, help: { type: "boolean" } },
});
const wanted = values.only?.split(",");
const unknown = wanted?.filter((name) => !ROWS.some((row) => row.name === name)) ?? [];
if (values.help || unknown.length > 0) {
  if (unknown.length > 0) console.error(`There is no row ${unknown.join(", ")}.`);
  console.log(HELP);
  process.exit(unknown.length > 0 ? 2 : 0);
}
const runs = Number(values.runs ?? 5);
const results: Measured[] = [];
if (!values.json) {
  const [cpu] = cpus();
  const machine = `${cpus().length} x ${cpu?.model}, ${Math.round(totalmem() / 2 ** 30)} GiB, Node.js ${process.versions.node}`;
  console.log(`${new Date().toISOString().slice(0, 10)}, ${machine}; medians of ${runs} interleaved runs\n`);
  console.log("| row | ours | peer | ours | peer | ratio | goal | MiB | met |\n|---|---|---|---|---|---|---|---|---|");
}
for (const row of ROWS.filter(({ name }) => wanted?.includes(name) ?? true)) {
  const measured = await measure(row, runs);
  results.push(measured);
  if (!values.json) console.log(lineOf(measured));
}
if (values.json)
  console.log(
    JSON.stringify(
      results.map(({ row: { name, what, peer: peerName, unit, goal, mostMemory }, ...figures }) => ({
        name,
        what,
        peerName,
        unit,
        goal,
        mostMemory,
        ...figures,
      })),
      null,
      2,
    ),
  );
process.exit(0);
