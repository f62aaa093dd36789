/** A name for one installation among several that share work: the same after a restart, another on another machine or folder. */
import { createHash } from "node:crypto";
import { realpathSync, statSync } from "node:fs";
import { hostname } from "node:os";

/** @param folder the installation's data, which exists. @returns 256 bits in base64url */
export function holderOf(folder: string): string {
  const path = realpathSync(folder);
  const { dev, ino } = statSync(path);
  return createHash("sha256")
    .update(JSON.stringify([hostname(), path, dev, ino]))
    .digest("base64url");
}
