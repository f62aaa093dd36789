/** The items of FETCH, read from a command and written for one message: RFC 3501 §6.4.5 and §7.4.2. */

import { extract, parseEntity, type Section } from "./entity.ts";
import type { Message } from "./folder.ts";
import type { Arguments } from "./parse.ts";
import { bad } from "./refusal.ts";
import { envelope, structure } from "./structure.ts";
import { dateTime, list, type Piece } from "./wire.ts";

type Plain = "UID" | "FLAGS" | "INTERNALDATE" | "RFC822.SIZE" | "ENVELOPE" | "BODY" | "BODYSTRUCTURE";

/** A section, with the label it is answered under. */
interface SectionItem {
  readonly kind: "SECTION";
  readonly label: string;
  readonly section: Section;
  readonly marksSeen: boolean;
  readonly partial: { readonly start: number; readonly count: number } | undefined;
}

/** One thing to fetch. */
export type FetchItem = { readonly kind: Plain } | SectionItem;

const PLAIN: readonly Plain[] = ["UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY", "BODYSTRUCTURE"];
const MACROS: Readonly<Record<string, readonly Plain[]>> = {
  ALL: ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"],
  FAST: ["FLAGS", "INTERNALDATE", "RFC822.SIZE"],
  FULL: ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"],
};
const OLD_SECTIONS: Readonly<Record<string, Section["part"]>> = { RFC822: "", "RFC822.HEADER": "HEADER", "RFC822.TEXT": "TEXT" };
const DEEPEST_PATH = 100;

/** Read a macro, one item, or a list of items. @throws Refusal BAD: an unknown item or section. */
export function parseFetchItems(args: Arguments): FetchItem[] {
  if (args.sees("(")) {
    const items = args.list(() => parseItem(args, args.word()));
    if (items.length === 0) throw bad("nothing to fetch");
    return items;
  }
  const word = args.word("items to fetch are missing");
  return Object.hasOwn(MACROS, word) ? (MACROS[word] ?? []).map((kind) => ({ kind })) : [parseItem(args, word)];
}

function parseItem(args: Arguments, word: string): FetchItem {
  if ((word === "BODY" || word === "BODY.PEEK") && args.sees("[")) return parseSection(args, word === "BODY");
  const plain = PLAIN.find((kind) => kind === word);
  if (plain !== undefined) return { kind: plain };
  const part = Object.hasOwn(OLD_SECTIONS, word) ? OLD_SECTIONS[word] : undefined;
  if (part === undefined) throw bad("an unknown item to fetch");
  return { kind: "SECTION", label: word, section: { path: [], part, fields: [] }, marksSeen: part !== "HEADER", partial: undefined };
}

function parseSection(args: Arguments, marksSeen: boolean): FetchItem {
  args.need(/\[/y, "a section is missing");
  const digits = args.take(/[1-9]\d{0,8}(?:\.[1-9]\d{0,8})*/y) ?? "";
  const path = digits === "" ? [] : digits.split(".").map(Number);
  if (path.length > DEEPEST_PATH) throw bad("the part number is too deep");
  const wantsPart = path.length === 0 || args.take(/\./y) !== undefined;
  const part = wantsPart && !args.sees("]") ? sectionPart(args.word(), path) : "";
  if (path.length > 0 && wantsPart && part === "") throw bad("a section ends with a dot");
  const names: string[] = [];
  if (part === "HEADER.FIELDS" || part === "HEADER.FIELDS.NOT") {
    args.space();
    names.push(...args.list(() => args.astring().toString("latin1")));
    if (names.length === 0) throw bad("field names are missing");
  }
  args.need(/\]/y, "a section does not end");
  const partial = parsePartial(args);
  const dotted = [digits, part].filter((piece) => piece !== "").join(".");
  const inside = names.length === 0 ? dotted : `${dotted} ${list(names.map(fieldName))}`;
  const label = `BODY[${inside}]${partial === undefined ? "" : `<${partial.start}>`}`;
  const fields = names.map((name) => name.toLowerCase());
  return { kind: "SECTION", label, section: { path, part, fields }, marksSeen, partial };
}

function sectionPart(word: string, path: readonly number[]): Section["part"] {
  const parts: readonly Section["part"][] = ["HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT", "TEXT", "MIME"];
  const part = parts.find((known) => known === word);
  if (part === undefined || (part === "MIME" && path.length === 0)) throw bad("an unknown section");
  return part;
}

// Sent back in the label; a name that no header field can have would break the answer.
function fieldName(name: string): string {
  if (!/^[\x21-\x7e]{1,200}$/.test(name)) throw bad("not the name of a header field");
  return /[(){%*"\\\]]/.test(name) ? `"${name.replaceAll(/["\\]/g, String.raw`\$&`)}"` : name;
}

function parsePartial(args: Arguments): { start: number; count: number } | undefined {
  const text = args.take(/<\d{1,15}\.[1-9]\d{0,14}>/y);
  if (text === undefined) {
    if (args.sees("<")) throw bad("not a partial");
    return undefined;
  }
  const [start = 0, count = 0] = text.slice(1, -1).split(".").map(Number);
  return { start, count };
}

const RENDER: Readonly<Record<Plain, (message: Message, flags: readonly string[]) => string>> = {
  UID: ({ uid }) => `UID ${uid}`,
  FLAGS: (_message, flags) => `FLAGS ${list(flags)}`,
  INTERNALDATE: ({ internalDate }) => `INTERNALDATE ${dateTime(internalDate)}`,
  "RFC822.SIZE": ({ bytes }) => `RFC822.SIZE ${bytes.length}`,
  ENVELOPE: ({ bytes }) => `ENVELOPE ${envelope(parseEntity(bytes))}`,
  BODY: ({ bytes }) => `BODY ${structure(bytes, parseEntity(bytes), false)}`,
  BODYSTRUCTURE: ({ bytes }) => `BODYSTRUCTURE ${structure(bytes, parseEntity(bytes), true)}`,
};

/** The items of one message, as they stand between the parentheses of a FETCH response. */
export function renderItems(items: readonly FetchItem[], message: Message, flags: readonly string[]): Piece[] {
  const pieces: Piece[] = [];
  for (const item of items) {
    if (pieces.length > 0) pieces.push(" ");
    pieces.push(...(item.kind === "SECTION" ? renderSection(item, message.bytes) : [RENDER[item.kind](message, flags)]));
  }
  return pieces;
}

function renderSection({ label, section, partial }: SectionItem, bytes: Buffer): Piece[] {
  const whole = extract(bytes, section);
  if (whole === undefined) return [`${label} NIL`];
  const { start, count } = partial ?? { start: 0, count: whole.length };
  const octets = whole.subarray(start, start + count);
  return [`${label} {${octets.length}}\r\n`, octets];
}
