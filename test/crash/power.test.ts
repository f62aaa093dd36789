/** A slice of `npm run power`, and whether the power cut itself takes what it should: a cut that took nothing would find nothing. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { beforeEach, describe, expect, test } from "@jest/globals";
import { canRunPostfix } from "../servers/postfix.ts";
import { temporaryFolder } from "../servers/process.ts";
import { startNode } from "../walks/kakitome.ts";
import { Disk, type Loss } from "./power-cut.ts";
import { recording, runPower } from "./power.ts";

const DURABLE = pathToFileURL(join(import.meta.dirname, "..", "..", "dist", "gateway", "durable.js")).href;
const LOSSES: readonly Loss[] = ["unsynced", "contents", 1, 2, 3, 4, 5, 6, 7, 8];

let data: string;
let record: string;
beforeEach(async () => {
  const folder = await temporaryFolder("power-cut");
  [data, record] = [join(folder, "data"), join(folder, "record")];
  for (const made of [data, record]) mkdirSync(made);
  writeFileSync(join(data, "old"), "before");
});

/** Does this to the folder `data`, and has the power fail. @returns what the file then holds; undefined where it is missing */
async function lost(steps: string, loss: Loss, file: string): Promise<string | undefined> {
  const script = `import * as fs from "node:fs"; import * as durable from "${DURABLE}"; process.chdir(${JSON.stringify(data)}); ${steps}`;
  const disk = new Disk(data);
  const child = startNode(["--input-type=module", "--eval", script], recording(data, record));
  expect([await child.ended, child.text()]).toEqual([0, ""]);
  disk.read(record);
  disk.lose(loss);
  const path = join(data, file);
  return existsSync(path) ? readFileSync(path, "utf8") : undefined;
}

const WHOLE = 'await durable.writeWhole("old", Buffer.from("the new content"));';

test.each(LOSSES)("what was written durably is there (loss %s)", async (loss) => {
  expect(await lost('await durable.writeDurably("new", [Buffer.from("content")]);', loss, "new")).toBe("content");
});

test("what was not synced is gone, or its content is", async () => {
  expect(await lost('await durable.writeWhole("new", Buffer.from("content"));', "unsynced", "new")).toBeUndefined();
});

test("a file that was replaced and not synced is the former one", async () => {
  expect(await lost(WHOLE, "unsynced", "old")).toBe("before");
});

test("or empty, where only names reach the disk", async () => {
  expect(await lost(WHOLE, "contents", "old")).toBe("");
});

test("or a part of the new one, as a seed has it", async () => {
  const found = new Set<string | undefined>();
  for (let seed = 1; seed <= 30; seed++) {
    writeFileSync(join(data, "old"), "before");
    writeFileSync(join(record, "done.jsonl"), "");
    found.add(await lost(WHOLE, seed, "old"));
  }
  expect(found).toContain("before");
  expect([...found].some((text) => text !== "" && text !== "before" && "the new content".startsWith(text ?? "-"))).toBe(true);
}, 60_000);

test("a file that is cut off has its former end until it is synced, or not, and loses nothing in front of that", async () => {
  const found = new Set<string | undefined>();
  for (let seed = 1; seed <= 10; seed++) {
    writeFileSync(join(data, "old"), "before");
    writeFileSync(join(record, "done.jsonl"), "");
    found.add(await lost('await durable.cut("old", 2);', seed, "old"));
  }
  expect(found).toEqual(new Set(["be", "before"]));
}, 60_000);

test("a name is the former one until the folder is synced", async () => {
  expect(await lost('fs.renameSync("old", "new");', "unsynced", "old")).toBe("before");
  expect(await lost('await durable.renameDurably("old", "new");', "unsynced", "old")).toBeUndefined();
});

test("what is removed is there until the folder is synced", async () => {
  expect(await lost('fs.unlinkSync("old");', "unsynced", "old")).toBe("before");
  expect(await lost('await durable.removeDurably("old");', "unsynced", "old")).toBeUndefined();
});

test("what the record does not know is not let happen", async () => {
  const script = `import { appendFileSync } from "node:fs"; appendFileSync(${JSON.stringify(join(data, "old"))}, "more");`;
  const child = startNode(["--input-type=module", "--eval", script], recording(data, record));
  expect([await child.ended, child.text()]).toEqual([1, expect.stringContaining("appendFileSync is not recorded")]);
});

const suite = canRunPostfix ? describe : describe.skip;
if (!canRunPostfix) console.log("skipped: Postfix runs as root only");

suite("a letter arrives exactly once, sealed, with one receipt, when the power fails", () => {
  test.each([
    ["sender's", "a", "unsynced", 5],
    ["sender's", "a", "contents", 19],
    ["recipient's", "b", "unsynced", 12],
    ["recipient's", "b", 1, 8],
  ] as const)(
    "at the %s gateway (%s, %s)",
    async (_whose, machine, loss, from) => {
      const said: string[] = [];
      const results = await runPower({ machines: [machine], losses: [loss], from, every: 23, say: (line) => said.push(line) });
      expect([results.flatMap(({ findings }) => findings), said.join("\n")]).toEqual([[], expect.any(String)]);
      expect(results[0]?.cuts).toBeGreaterThan(0);
    },
    180_000,
  );
});
