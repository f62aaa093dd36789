/** The structure of a message in a file, as an IMAP server would tell it: what the watcher decides by, without the texts. */
import { readFile } from "node:fs/promises";
import { parseEntity, splitMultipart, toCrlf } from "../mime/entity.ts";
import type { Structure } from "./mailbox.ts";

/** No letter of ours is nested deeper. */
const DEEPEST = 4;

/** Undefined where the message cannot be read: it is none of ours. @throws what the file system says */
export async function structureOf(path: string): Promise<Structure | undefined> {
  const mail = await readFile(path);
  try {
    return nodeOf(toCrlf(mail), 0);
  } catch {
    return undefined;
  }
}

function nodeOf(bytes: Buffer, depth: number): Structure {
  const entity = parseEntity(bytes);
  const { type } = entity.contentType;
  if (!type.startsWith("multipart/") || depth === DEEPEST) return { type };
  return { type, childNodes: splitMultipart(entity).map((part) => nodeOf(part, depth + 1)) };
}
