// npm run fuzz -- [--minutes 1] [--seed N] [--only NAME]: throws mutated input at everything that a stranger can write to.
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { install } from "./ready.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
install();
const args = ["--import", "./scripts/typescript.mjs", join("test", "fuzz", "run.ts"), ...process.argv.slice(2)];
const done = spawnSync(process.execPath, args, { cwd: root, env: { ...process.env, NODE_NO_WARNINGS: "1" }, stdio: "inherit" });
process.exit(done.status ?? 1);
