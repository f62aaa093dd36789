// Runs a long test that npm test leaves out, on a clone that is made ready first.
import { spawnSync } from "node:child_process";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build, install } from "./ready.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

/** Runs test/crash/NAME.soak.ts to its end; exits as it does. Each option of the command line becomes the environment variable beside it. */
export function runSoak(name, variables) {
  const { values } = parseArgs({ options: Object.fromEntries(Object.keys(variables).map((option) => [option, { type: "string" }])) });
  if (values.out !== undefined) values.out = resolve(values.out);
  const given = Object.entries(values).map(([option, value]) => [variables[option], value]);
  if (process.getuid?.() !== 0) {
    console.error("Postfix runs as root only: start this as root.");
    process.exit(1);
  }
  install();
  build();
  const jest = ["--experimental-vm-modules", join("node_modules", "jest", "bin", "jest.js")];
  const options = ["--runInBand", "--testMatch", `<rootDir>/test/crash/${name}.soak.ts`];
  const env = { ...process.env, NODE_NO_WARNINGS: "1", ...Object.fromEntries(given) };
  const done = spawnSync(process.execPath, [...jest, ...options], { cwd: root, env, stdio: "inherit" });
  process.exit(done.status ?? 1);
}
