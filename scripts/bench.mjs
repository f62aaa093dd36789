// npm run bench: prints how fast and how small the main jobs are, each against a named peer on this machine, in one run (docs/performance.md).
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, install } from "./ready.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
install();
build();
const run = (...args) => spawnSync(process.execPath, args, { cwd: root, stdio: "inherit" }).status ?? 1;
// What is measured is compiled before: a compiler in the same process would count as our memory.
const compiled = run(join("node_modules", "typescript", "bin", "tsc"), "-p", "tsconfig.bench.json");
process.exit(compiled || run("--import", "./scripts/typescript.mjs", join("bench", "main.ts"), ...process.argv.slice(2)));
