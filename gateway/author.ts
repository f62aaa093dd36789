/** Whose letter it is: one author, who is the submitter, and nothing beside it that shows somebody else (RFC 6409 §8.1, RFC 5322 §3.6.2). */
import type { Mailbox } from "../mime/address.ts";
import { keyOf, parseAddressList } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import { fieldsNamed, onlyValue, valueOf, type HeaderField } from "../mime/headers.ts";
import { decodedWords } from "./subject.ts";
import { maySendAs, type Submitter } from "./users.ts";

/** A refusal with words for the sender. */
export const refused = (advice: string, cause?: unknown): Fault => new Fault("malformed", advice, { advice, cause });

/** @throws Fault `forbidden`: the submitter may not send as this mailbox */
export function demandIdentity(submitter: Submitter, mailbox: Mailbox, where: string): void {
  if (maySendAs(submitter, mailbox)) return;
  throw new Fault("forbidden", `a foreign ${where}`, { advice: `${submitter.name} may not send as ${mailbox.address} (${where}).` });
}

/** Fields that name a sender beside From; each of their addresses must be the submitter's. */
const SENDERS = ["sender", "resent-from", "resent-sender"];

/** @throws Fault `malformed`, `forbidden` with words for the sender */
export function authorOf(fields: readonly HeaderField[], submitter: Submitter): Mailbox {
  if (fields.some((item, at) => hidesSender(item, at)))
    throw refused("The header has a line that looks like a From or Sender field and is none.");
  const from = onlyOr(fields, "from", "The message has more than one From field; a registered letter has one author.") ?? "";
  const [author, ...others] = addressesIn("From", from);
  if (!author || others.length > 0) throw refused("The message needs exactly one author in its From field.");
  demandIdentity(submitter, author, "From");
  demandOwnNames(submitter, from, "The name in the From field");
  for (const name of SENDERS) {
    for (const value of fieldsNamed(fields, name).map((item) => valueOf(item))) {
      for (const mailbox of addressesIn(name, value)) demandIdentity(submitter, mailbox, name);
      demandOwnNames(submitter, value, `The name in the ${name} field`);
    }
  }
  return author;
}

/**
 * A line that is no field here and that another reader may take for one: with white space before or inside its name, or invisible
 * characters. An mbox separator on top is none of them, nor is any other line that old mail has among its fields.
 */
function hidesSender({ name, raw }: HeaderField, at: number): boolean {
  const text = raw.toString("utf8");
  const colon = text.indexOf(":");
  if (name !== "" || colon < 0) return false;
  const read = text
    .slice(0, colon)
    .normalize("NFKC")
    .replaceAll(/[\s\p{Cf}\p{Cc}]+/gu, "")
    .toLowerCase();
  return read === "from" || SENDERS.includes(read) || (at > 0 && /^from[ \t]/iu.test(text) && !isSeparator(text));
}

/** `From alice@a.example Thu Jan  1 00:00:00 1970`: what stands between the messages of an mbox (RFC 4155). */
const isSeparator = (line: string): boolean => /^From .{0,400} \d\d:\d\d/u.test(line);

/** The value of a field that stands once. @throws Fault `malformed` with the advice where it stands more often */
export function onlyOr(fields: readonly HeaderField[], name: string, advice: string): string | undefined {
  try {
    return onlyValue(fields, name) || undefined;
  } catch (cause) {
    throw refused(advice, cause);
  }
}

function addressesIn(name: string, value: string): Mailbox[] {
  try {
    return parseAddressList(value);
  } catch (cause) {
    throw refused(`The ${name} field cannot be read.`, cause);
  }
}

/** Display names and comments are all that many readers show: an address in them is the submitter's, or a lie. */
function demandOwnNames({ identities }: Submitter, value: string, where: string): void {
  const shown = decodedWords(value)
    .replaceAll("\\", "")
    .normalize("NFKC")
    .replaceAll(/\p{Cf}|\0/gu, "");
  for (const word of shown.split(/[\s<>()[\]",:;]+/u).filter((one) => one.includes("@"))) {
    const bare = word.replaceAll(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, "").toLowerCase();
    const looksLikeAddress = /^[^@]/u.test(bare) && bare.slice(bare.indexOf("@")).includes(".");
    if (!looksLikeAddress || identities.some(({ key }) => key === keyOf(bare) || key === keyOf(word))) continue;
    throw new Fault("forbidden", `a foreign address: ${where}`, {
      advice: `${where} shows the address ${bare.slice(0, 80)}, which is not the sender's.`,
    });
  }
}
