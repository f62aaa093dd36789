// npm run check: types, lint (with the walls between the rooms), format, unused code. Each runs to its end; exit 1 if any found something.
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { install } from "./ready.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const bin = (name) => join(root, "node_modules", ".bin", name);
const steps = [
  ["types", bin("tsc"), ["-p", "tsconfig.json"]],
  ["lint", bin("oxlint"), ["--deny-warnings", "."]],
  ["format", bin("oxfmt"), ["--check", "."]],
  ["unused code", bin("knip"), ["--no-progress"]],
];

install();
let failed = 0;
for (const [name, command, args] of steps) {
  const done = spawnSync(command, args, { cwd: root, encoding: "utf8" });
  const good = done.status === 0;
  console.log(`${good ? "ok  " : "FAIL"} ${name}`);
  if (!good) {
    failed++;
    console.log(`${done.stdout ?? ""}${done.stderr ?? ""}`.trimEnd());
  }
}
process.exit(failed === 0 ? 0 : 1);
