/** npm run power: cuts the power of either gateway after everything that it does to its disk. */
import { expect, test } from "@jest/globals";
import { runPower, type Machine } from "./power.ts";

const setting = (name: string): string | undefined => process.env[`KAKITOME_POWER_${name}`];

test("nothing is lost, doubled or shown, whenever the power fails", async () => {
  const machines = (setting("MACHINES")?.split(",") ?? ["a", "b"]) as Machine[];
  const seeds = Array.from({ length: Number(setting("SEEDS") ?? 2) }, (_none, at) => at + 1);
  const say = (line: string): void => void process.stdout.write(`${line}\n`);
  const [from, every] = [Number(setting("FROM") ?? 1), Number(setting("EVERY") ?? 1)];
  const results = await runPower({ machines, losses: ["unsynced", "contents", ...seeds], from, every, say });
  for (const { machine, loss, cuts, findings } of results) say(`${machine} ${loss}: ${cuts} cuts, ${findings.length} findings`);
  expect(results.flatMap(({ findings }) => findings)).toEqual([]);
}, 86_400_000);
