/** The walls between the rooms hold: the linter that `npm run check` runs refuses every import that crosses one. */
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "@jest/globals";
import { temporaryFolder } from "./servers/process.ts";

const ROOT = join(import.meta.dirname, "..");
let house = "";

beforeAll(async () => {
  house = await temporaryFolder("walls");
  for (const file of [".oxlintrc.json", "tsconfig.json"]) copyFileSync(join(ROOT, file), join(house, file));
  symlinkSync(join(ROOT, "node_modules"), join(house, "node_modules"));
});

/** Lints a house with one file that imports one thing. */
function lint(file: string, specifier: string): string {
  const path = join(house, file);
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, `import * as probe from "${specifier}";\nexport const probed = probe;\n`);
  const { stdout } = spawnSync(join(ROOT, "node_modules", ".bin", "oxlint"), ["--deny-warnings", file], { cwd: house, encoding: "utf8" });
  rmSync(path);
  return stdout;
}

test.each([
  ["mime/probe.ts", "node:net", "mime/ does no I/O"],
  ["mime/probe.ts", "node:fs", "mime/ does no I/O"],
  ["mime/probe.ts", "../config/units.ts", "mime/ imports nothing of ours"],
  ["mime/cms.ts", "pkijs", "this package has its home elsewhere"],
  ["config/probe.ts", "../broker/client.ts", "config/ imports only mime/"],
  ["broker/probe.ts", "../gateway/main.ts", "broker/ imports only mime/ and config/"],
  ["broker/probe.ts", "imapflow", "this package has its home elsewhere"],
  ["gateway/probe.ts", "../broker/table.ts", "of the broker client.ts only"],
  ["gateway/probe.ts", "../cli/main.ts", "gateway/ imports mime/, config/"],
  ["gateway/probe.ts", "ioredis", "this package has its home elsewhere"],
  ["cli/probe.ts", "../broker/table.ts", "cli/ enters broker/ by client.ts or main.ts"],
  ["cli/demo/probe.ts", "../../broker/table.ts", "cli/ enters broker/ by client.ts or main.ts"],
])("%s that imports %s is refused: %s", (file, specifier, words) => {
  const output = lint(file, specifier);
  expect(output).toContain("no-restricted-imports");
  expect(output).toContain(words);
});

test.each([
  ["mime/probe.ts", "node:crypto"],
  ["broker/authority.ts", "pkijs"],
  ["config/probe.ts", "../mime/fault.ts"],
  ["broker/probe.ts", "../config/units.ts"],
  ["gateway/probe.ts", "../broker/client.ts"],
  ["cli/probe.ts", "../broker/main.ts"],
])("%s may import %s", (file, specifier) => {
  expect(lint(file, specifier)).not.toContain("no-restricted-imports");
});
