/** npm run crash: kills at the points, shapes and repeats that the environment names. */
import { writeFileSync } from "node:fs";
import { expect, test } from "@jest/globals";
import { POINTS } from "./kill.ts";
import { asMarkdown, isGood, runMatrix } from "./matrix.ts";

const setting = (name: string): string | undefined => process.env[`KAKITOME_CRASH_${name}`];

test("nothing is lost, doubled or shown, whichever process dies at whichever point", async () => {
  const points = setting("POINTS")?.split(",") ?? POINTS;
  const repeats = Number(setting("REPEATS") ?? 20);
  const say = (line: string): void => void process.stdout.write(`${line}\n`);
  const cells = await runMatrix({ points, repeats, lanes: Number(setting("WORKERS") ?? 1), say });
  const text = asMarkdown(cells, repeats);
  say(`\n${text}`);
  const out = setting("OUT");
  if (out !== undefined) writeFileSync(out, text);
  expect(cells.filter((cell) => !isGood(cell))).toEqual([]);
}, 86_400_000);
