/** npm run chaos: kills at random for as long as the environment says. */
import { expect, test } from "@jest/globals";
import { inWords, runChaos } from "./chaos.ts";

test("nothing is lost, doubled or shown, whatever dies whenever", async () => {
  const say = (line: string): void => void process.stdout.write(`${line}\n`);
  const minutes = Number(process.env["KAKITOME_CHAOS_MINUTES"] ?? 10);
  const seed = Number(process.env["KAKITOME_CHAOS_SEED"] ?? Date.now() % 1_000_000);
  const rate = Number(process.env["KAKITOME_CHAOS_RATE"] ?? 4);
  const workers = Number(process.env["KAKITOME_CHAOS_WORKERS"] ?? 1);
  say(`${minutes} minutes, seed ${seed}, ${rate} mails a second, ${workers} workers`);
  const chaos = await runChaos({ minutes, seed, rate, workers, say });
  say(inWords(chaos));
  expect(chaos.findings).toEqual([]);
}, 86_400_000);
