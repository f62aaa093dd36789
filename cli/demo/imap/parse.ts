/** The arguments of a command, taken one by one in the grammar of RFC 3501 §9. */

import type { RawCommand } from "./input.ts";
import { canonicalName, decodeName } from "./names.ts";
import { bad } from "./refusal.ts";
import { parseSet, type NumberSet } from "./sets.ts";
import { monthOf } from "./wire.ts";

const LONGEST_TAG = 100;
const LONGEST_FLAG = 100;
const MOST_ITEMS = 200;

export class Arguments {
  readonly #command: RawCommand;
  #row = 0;
  #at = 0;

  constructor(command: RawCommand) {
    this.#command = command;
  }

  /** The tag, or undefined when there is none that could be sent back. */
  tag(): string | undefined {
    const tag = this.take(/[^\x00-\x20\x7f-\xff(){%*"\\+]+(?= |$)/y);
    return tag === undefined || tag.length > LONGEST_TAG ? undefined : tag;
  }

  /** What a sticky pattern matches here, or undefined. */
  take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#command.lines[this.#row] ?? "")?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  /** What a sticky pattern must match here. @throws Refusal BAD with the reason. */
  need(pattern: RegExp, reason: string): string {
    const found = this.take(pattern);
    if (found === undefined) throw bad(reason);
    return found;
  }

  /** Whether the text goes on with this character. */
  sees(character: string): boolean {
    return this.#command.lines[this.#row]?.[this.#at] === character;
  }

  space(): void {
    this.need(/ +/y, "a space and an argument are missing");
  }

  /** A space when there are more arguments. */
  more(): boolean {
    return this.take(/ +(?=.)/y) !== undefined;
  }

  /** @throws Refusal BAD: the command goes on. */
  finish(): void {
    this.take(/ +/y);
    const whole = this.#row === this.#command.lines.length - 1 && this.#at === this.#command.lines[this.#row]?.length;
    if (!whole) throw bad("unexpected text after the arguments");
  }

  /** An atom in capitals: the name of a command or of an item. */
  word(reason = "a word is missing"): string {
    return this.need(/[A-Za-z0-9.$_-]+/y, reason).toUpperCase();
  }

  /** A quoted string or a literal, or undefined when neither begins here. */
  string(): Buffer | undefined {
    const inQuotes = this.take(/"[^"\\\r\n\0]*(?:\\["\\][^"\\\r\n\0]*)*"/y);
    if (inQuotes !== undefined) return Buffer.from(inQuotes.slice(1, -1).replaceAll(/\\(["\\])/g, "$1"), "latin1");
    const literal = this.#command.literals[this.#row];
    if (literal === undefined || this.take(/\{\d+\+?\}$/y) === undefined) return undefined;
    this.#row += 1;
    this.#at = 0;
    return literal;
  }

  /** A string or an atom. Octets above 127 pass in atoms too, for clients that are careless. */
  astring(): Buffer {
    return this.string() ?? Buffer.from(this.need(/[^\x00-\x20\x7f(){%*"\\]+/y, "a string is missing"), "latin1");
  }

  /** An astring, or a pattern with wildcards. */
  pattern(): string {
    const atom = (): Buffer => Buffer.from(this.need(/[^\x00-\x20\x7f(){"\\]+/y, "a pattern is missing"), "latin1");
    const text = decodeName(this.string() ?? atom());
    if (text.length > 1000) throw bad("the pattern is too long");
    return text;
  }

  mailbox(): string {
    return canonicalName(decodeName(this.astring()));
  }

  set(): NumberSet {
    return parseSet(this.need(/[\d:,*]+/y, "a set of numbers is missing"));
  }

  number(): number {
    return Number(this.need(/\d{1,15}/y, "a number is missing"));
  }

  /** Items in parentheses, each read by `item`. @throws Refusal BAD: over two hundred. */
  list<T>(item: () => T): T[] {
    this.need(/\( */y, "a list in parentheses is missing");
    const items: T[] = [];
    while (this.take(/ *\)/y) === undefined) {
      if (items.length > 0) this.space();
      if (items.length === MOST_ITEMS) throw bad("the list is too long");
      items.push(item());
    }
    return items;
  }

  /** A system flag or a keyword; \Recent and \* are nobody's to give. */
  flag(): string {
    const flag = this.need(/\\?[^\x00-\x20\x7f-\xff(){%*"\\\]]+/y, "a flag is missing");
    if (flag.length > LONGEST_FLAG || /^\\recent$/i.test(flag)) throw bad("this flag cannot be set");
    return flag;
  }

  /** A date of SEARCH, as the first millisecond of that day in UTC. */
  date(): Date {
    const text = this.need(/"?\d{1,2}-[A-Za-z]{3}-\d{4}"?/y, "a date like 1-Feb-1994 is missing").replaceAll('"', "");
    const [day = "", month = "", year = ""] = text.split("-");
    return calendarDay(Number(year), monthOf(month), Number(day));
  }

  /** The date-time of APPEND. */
  dateTime(): Date {
    const text = this.need(/"[ \d]\d-[A-Za-z]{3}-\d{4} \d\d:\d\d:\d\d [+-]\d{4}"/y, "a date and time is missing");
    const [day = "", month = "", year = ""] = text.slice(1, 12).trim().split("-");
    const [hours = 0, minutes = 0, seconds = 0] = text.slice(13, 21).split(":").map(Number);
    const zone = Number(text.slice(22, 23) + "1") * (Number(text.slice(23, 25)) * 60 + Number(text.slice(25, 27)));
    if (hours > 23 || minutes > 59 || seconds > 60) throw bad("no such time of day");
    return new Date(
      calendarDay(Number(year), monthOf(month), Number(day)).getTime() + ((hours * 60 + minutes - zone) * 60 + seconds) * 1000,
    );
  }
}

function calendarDay(year: number, month: number, day: number): Date {
  const date = new Date(0);
  date.setUTCFullYear(year, month, day);
  if (month < 0 || date.getUTCDate() !== day || date.getUTCMonth() !== month) throw bad("no such day");
  return date;
}
