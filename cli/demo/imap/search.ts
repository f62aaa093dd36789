/** SEARCH: its keys read into a test, and the test put to messages: RFC 3501 §6.4.4. */

import { parseEntity, type Entity } from "./entity.ts";
import type { Message } from "./folder.ts";
import { fieldOf, fromQuotedPrintable, lenientText, readable, textIn } from "./header.ts";
import type { Arguments } from "./parse.ts";
import { bad, no } from "./refusal.ts";
import { checkSequence, resolveSet } from "./sets.ts";
import { monthOf } from "./wire.ts";

/** A message as SEARCH looks at it; its text is computed once for all keys. */
export class Candidate {
  readonly seq: number;
  readonly message: Message;
  readonly recent: boolean;
  #header: readonly (readonly [string, string])[] | undefined;
  #body: string | undefined;

  constructor(seq: number, message: Message, recent: boolean) {
    this.seq = seq;
    this.message = message;
    this.recent = recent;
  }

  has(flag: string): boolean {
    return this.message.flags.some((each) => each.toLowerCase() === flag.toLowerCase());
  }

  /** Field names in lower case with their values, encoded words open, all in lower case. */
  get header(): readonly (readonly [string, string])[] {
    const { fields } = parseEntity(this.message.bytes);
    this.#header ??= fields.map(({ name, value }) => [name.toLowerCase(), readable(value).toLowerCase()] as const);
    return this.#header;
  }

  /** The body as it stands and its text parts decoded, in lower case. */
  get body(): string {
    const entity = parseEntity(this.message.bytes);
    this.#body ??= [lenientText(this.message.bytes.subarray(entity.body)), ...texts(this.message.bytes, entity)].join("\n").toLowerCase();
    return this.#body;
  }
}

export type Test = (candidate: Candidate) => boolean;

/** What numbers in a search refer to. */
export interface Span {
  readonly count: number;
  readonly lastUid: number;
}

const CHARSETS = ["UTF-8", "US-ASCII", "ISO-8859-1"];
const DEEPEST = 50;

/** Read the whole rest of a command as search keys. @throws Refusal BAD: not a key; NO: a charset we do not have. */
export function parseSearch(args: Arguments, span: Span): Test {
  if (args.take(/CHARSET +/iy) !== undefined) {
    const charset = args.astring().toString("latin1").toUpperCase();
    if (!CHARSETS.includes(charset)) throw no("this charset is not supported", `BADCHARSET (${CHARSETS.join(" ")})`);
    args.space();
  }
  const parser = new Parser(args, span);
  const tests = [parser.key(0)];
  while (args.more()) tests.push(parser.key(0));
  args.finish();
  return (candidate) => tests.every((test) => test(candidate));
}

class Parser {
  readonly #args: Arguments;
  readonly #span: Span;

  constructor(args: Arguments, span: Span) {
    this.#args = args;
    this.#span = span;
  }

  key(depth: number): Test {
    if (depth > DEEPEST) throw bad("the search is nested too deep");
    if (this.#args.sees("(")) return this.#group(depth);
    if (this.#args.take(/(?=[\d*])/y) !== undefined) return this.#sequence();
    const word = this.#args.word("a search key is missing");
    if (word === "NOT" || word === "OR") return this.#combined(word, depth);
    return this.#flagKey(word) ?? this.#dateKey(word) ?? this.#textKey(word) ?? this.#otherKey(word);
  }

  #group(depth: number): Test {
    const tests = this.#args.list(() => this.key(depth + 1));
    if (tests.length === 0) throw bad("a group without keys");
    return (candidate) => tests.every((test) => test(candidate));
  }

  #combined(word: "NOT" | "OR", depth: number): Test {
    const first = this.#next(depth);
    if (word === "NOT") return (candidate) => !first(candidate);
    const second = this.#next(depth);
    return (candidate) => first(candidate) || second(candidate);
  }

