/** Commands on messages of the selected mailbox: RFC 3501 §6.4, RFC 4315 (UIDPLUS), RFC 6851 (MOVE), RFC 3691 (UNSELECT). */

import { parseFetchItems, renderItems, type FetchItem } from "./fetch.ts";
import type { Arguments } from "./parse.ts";
import { bad, no } from "./refusal.ts";
import { Candidate, parseSearch } from "./search.ts";
import type { Numbered, Selected } from "./selected.ts";
import type { Command, Session } from "./session.ts";
import { formatSet, resolveSet } from "./sets.ts";
import { list } from "./wire.ts";

type By = "seq" | "uid";
const SEEN = String.raw`\Seen`;
const DELETED = String.raw`\Deleted`;

/** RFC 5530: some of the messages asked for are gone, and the client will hear of it. */
function expungeIssued(missing: boolean): string | undefined {
  return missing ? "EXPUNGEISSUED" : undefined;
}

export function fetch(by: By): Command {
  return (session, args) => {
    args.space();
    const set = args.set();
    args.space();
    const asked = parseFetchItems(args);
    args.finish();
    const items = by === "uid" && !asked.some(({ kind }) => kind === "UID") ? [{ kind: "UID" } as const, ...asked] : asked;
    const { found, missing } = session.selected.pick(set, by);
    for (const each of found) fetchOne(session, each, items);
    return { text: "fetched", code: expungeIssued(missing) };
  };
}

function fetchOne(session: Session, { seq, message }: Numbered, asked: readonly FetchItem[]): void {
  const { folder, readOnly } = session.selected;
  const marks = !readOnly && asked.some((item) => item.kind === "SECTION" && item.marksSeen) && !message.flags.includes(SEEN);
  if (marks) folder.setFlags(message.uid, [...message.flags, SEEN], session);
  const now = folder.get(message.uid) ?? message;
  const items = marks && !asked.some(({ kind }) => kind === "FLAGS") ? [...asked, { kind: "FLAGS" } as const] : asked;
  session.wire.write([`* ${seq} FETCH (`, ...renderItems(items, now, session.selected.flagsOf(now)), ")\r\n"]);
}

export function store(by: By): Command {
  return (session, args) => {
    args.space();
    const set = args.set();
    args.space();
    const sign = args.take(/[+-]/y) ?? "";
    const item = args.word("FLAGS are missing");
    if (item !== "FLAGS" && item !== "FLAGS.SILENT") throw bad("only FLAGS can be stored");
    args.space();
    const flags = args.sees("(") ? args.list(() => args.flag()) : flagsInTheOpen(args);
    args.finish();
    const selected = session.writable;
    const { found, missing } = selected.pick(set, by);
    for (const { message } of found) selected.folder.setFlags(message.uid, changed(message.flags, sign, flags), session);
    if (item === "FLAGS") for (const each of found) sayFlags(session, each, by);
    return { text: "stored", code: expungeIssued(missing) };
  };
}

function flagsInTheOpen(args: Arguments): string[] {
  const flags = [args.flag()];
  while (args.more()) flags.push(args.flag());
  return flags;
}

function changed(old: readonly string[], sign: string, flags: readonly string[]): readonly string[] {
  if (sign === "") return flags;
  if (sign === "+") return [...old, ...flags];
  const dropped = flags.map((flag) => flag.toLowerCase());
  return old.filter((flag) => !dropped.includes(flag.toLowerCase()));
}

function sayFlags(session: Session, { seq, message }: Numbered, by: By): void {
  const now = session.selected.folder.get(message.uid) ?? message;
  const uid = by === "uid" ? `UID ${message.uid} ` : "";
  session.say(`* ${seq} FETCH (${uid}FLAGS ${list(session.selected.flagsOf(now))})`);
}

export function search(by: By): Command {
  return (session, args) => {
    args.space();
    const { selected } = session;
    const test = parseSearch(args, { count: selected.count, lastUid: selected.lastUid });
    const hits = selected.numbered().filter(({ seq, message }) => test(new Candidate(seq, message, selected.isRecent(message.uid))));
    session.say(["* SEARCH", ...hits.map(({ seq, message }) => (by === "uid" ? message.uid : seq))].join(" "));
    return { text: "searched" };
  };
}

export function copy(by: By): Command {
  return (session, args) => {
    const { code, missing } = transfer(session, args, { by, selected: session.selected });
    return { text: code === undefined ? "nothing to copy" : "copied", code: code ?? expungeIssued(missing) };
  };
}

export function move(by: By): Command {
  return (session, args) => {
    const selected = session.writable;
    const { code, found, missing } = transfer(session, args, { by, selected });
    // The COPYUID of a MOVE comes untagged, before the expunges: RFC 6851 §4.3.
    if (code !== undefined) session.say(`* OK [${code}] moved`);
    for (const { message } of found) selected.folder.remove(message.uid, session);
    session.tellNews(true);
    return { text: code === undefined ? "nothing to move" : "moved", code: expungeIssued(missing) };
  };
}

function transfer(session: Session, args: Arguments, { by, selected }: { by: By; selected: Selected }) {
  args.space();
  const set = args.set();
  args.space();
  const name = args.mailbox();
  args.finish();
  const target = session.account.find(name);
  if (target === undefined) throw no("no such mailbox", "TRYCREATE");
  const { found, missing } = selected.pick(set, by);
  const made = found.map(({ message }) => target.add(message, session));
  const from = found.map(({ message }) => message.uid);
  const code = made.length === 0 ? undefined : `COPYUID ${target.uidValidity} ${formatSet(from)} ${formatSet(made)}`;
  return { found, missing, code };
}

/** EXPUNGE, or UID EXPUNGE of some messages only. */
export function expunge(by: By): Command {
  return (session, args) => {
    if (by === "uid") args.space();
    const set = by === "uid" ? args.set() : undefined;
    args.finish();
    const selected = session.writable;
    const within = set === undefined ? () => true : resolveSet(set, selected.lastUid);
    expungeDeleted(session, selected, within);
    session.tellNews(true);
    return { text: "expunged" };
  };
}

function expungeDeleted(session: Session, selected: Selected, within: (uid: number) => boolean): void {
  for (const { message } of selected.numbered()) {
    if (message.flags.includes(DELETED) && within(message.uid)) selected.folder.remove(message.uid, session);
  }
}

/** CLOSE: expunge without a word, then leave the mailbox. */
export const close: Command = (session, args) => {
  args.finish();
  const { selected } = session;
  if (!selected.readOnly) expungeDeleted(session, selected, () => true);
  session.deselect();
  return { text: "closed" };
};

export const unselect: Command = (session, args) => {
  args.finish();
  session.deselect();
  return { text: "unselected" };
};
