// npm run bench: prints how fast and how small the main jobs are, each against a named peer on this machine, in one run (docs/performance.md).
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, install } from "./ready.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
install();
build();
const args = ["--import", "./scripts/typescript.mjs", join("bench", "main.ts"), ...process.argv.slice(2)];
process.exit(spawnSync(process.execPath, args, { cwd: root, stdio: "inherit" }).status ?? 1);
