/** Looks for a text in files, plain or in base64. */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** Files below the folders that hold the text; one that goes away meanwhile does not. */
export function filesWith(folders: readonly string[], text: string): string[] {
  const wanted = [text, ...[0, 1, 2].map((shift) => inBase64(text, shift))].map((one) => Buffer.from(one));
  const files = folders.flatMap((folder) =>
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name)),
  );
  return files.filter((file) => {
    const bytes = bytesOf(file);
    return wanted.some((one) => bytes.includes(one));
  });
}

function bytesOf(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch {
    return Buffer.alloc(0);
  }
}

/** The characters that a text becomes in base64 wherever it begins `shift` octets into a group, as far as it alone decides them. */
function inBase64(text: string, shift: number): string {
  const first = [0, 2, 3][shift] ?? 0;
  const last = Math.floor(((shift + text.length) * 8) / 6);
  return Buffer.concat([Buffer.alloc(shift), Buffer.from(text)])
    .toString("base64")
    .slice(first, last);
}
