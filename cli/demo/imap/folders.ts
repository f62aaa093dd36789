/** Commands about mailboxes: SELECT to STATUS, and APPEND: RFC 3501 §6.3, RFC 2342, RFC 4315, RFC 6154. */

import type { Folder } from "./folder.ts";
import { encodeName, matchesPattern, SEPARATOR, specialUse } from "./names.ts";
import type { Arguments } from "./parse.ts";
import { bad, no } from "./refusal.ts";
import type { Command, Session } from "./session.ts";
import { list, quoted } from "./wire.ts";

const SEEN = String.raw`\Seen`;

/** A command whose one argument is the name of a mailbox. */
function onName(act: (session: Session, name: string) => string): Command {
  return (session, args) => {
    args.space();
    const name = args.mailbox();
    args.finish();
    return { text: act(session, name) };
  };
}

/** SELECT, or EXAMINE when it is for reading only. A failed one leaves no mailbox open. */
export function open(readOnly: boolean): Command {
  return (session, args) => {
    args.space();
    const name = args.mailbox();
    args.finish();
    session.deselect();
    const folder = session.account.existing(name);
    const selected = session.select(folder, readOnly);
    const unseen = selected.firstUnseen();
    session.say(...selected.flagLines(), `* ${selected.count} EXISTS`, `* ${selected.recentCount} RECENT`);
    if (unseen !== undefined) session.say(`* OK [UNSEEN ${unseen}] the first not seen`);
    session.say(`* OK [UIDVALIDITY ${folder.uidValidity}] UIDs hold`, `* OK [UIDNEXT ${folder.uidNext}] the next UID`);
    return { text: readOnly ? "examined" : "selected", code: readOnly ? "READ-ONLY" : "READ-WRITE" };
  };
}

export const create = onName((session, name) => {
  session.account.create(name);
  return "created";
});

export const remove = onName((session, name) => {
  session.account.delete(name);
  return "deleted";
});

export const subscribe = onName((session, name) => {
  session.account.subscribe(name);
  return "subscribed";
});

export const unsubscribe = onName((session, name) => {
  session.account.unsubscribe(name);
  return "unsubscribed";
});

export const rename: Command = (session, args) => {
  args.space();
  const from = args.mailbox();
  args.space();
  const to = args.mailbox();
  args.finish();
  session.account.rename(from, to);
  return { text: "renamed" };
};

export const namespace: Command = (session, args) => {
  args.finish();
  session.say(`* NAMESPACE (("" "${SEPARATOR}")) NIL NIL`);
  return { text: "that is all" };
};

/** LIST, and as much of LIST-EXTENDED (RFC 5258) as clients send to a server that knows SPECIAL-USE. */
export const listFolders: Command = (session, args) => {
  args.space();
  const selection = args.sees("(") ? options(args) : [];
  if (selection.length > 0 || args.sees(" ")) args.space();
  const reference = args.mailbox();
  args.space();
  const patterns = args.sees("(") ? args.list(() => args.pattern()) : [args.pattern()];
  const results = args.more() ? returned(args) : [];
  args.finish();
  if (patterns.length === 1 && patterns[0] === "") {
    session.say(String.raw`* LIST (\Noselect) "${SEPARATOR}" ""`);
    return { text: "listed" };
  }
  const { account } = session;
  const subscriptions = account.subscriptions();
  for (const name of account.names()) {
    const fits = patterns.some((pattern) => matchesPattern(name, reference + pattern));
    const subscribed = subscriptions.includes(name);
    const dropped = (selection.includes("SUBSCRIBED") && !subscribed) || (selection.includes("SPECIAL-USE") && !specialUse(name));
    if (!fits || dropped) continue;
    const marks = subscribed && [...selection, ...results].includes("SUBSCRIBED") ? [String.raw`\Subscribed`] : [];
    session.say(`* LIST ${list([...attributes(session, name), ...marks])} "${SEPARATOR}" ${quoted(encodeName(name))}`);
  }
  return { text: "listed" };
};

function options(args: Arguments): string[] {
  const words = args.list(() => args.word());
  const known = words.every((word) => ["SUBSCRIBED", "SPECIAL-USE", "CHILDREN", "REMOTE", "RECURSIVEMATCH"].includes(word));
  if (!known) throw bad("an unknown option");
  return words;
}

function returned(args: Arguments): string[] {
  args.need(/RETURN +/iy, "unexpected text after the pattern");
  return options(args);
}

function attributes({ account }: Session, name: string): string[] {
  const use = specialUse(name);
  return [account.hasChildren(name) ? String.raw`\HasChildren` : String.raw`\HasNoChildren`, ...(use === undefined ? [] : [use])];
}

export const listSubscribed: Command = (session, args) => {
  args.space();
  const reference = args.mailbox();
  args.space();
  const pattern = args.pattern();
  args.finish();
  for (const name of session.account.subscriptions()) {
    if (matchesPattern(name, reference + pattern)) session.say(`* LSUB () "${SEPARATOR}" ${quoted(encodeName(name))}`);
  }
  return { text: "listed" };
};

const STATUS: Readonly<Record<string, (folder: Folder) => number>> = {
  MESSAGES: (folder) => folder.size,
  RECENT: (folder) => folder.recentCount,
  UIDNEXT: (folder) => folder.uidNext,
  UIDVALIDITY: (folder) => folder.uidValidity,
  UNSEEN: (folder) => folder.messages().filter(({ flags }) => !flags.includes(SEEN)).length,
};

export const status: Command = (session, args) => {
  args.space();
  const name = args.mailbox();
  args.space();
  const items = args.list(() => args.word());
  args.finish();
  const known = items.length > 0 && items.every((item) => Object.hasOwn(STATUS, item));
  if (!known) throw bad("an unknown status item");
  const folder = session.account.existing(name);
  const values = items.map((item) => `${item} ${STATUS[item]?.(folder) ?? 0}`);
  session.say(`* STATUS ${quoted(encodeName(folder.name))} ${list(values)}`);
  return { text: "that is all" };
};

export const append: Command = (session, args) => {
  args.space();
  const name = args.mailbox();
  args.space();
  const flags = args.sees("(") ? args.list(() => args.flag()) : undefined;
  if (flags !== undefined) args.space();
  const date = args.sees('"') ? args.dateTime() : undefined;
  if (date !== undefined) args.space();
  const bytes = args.string();
  if (bytes === undefined) throw bad("the message is missing");
  args.finish();
  const folder = session.account.find(name);
  if (folder === undefined) throw no("no such mailbox", "TRYCREATE");
  const uid = folder.add({ bytes, flags: flags ?? [], internalDate: date ?? new Date() });
  return { text: "appended", code: `APPENDUID ${folder.uidValidity} ${uid}` };
};
