/** A submission made ready to be a letter: canonical line ends, one author who may write, a Message-ID and a Date (RFC 6409 §8). */
import { randomBytes } from "node:crypto";
import { parseAddressList, type Mailbox } from "../mime/address.ts";
import { toCrlf } from "../mime/entity.ts";
import { Fault } from "../mime/fault.ts";
import { field, fieldsNamed, onlyValue, splitMessage, valueOf, type HeaderField, type SplitMessage } from "../mime/headers.ts";
import { demandIdentity, type Submission } from "./submission.ts";

/** What the outbound walk works on. */
export interface Accepted {
  readonly message: SplitMessage;
  readonly author: Mailbox;
  readonly messageId: string;
  /** Whether the Message-ID came with the message. */
  readonly hasOwnId: boolean;
}

/** @param host names this gateway in a Message-ID that it adds. @throws Fault `malformed`, `forbidden` with words for the sender */
export function accept(submission: Submission, host: string, now: Date): Accepted {
  if (submission.message.includes(0)) throw refused("The message holds a NUL octet, which mail cannot carry.");
  const { fields, body } = splitMessage(toCrlf(submission.message));
  const author = authorOf(fields, submission);
  const added: HeaderField[] = [];
  const known = onlyOr(fields, "message-id", "The message has more than one Message-ID.");
  const messageId = known ?? `<${randomBytes(16).toString("hex")}@${host}>`;
  if (known === undefined) added.push(field("Message-ID", messageId));
  if (fieldsNamed(fields, "date").length === 0) added.push(field("Date", now.toUTCString().replace("GMT", "+0000")));
  return { message: { fields: [...fields, ...added], body }, author, messageId, hasOwnId: known !== undefined };
}

const refused = (advice: string, cause?: unknown): Fault => new Fault("malformed", advice, { advice, cause });

function onlyOr(fields: readonly HeaderField[], name: string, advice: string): string | undefined {
  try {
    return onlyValue(fields, name) || undefined;
  } catch (cause) {
    throw refused(advice, cause);
  }
}

/** The one author; Sender and Resent-From, where they are there, must be identities of the submitter too (RFC 6409 §8.1). */
function authorOf(fields: readonly HeaderField[], { submitter }: Submission): Mailbox {
  const from = onlyOr(fields, "from", "The message has more than one From field; a registered letter has one author.");
  const authors = addressesIn("From", from ?? "");
  const [author] = authors;
  if (!author || authors.length > 1) throw refused("The message needs exactly one author in its From field.");
  demandIdentity(submitter, author, "From");
  for (const name of ["sender", "resent-from", "resent-sender"]) {
    for (const item of fieldsNamed(fields, name)) {
      for (const mailbox of addressesIn(name, valueOf(item))) demandIdentity(submitter, mailbox, name);
    }
  }
  return author;
}

function addressesIn(name: string, value: string): Mailbox[] {
  try {
    return parseAddressList(value);
  } catch (cause) {
    throw refused(`The ${name} field cannot be read.`, cause);
  }
}
