/** Fuzzes the targets in turn: `--minutes N` or `--rounds N` of each, `--seed N`, `--only NAME`. The first find is written to a file, and named with all that repeats it. */
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { liveTargets } from "./live.ts";
import { Chance, mutant } from "./mutate.ts";
import { pureTargets, type Target } from "./targets.ts";

const option = { type: "string" } as const;
const { values } = parseArgs({ options: { minutes: option, rounds: option, seed: option, only: option } });
const seed = Number(values.seed ?? Date.now() % 2 ** 31);
const rounds = Number(values.rounds ?? Number.POSITIVE_INFINITY);
/** Time of one target before it is the next one's turn. */
const TURN_MS = 2_000;

let current: { target: Target; input: Buffer; round: number } | undefined;

function found(thrown: unknown): never {
  const { target, input, round } = current ?? {};
  const file = join(tmpdir(), `kakitome-find-${target?.name}-${seed}-${round}`);
  if (input) writeFileSync(file, input);
  console.error(`FIND in ${target?.name}: seed ${seed}, round ${round}, input in ${file}`);
  console.error(thrown);
  process.exit(1);
}
process.on("uncaughtException", found).on("unhandledRejection", found);

const all = [...(await pureTargets()), ...(await liveTargets())];
const targets = all.filter(({ name }) => values.only === undefined || values.only === name);
if (targets.length === 0) throw new Error(`no such target; there are ${all.map(({ name }) => name).join(", ")}`);
const until = Date.now() + Number(values.minutes ?? (values.rounds ? 60 : 1)) * 60_000;
const counts = new Map<Target, number>(targets.map((target) => [target, 0]));

async function turn(target: Target): Promise<void> {
  const end = Math.min(Date.now() + TURN_MS, until);
  for (let round = counts.get(target) ?? 0; round < rounds && Date.now() < end; round++) {
    current = { target, input: mutant(target.seeds, new Chance(seed + 7_919 * round)), round };
    counts.set(target, round + 1);
    const begun = performance.now();
    try {
      await target.run(current.input);
    } catch (thrown) {
      found(thrown);
    }
    if (performance.now() - begun > 10_000) found(new Error("more than ten seconds for one input"));
  }
}

console.log(`seed ${seed}: ${targets.map(({ name }) => name).join(", ")}`);
while (Date.now() < until && targets.some((target) => (counts.get(target) ?? 0) < rounds)) for (const target of targets) await turn(target);
for (const target of all) await target.close?.();
console.log([...counts].map(([{ name }, count]) => `${name} ${count}`).join(", "));
console.log("nothing found");
process.exit(0);
