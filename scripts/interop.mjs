// npm run interop: what stock tools make of our mail, and we of theirs. Writes docs/interop.md; fails where it differs from the one that was there.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { installTools } from "../test/interop/tools.mjs";
import { build, install } from "./ready.mjs";

const page = join(dirname(fileURLToPath(import.meta.url)), "..", "docs", "interop.md");

/** Lines that only one of the two texts has, in order. */
function difference(old, now) {
  const lines = (text) => text.split("\n");
  const gone = lines(old).filter((text) => !lines(now).includes(text));
  const come = lines(now).filter((text) => !lines(old).includes(text));
  return [...gone.map((text) => `- ${text}`), ...come.map((text) => `+ ${text}`)].join("\n") || "(the order of the lines)";
}

install();
build();
installTools();
const { brokenCells, runMatrix, write } = await import("../test/interop/matrix.mjs"); // needs what was built

const old = existsSync(page) ? readFileSync(page, "utf8") : undefined;
const found = await runMatrix();
const kept = old?.includes("## Corpora") ? old.slice(old.indexOf("## Corpora")) : undefined;
const text = write(found, kept);
const broken = brokenCells(found);
for (const row of broken) console.error(`broken: ${row}`);

if (text === old) console.log("docs/interop.md is as it was.");
else if (old === undefined || process.argv.includes("--write")) {
  writeFileSync(page, text);
  console.log("docs/interop.md was written.");
} else {
  console.log(`docs/interop.md would change; npm run interop -- --write accepts it.\n${difference(old, text)}`);
  process.exitCode = 1;
}
if (broken.length > 0) process.exitCode = 1;
