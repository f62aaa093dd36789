/** A page of docs/ whose blocks are run as they stand there. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** @returns gives a block of the page by its name; `changes` is what is other here than on a stranger's machine, and each must be there */
export function pageOf(name: string): (block: string, changes: Readonly<Record<string, string>>) => string {
  const page = readFileSync(join(import.meta.dirname, "..", "..", "docs", name), "utf8");
  return (block, changes) => {
    const [, text = ""] = new RegExp(`\\n\`\`\`${block.replaceAll(".", "\\.")}\\n([^]*?)\\n\`\`\`\\n`, "u").exec(page) ?? [];
    return Object.entries(changes).reduce((lines, [from, to]) => {
      if (!lines.includes(from)) throw new Error(`${block} on the page does not hold "${from}"`);
      return lines.replaceAll(from, to);
    }, `${text}\n`);
  };
}
