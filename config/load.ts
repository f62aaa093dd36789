/** Reads a configuration file: every mistake at once, each with file, line and column and what to write instead. */
import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { LineCounter, isNode, isScalar, isMap, parseDocument, visit, type Document } from "yaml";
import { z } from "zod";
import { Fault } from "../mime/fault.ts";
import { brokerSchema, gatewaySchema, type BrokerConfig, type GatewayConfig } from "./schema.ts";

const LARGEST_FILE_OCTETS = 1 << 20;

/** One mistake in a file. */
interface Mistake {
  readonly offset: number;
  readonly text: string;
}

/** @throws Fault `malformed` with one line a mistake: `broker.yaml:4:3 ...` */
export function loadBroker(file: string): BrokerConfig {
  return load(file, brokerSchema);
}

/** Checks what would be written to a broker's file. @throws Fault `malformed` as `loadBroker` */
export function checkBroker(file: string, text: string): BrokerConfig {
  return load(file, brokerSchema, text);
}

/** @throws Fault `malformed` with one line a mistake: `gateway.yaml:4:3 ...` */
export function loadGateway(file: string): GatewayConfig {
  return load(file, gatewaySchema);
}

/** Checks what would be written to a gateway's file. @throws Fault `malformed` as `loadGateway` */
export function checkGateway(file: string, text: string): GatewayConfig {
  return load(file, gatewaySchema, text);
}

/** Which of the two a file is, by the key that only a gateway has. @throws Fault `malformed`. */
export function loadEither(file: string): { kind: "broker"; config: BrokerConfig } | { kind: "gateway"; config: GatewayConfig } {
  const document = parseDocument(read(file));
  const top: unknown = aliasMistakes(document).length === 0 ? plainOf(document) : undefined; // otherwise the loader below names them
  const isGateway = typeof top === "object" && top !== null && ("mailboxes" in top || "broker" in top);
  return isGateway ? { kind: "gateway", config: loadGateway(file) } : { kind: "broker", config: loadBroker(file) };
}

function read(file: string): string {
  try {
    const text = readFileSync(file, "utf8");
    if (text.length > LARGEST_FILE_OCTETS) throw new Fault("malformed", `${file}: larger than 1 MiB`);
    return text;
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    throw new Fault("malformed", `${file}: cannot be read (${cause instanceof Error ? cause.message : String(cause)})`, { cause });
  }
}

