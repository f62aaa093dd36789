/** A submission made ready to be a letter: canonical line ends, one author who may write, a Message-ID and a Date (RFC 6409 §8). */
import { randomBytes } from "node:crypto";
import type { Mailbox } from "../mime/address.ts";
import { toCrlf } from "../mime/entity.ts";
import { field, fieldsNamed, splitMessage, valueOf, type HeaderField, type SplitMessage } from "../mime/headers.ts";
import { readSealed } from "../mime/message.ts";
import { authorOf, onlyOr, refused } from "./author.ts";
import type { Submission } from "./submission.ts";
import { NO_WISH, takeTriggers, type Wish } from "./triggers.ts";

/** What the outbound walk works on. */
export interface Accepted {
  readonly message: SplitMessage;
  readonly author: Mailbox;
  readonly messageId: string;
  /** Whether the Message-ID came with the message. */
  readonly hasOwnId: boolean;
  /** Whether it is a registered letter already, of whatever gateway. */
  readonly isSealed: boolean;
  /** What the mail asks for itself; what asked for it is not in the message any more. */
  readonly wish: Wish;
}

/** @param host names this gateway in a Message-ID that it adds. @throws Fault `malformed`, `forbidden` with words for the sender */
export function accept(submission: Submission, host: string, now: Date): Accepted {
  if (submission.message.includes(0)) throw refused("The message holds a NUL octet, which mail cannot carry.");
  const octets = toCrlf(submission.message);
  const { fields: all, body } = splitMessage(octets);
  const fields = all.filter((item) => item.name !== "message-id" || valueOf(item) !== ""); // an empty one would stand beside ours
  const author = authorOf(fields, submission.submitter);
  const added: HeaderField[] = [];
  const known = onlyOr(fields, "message-id", "The message has more than one Message-ID.");
  const messageId = known ?? `<${randomBytes(16).toString("hex")}@${host}>`;
  if (known === undefined) added.push(field("Message-ID", messageId));
  if (fieldsNamed(fields, "date").length === 0) added.push(field("Date", now.toUTCString().replace("GMT", "+0000")));
  const isSealed = isSealedBefore(octets);
  const { fields: kept, wish } = isSealed ? { fields, wish: NO_WISH } : takeTriggers(fields, now);
  return { message: { fields: [...kept, ...added], body }, author, messageId, hasOwnId: known !== undefined, isSealed, wish };
}

/** Whether it is a registered letter already: sealed once more, its recipient's gateway would open one layer and file the other. */
function isSealedBefore(message: Buffer): boolean {
  try {
    return readSealed(message) !== undefined;
  } catch (cause) {
    throw refused("The message looks like a registered letter and is damaged; send what it was made of.", cause);
  }
}
