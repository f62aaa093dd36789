/** Mailbox names: INBOX in any case, modified UTF-7, LIST wildcards and special uses: RFC 3501 §5.1 and §6.3.8, RFC 6154. */

import { bad, no } from "./refusal.ts";

export const SEPARATOR = "/";
const LONGEST_NAME = 255;

const SPECIAL_USES: Readonly<Record<string, string>> = {
  archive: String.raw`\Archive`,
  drafts: String.raw`\Drafts`,
  junk: String.raw`\Junk`,
  sent: String.raw`\Sent`,
  trash: String.raw`\Trash`,
};

/** The special use a folder has by its name, as far as it has one. */
export function specialUse(name: string): string | undefined {
  return Object.hasOwn(SPECIAL_USES, name.toLowerCase()) ? SPECIAL_USES[name.toLowerCase()] : undefined;
}

/** INBOX in capitals, also as the root of a hierarchy; every other name as it is. */
export function canonicalName(name: string): string {
  return name.replace(/^inbox(?=\/|$)/i, "INBOX");
}

/** A name for a new folder. @throws Refusal NO: empty, too long, an empty level, a wildcard or a control character. */
export function newName(name: string): string {
  const trimmed = canonicalName(name.endsWith(SEPARATOR) ? name.slice(0, -1) : name);
  const wrong = trimmed.length > LONGEST_NAME || trimmed.split(SEPARATOR).includes("") || /[\x00-\x1f\x7f*%\ud800-\udfff]/u.test(trimmed);
  if (wrong) throw no("this cannot be the name of a mailbox", "CANNOT");
  return trimmed;
}

/** A name as it is sent: modified UTF-7, RFC 3501 §5.1.3. */
export function encodeName(name: string): string {
  return name.replaceAll("&", "&-").replaceAll(/[^\x20-\x7e]+/g, (run) => {
    const octets = Buffer.from(run, "utf16le").swap16();
    return `&${octets.toString("base64").replaceAll("=", "").replaceAll("/", ",")}-`;
  });
}

/** A name as it was received: modified UTF-7, or UTF-8 from clients that never learned it. @throws Refusal BAD. */
export function decodeName(octets: Buffer): string {
  const text = octets.toString("utf8");
  return text.replaceAll(/&([^-]*)(-?)/g, (_all, run: string, close: string) => {
    if (close === "") throw bad("modified UTF-7 without its end");
    if (run === "") return "&";
    const wide = Buffer.from(run.replaceAll(",", "/"), "base64");
    if (!/^[A-Za-z0-9+,]+$/.test(run) || wide.length < 2 || wide.length % 2 !== 0) throw bad("not modified UTF-7");
    return wide.swap16().toString("utf16le");
  });
}

/**
 * Whether a name fits a LIST pattern: "*" is anything, "%" anything but the separator.
 * Walks all reachable places of the name at once: a pattern of many stars costs no more than its length.
 */
export function matchesPattern(name: string, pattern: string): boolean {
  let reached = [true, ...Array.from(name, () => false)];
  for (const sign of canonicalName(pattern).split("")) {
    const next: boolean[] = [];
    for (let at = 0; at <= name.length; at += 1) {
      const stays = at > 0 && next[at - 1] === true && (sign === "*" || name[at - 1] !== SEPARATOR);
      const wild = sign === "*" || sign === "%";
      next.push(wild ? reached[at] === true || stays : at > 0 && reached[at - 1] === true && name[at - 1] === sign);
    }
    reached = next;
  }
  return reached[name.length] === true;
}
