/** The structure of a message in a file or in memory, as an IMAP server would tell it: what the watcher decides by, without the texts. */
import { readFile } from "node:fs/promises";
import { parseEntity, splitMultipart, toCrlf } from "../mime/entity.ts";
import { fieldsNamed, splitMessage, valueOf } from "../mime/headers.ts";
import type { Seen, Structure } from "./mailbox.ts";

/** No letter of ours is nested deeper. */
const DEEPEST = 4;
export const UNREADABLE = { structure: undefined, messageId: undefined } as const;

/** What is told of a message. */
export type Described = Pick<Seen, "structure" | "messageId">;

/** Of a file. @throws what the file system says */
export async function structureOf(path: string): Promise<Described> {
  return described(toCrlf(await readFile(path)));
}

/** Nothing where the message cannot be read: it is none of ours. @param mail with CRLF line ends */
export function described(mail: Buffer): Described {
  try {
    return { structure: nodeOf(mail, 0), messageId: messageIdOf(mail) };
  } catch {
    return UNREADABLE;
  }
}

/** The first one of a header section, or of a mail; undefined where there is none, or the section is too large. */
export function messageIdOf(header: Buffer): string | undefined {
  try {
    const [first] = fieldsNamed(splitMessage(header).fields, "message-id");
    return first && valueOf(first);
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
