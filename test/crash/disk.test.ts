/** The search for secrets finds each form of them, wherever in a file it stands. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { temporaryFolder } from "../servers/process.ts";
import { filesWith } from "./disk.ts";

const SECRET = "Kc0ffee-canary";
const KEY = Buffer.from("00ff10fb7e8001020304050607080900aabbccddeeff", "hex");
const base64 = (before: string, octets: Buffer | string): string =>
  Buffer.concat([Buffer.from(before), Buffer.from(octets), Buffer.from("...")]).toString("base64");

test.each<[string, Buffer | string]>([
  ["as it is", `x${SECRET}y`],
  ["in base64, first offset", base64("", SECRET)],
  ["in base64, second offset", base64("a", SECRET)],
  ["in base64, third offset", base64("ab", SECRET)],
  ["in hex", Buffer.from(SECRET).toString("hex")],
  ["in upper-case hex", Buffer.from(SECRET).toString("hex").toUpperCase()],
  ["in UTF-16LE", Buffer.from(`x${SECRET}`, "utf16le")],
  ["in UTF-16BE", Buffer.from(`x${SECRET}`, "utf16le").swap16()],
  ["a key as it is", KEY],
  ["a key in base64url", base64("ab", KEY).replaceAll("+", "-").replaceAll("/", "_")],
])("%s", async (_form, content) => {
  const folder = await temporaryFolder("forms");
  writeFileSync(join(folder, "some"), Buffer.concat([Buffer.from("before "), Buffer.from(content), Buffer.from(" behind")]));
  writeFileSync(join(folder, "other"), "nothing");
  expect(filesWith([folder], SECRET, KEY)).toEqual([join(folder, "some")]);
});
