/** Mail and CMS data that nobody here wrote; it lies outside the repository, and its tests are skipped where it is missing. */
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join, relative } from "node:path";
import { test } from "@jest/globals";

const folder = process.env["KAKITOME_CORPORA"] ?? join(import.meta.dirname, "..", "..", "..", "shared", "corpora");
const found = existsSync(folder);
if (!found) process.stderr.write("skipped: no corpora; KAKITOME_CORPORA names the folder that holds them\n");

/** `test`, or `test.skip` where the corpora are missing. */
export const corpusTest = found ? test : test.skip;

export interface CorpusFile {
  /** Its path inside the corpora. */
  readonly name: string;
  readonly bytes: Buffer;
}

/** One file of the corpora. */
export function corpusFile(...path: readonly string[]): Buffer {
  return readFileSync(join(folder, ...path));
}

/** All files below these folders of the corpora whose names fit, in the order of their names. */
export function corpusFiles(folders: readonly string[], fits: RegExp = /./u): CorpusFile[] {
  return folders
    .flatMap((name) => readdirSync(join(folder, name), { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile() && fits.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
    .map((path) => ({ name: relative(folder, path), bytes: readFileSync(path) }));
}