function load<T>(file: string, schema: z.ZodType<T>, text = read(file)): T {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const mistakes: Mistake[] = document.errors.map(({ pos, message }) => ({ offset: pos[0], text: message }));
  if (mistakes.length === 0) mistakes.push(...aliasMistakes(document));
  const plain = mistakes.length === 0 ? plainOf(document) : undefined;
  if (plain === TOO_MANY_ALIASES) mistakes.push({ offset: 0, text: "too many aliases" });
  const result = mistakes.length === 0 ? schema.safeParse(withAbsolutePaths(plain, schema, dirname(resolve(file)))) : undefined;
  if (result?.success) return result.data;
  for (const issue of result?.error.issues ?? []) mistakes.push(...mistakesOf(issue, document, schema));
  mistakes.sort((a, b) => a.offset - b.offset);
  const report = mistakes.map(({ offset, text }) => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${Math.max(line, 1)}:${Math.max(col, 1)} ${text}`;
  });
  throw new Fault("malformed", [...new Set(report)].join("\n"));
}

const TOO_MANY_ALIASES = Symbol("too many aliases");

/** The document as plain values; an alias bomb is not unfolded. */
function plainOf(document: Document): unknown {
  try {
    return document.toJS({ maxAliasCount: 50 });
  } catch {
    return TOO_MANY_ALIASES;
  }
}

/** Aliases that lead nowhere, or into themselves. */
function aliasMistakes(document: Document): Mistake[] {
  const found: Mistake[] = [];
  visit(document, {
    Alias(_key, alias, path) {
      const target = alias.resolve(document);
      const offset = alias.range?.[0] ?? 0;
      if (!target) found.push({ offset, text: `the alias "${alias.source}" has no anchor before it` });
      else if (path.includes(target)) found.push({ offset, text: `the alias "${alias.source}" contains itself` });
    },
  });
  return found;
}

/** Relative paths are counted from the file that names them; the schema knows which texts are paths. */
function withAbsolutePaths(value: unknown, schema: unknown, folder: string): unknown {
  if (typeof value === "string") return isPath(schema) && value !== "" ? resolve(folder, value) : value;
  if (Array.isArray(value)) return value.map((item, at) => withAbsolutePaths(item, childOf(schema, at), folder));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]: [string, unknown]) => [key, withAbsolutePaths(item, childOf(schema, key), folder)]),
  );
}

function isPath(schema: unknown): boolean {
  const inner = innermost(schema);
  return inner instanceof z.ZodType && inner.meta()?.["path"] === true;
}

type Path = readonly PropertyKey[];

function mistakesOf(issue: z.core.$ZodIssue, document: Document, schema: z.ZodType): Mistake[] {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => ({
      offset: keyOffset(document, issue.path, key),
      text: `unknown key "${key}"${within(issue.path)}${replacement(key, issue.path) ?? suggestion(key, keysAt(schema, issue.path))}`,
    }));
  }
  if (issue.code === "invalid_union" && issue.errors.length > 0) {
    const isWhole = ({ path, code }: z.core.$ZodIssue): boolean =>
      path.length === 0 && (code === "invalid_value" || code === "invalid_type");
    const nearest = issue.errors.find((branch) => !branch.some((one) => isWhole(one))) ?? issue.errors[0] ?? []; // the branch whose kind fits
    return nearest.flatMap((inner) => mistakesOf({ ...inner, path: [...issue.path, ...inner.path] }, document, schema));
  }
  const missing = issue.code === "invalid_type" && /received undefined/u.test(issue.message);
  const name = issue.path.length === 0 ? "the file" : issue.path.map(String).join(".");
  return [{ offset: offsetOf(document, issue.path), text: missing ? `${name} is missing` : `${name}: ${issue.message}` }];
}

/** Keys of former versions, and what is written now. */
const REPLACED: Readonly<Record<string, string>> = {
  "policy.domains": "write rules: { DOMAIN: { unenrolled: pass } }",
  "policy.forms": "write rules: { DOMAIN-OR-ADDRESS: { hold: enclosed } }",
};

function replacement(key: string, path: Path): string | undefined {
  const name = [...path.map(String), key].join(".");
  return Object.hasOwn(REPLACED, name) ? `: ${REPLACED[name]}` : undefined;
}

const within = (path: Path): string => (path.length === 0 ? "" : ` in ${path.map(String).join(".")}`);

/** Where the value stands, or the nearest thing around it that is there. */
function offsetOf(document: Document, path: Path): number {
  for (let length = path.length; length >= 0; length--) {
    const node = document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range) return node.range[0];
  }
  return 0;
}

function keyOffset(document: Document, path: Path, key: string): number {
  const node = path.length === 0 ? document.contents : document.getIn(path, true);
  const pair = isMap(node) ? node.items.find((item) => isScalar(item.key) && item.key.value === key) : undefined;
  return isScalar(pair?.key) && pair.key.range ? pair.key.range[0] : offsetOf(document, path);
}

/** The keys that the schema knows at this place: its own validation of an empty object tells them. */
function keysAt(schema: z.ZodType, path: Path): string[] {
  let current: unknown = schema;
  for (const step of path) current = childOf(current, step);
  const shape = shapeOf(current);
  return shape ? Object.keys(shape) : [];
}

function innermost(schema: unknown): unknown {
  let current = schema;
  for (let turns = 0; turns < 10; turns++) {
    const definition = property(property(current, "_zod"), "def");
    const inner = property(definition, "innerType") ?? property(definition, "in");
    if (inner === undefined) return current;
    current = inner;
  }
  return current;
}

function childOf(schema: unknown, step: PropertyKey): unknown {
  const inner = innermost(schema);
  const element = property(property(property(inner, "_zod"), "def"), "element");
  if (typeof step === "number" || element !== undefined) return element;
  return property(shapeOf(inner), step);
}

function shapeOf(schema: unknown): object | undefined {
  const inner = innermost(schema);
  const options = property(property(property(inner, "_zod"), "def"), "options");
  const candidates: unknown[] = Array.isArray(options) ? options : [inner];
  const shapes = candidates.map((candidate) => property(property(property(innermost(candidate), "_zod"), "def"), "shape"));
  return shapes.find((shape): shape is object => typeof shape === "object" && shape !== null);
}

function property(value: unknown, key: PropertyKey): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined;
}

function suggestion(key: string, known: readonly string[]): string {
  const near = known
    .map((candidate) => ({ candidate, distance: editDistance(key.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)[0];
  return near && near.distance <= Math.max(1, Math.floor(key.length / 3)) ? ` (did you mean "${near.candidate}"?)` : "";
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...b].entries()) {
      next.push(Math.min((row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1, (row[j] ?? 0) + (letter === other ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
