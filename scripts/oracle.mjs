// npm run oracle: measures whether the time of a refusal tells what is wrong with a ticket; fails where Welch's t reaches 4.5.
// "npm run oracle -- --pair unknown,used --count 2000": another pair of unknown, foreign, expired, withdrawn, used; another number of requests.
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { install } from "./ready.mjs";

const { values } = parseArgs({ options: { pair: { type: "string" }, count: { type: "string" } } });
const pairs = values.pair ? [values.pair] : ["unknown,foreign", "unknown,expired", "unknown,used"];
const root = join(dirname(fileURLToPath(import.meta.url)), "..");

install();
const jest = ["--experimental-vm-modules", join("node_modules", "jest", "bin", "jest.js")];
const options = ["--runInBand", "--silent=false", "--testMatch", "<rootDir>/test/system/oracle.soak.ts"];
let failed = 0;
for (const pair of pairs) {
  const env = {
    ...process.env,
    NODE_NO_WARNINGS: "1",
    KAKITOME_ORACLE_PAIR: pair,
    ...(values.count && { KAKITOME_ORACLE_COUNT: values.count }),
  };
  const done = spawnSync(process.execPath, [...jest, ...options], { cwd: root, env, stdio: "inherit" });
  if (done.status !== 0) failed++;
}
process.exit(failed === 0 ? 0 : 1);
