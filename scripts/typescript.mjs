// Lets plain Node.js run the TypeScript of tests and benchmarks (node --import ./scripts/typescript.mjs FILE.ts): inside jest's
// sandbox the same code is several times slower.
import { readFileSync } from "node:fs";
import { register } from "node:module";
import { fileURLToPath } from "node:url";
import { isMainThread } from "node:worker_threads";

/** A hook of Node's module loader. */
export async function load(url, context, next) {
  if (!url.endsWith(".ts")) return next(url, context);
  const { transform } = await import("@swc/core");
  const path = fileURLToPath(url);
  const { code } = await transform(readFileSync(path, "utf8"), {
    filename: path,
    sourceMaps: "inline",
    swcrc: false,
    jsc: { target: "es2022", parser: { syntax: "typescript" } },
    module: { type: "es6" },
  });
  return { format: "module", source: code, shortCircuit: true };
}

if (isMainThread) register(import.meta.url);
