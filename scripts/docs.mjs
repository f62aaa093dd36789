// npm run docs: writes man/kakitome.1 and docs/config.md out of the commands and the schemas as they are; --check only says which one is old.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, install } from "./ready.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

/** Objects that have a name of their own in the source. */
const NAMES = {
  "gateway.submission.limits": "doorLimits",
  "gateway.inbound.limits": "doorLimits",
  "gateway.mailboxes": "ownMailbox",
  "gateway.users": "user",
  "gateway.policy": "policySchema",
};

/** What the schemas' source says above a key, by the object it stands in and the key. */
function commentsIn(files) {
  const found = new Map();
  for (const file of files) {
    const stack = [];
    let comment = [];
    let isOpen = false;
    for (const line of readFileSync(file, "utf8").split("\n")) {
      const text = line.trim();
      if (text.startsWith("/**")) comment = [];
      if (text.startsWith("/**") || isOpen) {
        comment.push(text.replace(/^\/?\*+\/?\s?|\s*\*\/$/gu, ""));
        isOpen = !text.endsWith("*/");
        continue;
      }
      const [, indent = "", name] = /^(\s*)(?:(?:export )?const )?(\w+)(?::| =)/u.exec(line) ?? [];
      if (name !== undefined) {
        while (stack.length > 0 && stack.at(-1).depth >= indent.length) stack.pop();
        const within = stack.at(-1)?.name ?? "";
        const words = comment.join(" ").trim();
        if (words !== "" && !found.has(`${within}.${name}`)) found.set(`${within}.${name}`, words);
        stack.push({ depth: indent.length, name });
      }
      if (text !== "") comment = [];
    }
  }
  return found;
}

/** One row for each setting, in the order of the schema. */
function rowsOf(node, path, comments, rows, kind) {
  const forms = node.anyOf ?? node.oneOf ?? [node];
  const shape = forms.find((form) => form.properties !== undefined);
  if (shape === undefined) return;
  const required = new Set(shape.required ?? []);
  const here = [kind, ...path].join(".").replaceAll("[]", "");
  const within = here === kind ? `${kind}Schema` : (NAMES[here] ?? path.at(-1)?.replace("[]", ""));
  for (const [name, value] of Object.entries(shape.properties)) {
    const item = value.type === "array" ? value.items : value;
    const isList = item !== value && (item.properties ?? item.anyOf) !== undefined;
    const key = [...path, isList ? `${name}[]` : name];
    const words = [`${within}.${name}`, `account.${name}`, `terms.${name}`].map((at) => comments.get(at)).find(Boolean) ?? "";
    rows.push({ key: key.join("."), words, what: kindOf(value), standard: standardOf(value, required.has(name)) });
    rowsOf(item, key, comments, rows, kind);
  }
}

function kindOf(value) {
  const forms = value.anyOf ?? [value];
  const names = forms.map((form) => {
    if (form.enum) return form.enum.join(", ");
    if (form.const !== undefined) return String(form.const);
    if (form.type === "array") return "list";
    if (form.type === "object") return "section";
    if (form.type === "integer" || form.type === "number") return "number";
    return form.type === "boolean" ? "true, false" : "text";
  });
  return [...new Set(names)].join(", ");
}

function standardOf({ default: standard, type }, isRequired) {
  if (standard === undefined) return isRequired ? "needed" : "";
  if (type === "object" || (typeof standard === "object" && !Array.isArray(standard))) return "";
  return `\`${typeof standard === "string" ? standard : JSON.stringify(standard)}\``;
}

async function configPage() {
  const [{ z }, { brokerSchema, gatewaySchema }] = await Promise.all([import("zod"), import("../dist/config/schema.js")]);
  const folder = join(root, "config");
  const files = readdirSync(folder).filter((name) => /^schema.*\.ts$/u.test(name));
  const comments = commentsIn(files.toSorted().map((name) => join(folder, name)));
  const table = (schema, kind) => {
    const rows = [];
    rowsOf(z.toJSONSchema(schema, { unrepresentable: "any", io: "input" }), [], comments, rows, kind);
    const cell = (text) => text.replaceAll("|", "\\|");
    const lines = rows.map(({ key, words, what, standard }) => `| \`${key}\` | ${cell(what)} | ${cell(standard)} | ${cell(words)} |`);
    return ["| setting | what | default | |", "|---|---|---|---|", ...lines].join("\n");
  };
  return `# Every setting

Made by \`npm run docs\` out of \`config/schema*.ts\`. With explanations at length: [gateway.example.yaml](../config/gateway.example.yaml), [broker.example.yaml](../config/broker.example.yaml).
\`kakitome config check FILE\` names every mistake of a file with its line.

Times are written \`500ms\`, \`30s\`, \`5m\`, \`24h\`, \`30d\`; sizes \`512B\`, \`64KiB\`, \`35MiB\`. Relative paths are counted from the file. \`[]\` stands for each entry of a list.

## gateway.yaml

${table(gatewaySchema, "gateway")}

## broker.yaml

${table(brokerSchema, "broker")}
`;
}

const manual = () => execFileSync(process.execPath, [join(root, "dist", "cli", "main.js"), "manual"], { encoding: "utf8" });

install();
build();
const pages = { "man/kakitome.1": manual(), "docs/config.md": await configPage() };
for (const [name, text] of Object.entries(pages)) {
  const file = join(root, name);
  if (existsSync(file) && readFileSync(file, "utf8") === text) continue;
  if (process.argv.includes("--check")) {
    console.error(`${name} is old: npm run docs writes it anew.`);
    process.exitCode = 1;
    continue;
  }
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
  console.log(`${name} was written.`);
}
