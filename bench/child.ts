/** Work in a process of its own, so that one side's memory and compiled code are not the other's: it prints one line of JSON. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import type { Figure } from "./row.ts";

/** Where tsconfig.bench.json puts the sides. */
export const compiled = join(import.meta.dirname, "..", "node_modules", ".cache", "bench", "bench", "sides");

/** Runs a program that prints a `Figure`. @throws Error with what it said where it fails */
export function figureOf(command: string, args: readonly string[]): Promise<Figure> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
    const [said, complained]: [string[], string[]] = [[], []];
    child.stdout.on("data", (chunk: Buffer) => said.push(chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => complained.push(chunk.toString()));
    child.on("error", reject);
    child.on("close", (status) => {
      if (status === 0) resolve(JSON.parse(said.join("")) as Figure);
      else reject(new Error(`${command} ${args.join(" ")} exited ${status}: ${complained.join("")}`));
    });
  });
}

/** Runs a file of bench/sides in Node.js. */
export function work(file: string, ...args: readonly string[]): Promise<Figure> {
  return figureOf(process.execPath, [join(compiled, file.replace(/ts$/u, "js")), ...args]);
}
