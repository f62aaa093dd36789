/** What a sender asks for in the mail itself, whatever the client: keywords in the Subject and fields of our own, taken out before anything is sealed (docs/policy.md). */
import { duration } from "../config/units.ts";
import { Fault } from "../mime/fault.ts";
import { field, valueOf, type HeaderField } from "../mime/headers.ts";
import { refused } from "./author.ts";
import { decodedWords, encodedWords } from "./subject.ts";

/** What one mail asks for; what is undefined it leaves to the policy. */
export interface Wish {
  /** Whether it is to be sealed, whatever the policy lets through. */
  readonly seal: boolean;
  readonly hold: "held" | "enclosed" | undefined;
  readonly expires: Date | undefined;
  readonly receipt: boolean | undefined;
  /** The value of the Subject outside. */
  readonly subject: string | undefined;
}

export const NO_WISH: Wish = { seal: false, hold: undefined, expires: undefined, receipt: undefined, subject: undefined };

const PREFIX = "kakitome-";
/** Fields that this or another gateway puts into opened letters: a letter that is sent on has them. */
const RESULTS = ["kakitome-session", "kakitome-filing"];
const KNOWN = ["kakitome-expires", "kakitome-hold", "kakitome-receipt", "kakitome-subject"];
const LONGEST_SUBJECT = 200;

/**
 * Reads the triggers and takes them out of the header.
 * @throws Fault `malformed` with words for the sender: a trigger that cannot be meant is never ignored
 */
export function takeTriggers(fields: readonly HeaderField[], now: Date): { fields: readonly HeaderField[]; wish: Wish } {
  const values = new Map<string, string>();
  for (const item of fields.filter(({ name }) => isOurs(name))) {
    if (!KNOWN.includes(item.name))
      throw refused(`The field ${nameIn(item)} is not known; there are Kakitome-Expires, -Hold, -Receipt and -Subject.`);
    if (values.has(item.name)) throw refused(`The field ${nameIn(item)} stands twice.`);
    values.set(item.name, valueOf(item));
  }
  const { keywords, rest } = keywordsIn(fields.filter(({ name }) => !isOurs(name)));
  const hold = oneOf("Kakitome-Hold", values.get("kakitome-hold"), ["held", "enclosed"] as const);
  const receipt = oneOf("Kakitome-Receipt", values.get("kakitome-receipt"), ["yes", "no"] as const);
  const isRegistered = keywords.has("registered");
  if (isRegistered && hold === "enclosed") throw refused("[registered] and Kakitome-Hold: enclosed contradict each other.");
  const wish = {
    seal: keywords.size > 0 || hold !== undefined,
    hold: isRegistered ? ("held" as const) : hold,
    expires: expiryIn(values.get("kakitome-expires"), now),
    receipt: receipt && receipt === "yes",
    subject: subjectIn(values.get("kakitome-subject")),
  };
  return { fields: rest, wish };
}

const isOurs = (name: string): boolean => name.startsWith(PREFIX) && !RESULTS.includes(name);

const nameIn = ({ raw }: HeaderField): string => raw.toString("latin1").split(":", 1)[0]?.trim().slice(0, 60) ?? "";

function oneOf<T extends string>(name: string, value: string | undefined, words: readonly T[]): T | undefined {
  if (value === undefined) return undefined;
  const found = words.find((word) => word === value.toLowerCase());
  if (found === undefined) throw refused(`${name}: write ${words.join(" or ")}.`);
  return found;
}

/** `+7d` and the like, an RFC 3339 time, or a date, which means its end in UTC. */
function expiryIn(value: string | undefined, now: Date): Date | undefined {
  if (value === undefined) return undefined;
  const wrong = (): Fault => refused("Kakitome-Expires: write a time to come, such as +7d or 2026-12-31T12:00:00Z.");
  const isDate = /^\d{4}-\d\d-\d\d$/u.test(value);
  const isTime = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)$/u.test(value);
  if (isDate || isTime) {
    const time = new Date(isDate ? `${value}T23:59:59Z` : value.toUpperCase());
    const day = value.slice(0, 10);
    const midnight = new Date(`${day}T00:00:00Z`); // not February 30
    if (!Number.isFinite(time.getTime()) || !Number.isFinite(midnight.getTime()) || !midnight.toISOString().startsWith(day) || time <= now)
      throw wrong();
    return time;
  }
  if (!value.startsWith("+")) throw wrong();
  try {
    const length = duration(value.slice(1));
    const time = new Date(now.getTime() + length);
    if (length > 0 && Number.isFinite(time.getTime())) return time;
  } catch {
    // said below
  }
  throw wrong();
}

function subjectIn(value: string | undefined): string | undefined {
  if (value === undefined) return undefined;
  const text = decodedWords(value).replaceAll(/\s+/gu, " ").trim();
  if (text === "" || text.length > LONGEST_SUBJECT) throw refused(`Kakitome-Subject: write 1 to ${LONGEST_SUBJECT} characters.`);
  return text;
}

/** At the head of the Subject, also behind what clients of any language put before an answer: short words with a colon. */
const KEYWORD = /^((?:\p{L}{1,8}(?:\[\d{1,4}\])?[ \t]*:[ \t]*){0,20})\[(registered|seal)\][ \t]*/iu;

/** A Subject without keyword keeps its octets; one with a keyword in plain letters keeps the rest of them. */
function keywordsIn(fields: readonly HeaderField[]): { keywords: ReadonlySet<string>; rest: readonly HeaderField[] } {
  const keywords = new Set<string>();
  const strip = (text: string): string => {
    let left = text;
    for (let match = KEYWORD.exec(left); match; match = KEYWORD.exec(left)) {
      keywords.add(match[2]?.toLowerCase() ?? "");
      left = `${match[1] ?? ""}${left.slice(match[0].length)}`;
    }
    return left;
  };
  const rest = fields.map((item) => {
    if (item.name !== "subject") return item;
    const raw = item.raw.toString("latin1");
    const head = /^[^:]*:(?:[ \t]|\r\n[ \t])*/u.exec(raw)?.[0] ?? "";
    const plain = strip(raw.slice(head.length));
    if (plain.length < raw.length - head.length) return withoutMore({ ...item, raw: Buffer.from(head + plain, "latin1") }, strip);
    return withoutMore(item, strip);
  });
  return { keywords, rest };
}

/** Whether one hides in encoded words, on the next line, or behind characters that look like others or like nothing, as clients write them. */
function withoutMore(item: HeaderField, strip: (text: string) => string): HeaderField {
  const shown = decodedWords(valueOf(item))
    .normalize("NFKC")
    .replaceAll(/\p{Cf}/gu, "")
    .trim();
  const left = strip(shown);
  return left === shown ? item : field("Subject", encodedWords(left));
}
