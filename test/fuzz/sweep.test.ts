/** The sweep over every bit of whole letters, in a process of its own at full speed (sweep.ts). */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "@jest/globals";

const root = join(import.meta.dirname, "..", "..");

test("of more than 50,000 letters with one bit flipped not one opens, each is refused by a Fault within 250 ms", async () => {
  const run = promisify(execFile);
  const args = ["--import", "./scripts/typescript.mjs", join(import.meta.dirname, "sweep.ts")];
  const { stdout } = await run(process.execPath, args, { cwd: root });
  const { mutants, ends, opened } = JSON.parse(stdout) as { mutants: number; ends: Record<string, number>; opened: string[] };
  expect(opened).toEqual([]);
  expect(mutants).toBeGreaterThan(50_000);
  expect(["cannot-open", "forbidden", "malformed", "session-gone"]).toEqual(expect.arrayContaining(Object.keys(ends)));
}, 600_000);
