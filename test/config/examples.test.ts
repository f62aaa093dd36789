/** The example files: they load, and every setting behind a '#' is a real one that shows its default. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { z } from "zod";
import { loadBroker, loadGateway } from "../../config/load.ts";
import { brokerSchema, gatewaySchema } from "../../config/schema.ts";
import { temporaryFolder } from "../servers/process.ts";

const CONFIG = join(import.meta.dirname, "..", "..", "config");
const KINDS = [
  ["broker", loadBroker, brokerSchema],
  ["gateway", loadGateway, gatewaySchema],
] as const;

const textOf = (kind: string): string => readFileSync(join(CONFIG, `${kind}.example.yaml`), "utf8");
/** Settings that have no default to show: what stands there is an example. */
const EXAMPLES_ONLY = /^\s*# (?:\s*- name:|\s*password:|\s*identities:|\s*aliases:|\s*ca:|dayKeys:|\s*warnAfter:|\s*control:)/u;
/** A line `# key: value` or `#   key: value`, as settings are written and sentences are not. */
const SETTING = /^(\s*)# ((?: {2})*[a-zA-Z]+:(?: .*)?)$/u;
const isSentence = (line: string): boolean =>
  /^\s*# (?:Check|Times|Without|tls|signed)\b/u.test(line) || /^#\s{3}table:|^#\s{5}/u.test(line);

/** The example with every setting that shows a default taken out from behind its '#'. */
function uncommented(text: string): { text: string; settings: number } {
  let settings = 0;
  const lines = text.split("\n").map((line) => {
    const [, indent, setting] = (!isSentence(line) && !EXAMPLES_ONLY.test(line) && SETTING.exec(line)) || [];
    if (setting === undefined) return line;
    settings++;
    return `${indent ?? ""}${setting}`;
  });
  return { text: lines.join("\n"), settings };
}

describe.each(KINDS)("%s.example.yaml", (kind, load, schema) => {
  test("loads", () => {
    expect(() => load(join(CONFIG, `${kind}.example.yaml`))).not.toThrow();
  });

  test("with every setting uncommented loads, and is the same: what is shown are the defaults", async () => {
    const { text, settings } = uncommented(textOf(kind));
    expect(settings).toBeGreaterThan(7);
    const folder = await temporaryFolder("example");
    const [plain, full] = ["plain", "full"].map((name) => join(folder, `${name}.yaml`));
    writeFileSync(plain ?? "", textOf(kind));
    writeFileSync(full ?? "", text);
    expect(load(full ?? "")).toEqual(load(plain ?? ""));
  });

  test("names every key of the schema", () => {
    const keys = keysIn(z.toJSONSchema(schema, { unrepresentable: "any", io: "input" }));
    expect(keys.size).toBeGreaterThan(20);
    const text = textOf(kind);
    expect([...keys].filter((key) => !new RegExp(`(?:^|[\\s{(#-])${key}:`, "mu").test(text))).toEqual([]);
  });
});

/** Every property that a JSON Schema names, at whatever depth. */
function keysIn(node: unknown): Set<string> {
  if (typeof node !== "object" || node === null) return new Set();
  return new Set(
    Object.entries(node).flatMap(([name, value]: [string, unknown]) => [
      ...(name === "properties" && typeof value === "object" && value !== null ? Object.keys(value) : []),
      ...keysIn(value),
    ]),
  );
}
