/** Looks for a secret in files, in every form in which programs write things down. */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** Files below the folders that hold one of the secrets; one that goes away meanwhile does not. */
export function filesWith(folders: readonly string[], ...secrets: readonly (string | Buffer)[]): string[] {
  const wanted = secrets.flatMap(formsOf);
  return folders.flatMap(filesBelow).filter((file) => {
    const bytes = bytesOf(file);
    return wanted.some((one) => bytes.includes(one));
  });
}

/** Every file below a folder. */
export function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** The octets themselves, in base64 and base64url at each of three offsets, in hexadecimal digits of either case, and a text in UTF-16 of either order. */
export function formsOf(secret: string | Buffer): Buffer[] {
  const octets = Buffer.from(secret);
  const base64 = [0, 1, 2].map((shift) => inBase64(octets, shift));
  const hex = octets.toString("hex");
  const words = [...base64, ...base64.map((one) => one.replaceAll("+", "-").replaceAll("/", "_")), hex, hex.toUpperCase()];
  const wide = typeof secret === "string" ? [Buffer.from(secret, "utf16le"), Buffer.from(secret, "utf16le").swap16()] : [];
  return [octets, ...words.map((word) => Buffer.from(word)), ...wide];
}

function bytesOf(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch {
    return Buffer.alloc(0);
  }
}

/** The characters that octets become in base64 wherever they begin `shift` octets into a group, as far as they alone decide them. */
function inBase64(octets: Buffer, shift: number): string {
  const first = [0, 2, 3][shift] ?? 0;
  const last = Math.floor(((shift + octets.length) * 8) / 6);
  return Buffer.concat([Buffer.alloc(shift), octets])
    .toString("base64")
    .slice(first, last);
}