  #next(depth: number): Test {
    this.#args.space();
    return this.key(depth + 1);
  }

  #sequence(): Test {
    const set = this.#args.set();
    // A search of nothing finds nothing: clients ask for 1:* before they know that a mailbox is empty.
    if (this.#span.count > 0) checkSequence(set, this.#span.count);
    const within = resolveSet(set, this.#span.count);
    return ({ seq }) => within(seq);
  }

  #flagKey(word: string): Test | undefined {
    if (word === "KEYWORD" || word === "UNKEYWORD") {
      this.#args.space();
      const flag = this.#args.flag();
      return (candidate) => candidate.has(flag) === (word === "KEYWORD");
    }
    if (word === "ALL") return () => true;
    if (word === "RECENT") return ({ recent }) => recent;
    if (word === "OLD") return ({ recent }) => !recent;
    if (word === "NEW") return (candidate) => candidate.recent && !candidate.has(String.raw`\Seen`);
    const system = /^(UN)?(ANSWERED|DELETED|DRAFT|FLAGGED|SEEN)$/.exec(word);
    if (system === null) return undefined;
    const [flag, wanted] = [`\\${system[2] ?? ""}`, system[1] === undefined];
    return (candidate) => candidate.has(flag) === wanted;
  }

  #dateKey(word: string): Test | undefined {
    const found = /^(SENT)?(BEFORE|ON|SINCE)$/.exec(word);
    if (found === null) return undefined;
    this.#args.space();
    const day = this.#args.date().getTime();
    const dayOf = found[1] === undefined ? receivedDay : sentDay;
    return (candidate) => {
      const its = dayOf(candidate.message);
      if (its === undefined) return false;
      return found[2] === "BEFORE" ? its < day : found[2] === "ON" ? its === day : its >= day;
    };
  }

  #textKey(word: string): Test | undefined {
    if (word === "BODY" || word === "TEXT") {
      const wanted = this.#needle();
      const inHeader: Test = ({ header }) => header.some(([name, value]) => `${name}: ${value}`.includes(wanted));
      return (candidate) => candidate.body.includes(wanted) || (word === "TEXT" && inHeader(candidate));
    }
    if (!["FROM", "TO", "CC", "BCC", "SUBJECT", "HEADER"].includes(word)) return undefined;
    const wantedName = word === "HEADER" ? this.#needle() : word.toLowerCase();
    const wanted = this.#needle();
    return ({ header }) => header.some(([name, value]) => name === wantedName && value.includes(wanted));
  }

  #needle(): string {
    this.#args.space();
    return lenientText(this.#args.astring()).toLowerCase();
  }

  #otherKey(word: string): Test {
    if (!["UID", "LARGER", "SMALLER"].includes(word)) throw bad("an unknown search key");
    this.#args.space();
    if (word === "UID") {
      const within = resolveSet(this.#args.set(), this.#span.lastUid);
      return ({ message }) => within(message.uid);
    }
    const size = this.#args.number();
    return ({ message }) => (word === "LARGER" ? message.bytes.length > size : message.bytes.length < size);
  }
}

/** Days are compared as days, whatever the time and zone: RFC 3501 §6.4.4. */
function receivedDay({ internalDate }: Message): number {
  return Date.UTC(internalDate.getUTCFullYear(), internalDate.getUTCMonth(), internalDate.getUTCDate());
}

function sentDay({ bytes }: Message): number | undefined {
  const found = /(\d{1,2})\s+([A-Za-z]{3})[a-z]*\s+(\d{4})/.exec(fieldOf(parseEntity(bytes).fields, "date") ?? "");
  const month = monthOf(found?.[2] ?? "");
  return found === null || month < 0 ? undefined : Date.UTC(Number(found[3]), month, Number(found[1]));
}

function texts(bytes: Buffer, entity: Entity): string[] {
  const below = [...entity.parts, ...(entity.inner === undefined ? [] : [entity.inner])];
  if (below.length > 0) return below.flatMap((part) => texts(bytes, part));
  if (entity.type.toLowerCase() !== "text") return [];
  const raw = bytes.subarray(entity.body, entity.end);
  const encoding = (fieldOf(entity.fields, "content-transfer-encoding") ?? "").toLowerCase();
  const charset = entity.parameters.find(([name]) => name.toLowerCase() === "charset")?.[1] ?? "utf-8";
  if (encoding === "base64") return [textIn(charset, Buffer.from(raw.toString("latin1"), "base64"))];
  if (encoding === "quoted-printable") return [textIn(charset, fromQuotedPrintable(raw.toString("latin1")))];
  return [textIn(charset, raw)];
}
