/** A short slice of the fuzzing, and the sweep over every bit of whole letters; each in a process of its own, at full speed. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "@jest/globals";

const LIMIT_MS = 600_000;

/** Runs a program of this folder. @returns what it printed @throws Error where it fails, with its words */
async function run(program: string, ...args: string[]): Promise<string> {
  const options = { cwd: join(import.meta.dirname, "..", ".."), env: { ...process.env, NODE_NO_WARNINGS: "1" } };
  const all = ["--import", "./scripts/typescript.mjs", join(import.meta.dirname, program), ...args];
  return (await promisify(execFile)(process.execPath, all, options)).stdout;
}

test(
  "of more than 50,000 letters with one bit flipped not one opens, each is refused by a Fault within 250 ms",
  async () => {
    const { mutants, ends, opened } = JSON.parse(await run("sweep.ts")) as {
      mutants: number;
      ends: Record<string, number>;
      opened: string[];
    };
    expect(opened).toEqual([]);
    expect(mutants).toBeGreaterThan(50_000);
    expect(["cannot-open", "forbidden", "malformed", "session-gone"]).toEqual(expect.arrayContaining(Object.keys(ends)));
  },
  LIMIT_MS,
);

test(
  "twenty seconds of mutated input to ten readers find nothing",
  async () => {
    const said = await run("run.ts", "--minutes", "0.33", "--seed", "20261127");
    expect(said).toContain("nothing found");
    expect(said.match(/[a-z]+ [1-9]\d*/gu)?.length).toBeGreaterThanOrEqual(10); // each one had its turn
  },
  LIMIT_MS,
);
