/** Commands by mail: what an authenticated sender writes to the gateway's control address goes nowhere and is answered by a notice. */
import { hash } from "node:crypto";
import { parseMailbox, type Mailbox } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import { onlyValue } from "../mime/headers.ts";
import { accept } from "./accept.ts";
import { noticeMail } from "./notice.ts";
import { send, type OutboundParts } from "./outbound.ts";
import { recall, type RecallParts } from "./recall.ts";
import { decodedWords } from "./subject.ts";
import type { Submission } from "./submission.ts";
import { WORDS, type Language, type Text } from "./words.ts";

export interface ControlParts extends RecallParts, Pick<OutboundParts, "spool" | "relay" | "name"> {
  readonly address: Mailbox;
  readonly language: Language;
}

/** Whether a submission is a command. @throws Fault `forbidden`: a command and a letter at once */
export function isCommand({ recipients }: Submission, address: Mailbox | undefined): boolean {
  if (!address || !recipients.some(({ mailbox }) => mailbox.key === address.key)) return false;
  if (recipients.length === 1) return true;
  throw new Fault("forbidden", "a command with other recipients", { advice: `A command goes to ${address.address} alone.` });
}

/** Does what the Subject says, and answers. @returns the id of the answer. @throws Fault `unavailable`: the client tries again */
export async function command(parts: ControlParts, submission: Submission, signal: AbortSignal): Promise<string> {
  const now = parts.now();
  const { message, author, messageId } = accept(submission, parts.name, now);
  const subject = decodedWords(onlyValue(message.fields, "subject") ?? "");
  const { text, about } = await answerTo(parts, subject, [author.key, submission.sender.key], signal);
  const to = submission.sender.address;
  const id = hash("sha256", `command ${to}\0${messageId}`).slice(0, 32);
  const { name: host, language } = parts;
  const mail = noticeMail({ host, to, language, text, id, now, about: about ?? messageId });
  await send(parts, { id, mail }, to, messageId);
  parts.log.info({ event: "command.answered", accepted: id });
  return id;
}

const RECALL = /^\s*recall\s+<?([^\s<>]{1,900})>?(?:\s+<?([^\s<>]{1,254})>?)?\s*$/iu;

async function answerTo(
  parts: ControlParts,
  subject: string,
  senders: readonly string[],
  signal: AbortSignal,
): Promise<{ text: Text; about?: string }> {
  const words = WORDS[parts.language];
  const match = RECALL.exec(subject);
  if (!match) return { text: words.control({ reason: words.commandUnknown() }) };
  const messageId = `<${match[1]}>`;
  const to = match[2] === undefined ? undefined : mailboxIn(match[2]);
  if (match[2] !== undefined && !to) return { text: words.control({ reason: words.commandUnknown() }) };
  const outcomes = await recall(parts, { messageId, senders, to }, signal);
  if (!outcomes) return { text: words.control({ reason: words.noSuchLetter(messageId) }) };
  const lines = outcomes.map(({ recipient, outcome }) => ({ recipient, reason: words.recallOutcome(outcome) }));
  return { text: words.recall({ messageId, outcomes: lines }), about: messageId };
}

function mailboxIn(text: string): Mailbox | undefined {
  try {
    return parseMailbox(text);
  } catch {
    return undefined;
  }
}
