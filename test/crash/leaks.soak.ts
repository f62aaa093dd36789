/** npm run leaks: a thousand letters with kills, then a search for their texts and keys on every disk. */
import { expect, test } from "@jest/globals";
import { runLeaks } from "./leaks.ts";

test("nothing of the letters and no key stands in logs, spool, journal, Redis or temporary files", async () => {
  const mails = Number(process.env["KAKITOME_LEAKS_MAILS"] ?? 1_000);
  const seed = Number(process.env["KAKITOME_LEAKS_SEED"] ?? 1);
  const { found, findings, ...counts } = await runLeaks({ mails, seed, between: 4_000 });
  process.stdout.write(`${JSON.stringify(counts)}; found ${found.length}\n`);
  expect([found, findings]).toEqual([[], []]);
}, 86_400_000);
