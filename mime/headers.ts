/** Header fields as bytes: split, find, remove, fold (RFC 5322 §2.2). A field keeps its octets, so that what is not changed stays exact. */
import { Fault } from "./fault.ts";
import { inPieces, whole, type Octets, type Pieces } from "./pieces.ts";

export interface HeaderField {
  /** In lower case; empty for a line that is no field, which is carried along and never looked at. */
  readonly name: string;
  /** The octets as they stand, continuation lines and the last CRLF included. */
  readonly raw: Buffer;
}

export interface SplitMessage {
  readonly fields: readonly HeaderField[];
  readonly body: Buffer;
}

/** Limits of a header section, in octets and fields: beyond them a message is refused, not guessed at. */
const MOST_HEADER_OCTETS = 1 << 20;
const MOST_FIELDS = 5_000;
const COLON = 0x3a;
/** White space before the colon, folded too, hides no name from us: some readers see through it (RFC 5322 §4.5). */
const FIELD_NAME = /^([!-9;-~]+)[ \t\r\n]*$/u;

/**
 * Splits a message or MIME part (CRLF line ends) into its header fields and its body; a missing empty line means no body.
 * @throws Fault `too-large`: more than 1 MiB or 5,000 fields of header.
 */
export function splitMessage(bytes: Buffer): SplitMessage {
  const fields: HeaderField[] = [];
  let at = 0;
  let start = 0;
  const push = (end: number): void => {
    if (end > MOST_HEADER_OCTETS || fields.length >= MOST_FIELDS) throw new Fault("too-large", "the header section is too large");
    if (end > start) fields.push(fieldOf(bytes.subarray(start, end)));
    start = end;
  };
  while (at < bytes.length) {
    if (bytes[at] === 0x0d && bytes[at + 1] === 0x0a) {
      push(at);
      return { fields, body: bytes.subarray(at + 2) };
    }
    if (bytes[at] !== 0x20 && bytes[at] !== 0x09) push(at); // a line that is no continuation begins a field
    const lineEnd = bytes.indexOf("\r\n", at, "latin1");
    at = lineEnd < 0 ? bytes.length : lineEnd + 2;
  }
  push(bytes.length);
  return { fields, body: Buffer.alloc(0) };
}

function fieldOf(raw: Buffer): HeaderField {
  const name = FIELD_NAME.exec(raw.toString("latin1", 0, Math.max(0, raw.indexOf(COLON))))?.[1];
  return { name: name?.toLowerCase() ?? "", raw };
}

/**
 * Whether lines in it end with CRLF only and there is no NUL. In anything else, programs behind us see other fields than we do: files and
 * mail servers make a line end of each LF.
 */
export function isCanonical({ raw }: HeaderField): boolean {
  return !/\0|\r(?!\n)|(?<!\r)\n/u.test(raw.toString("latin1"));
}

/** The field's value: unfolded, without surrounding white space; octets above 127 read as UTF-8. */
export function valueOf(field: HeaderField): string {
  const text = field.raw.toString("utf8");
  return text
    .slice(text.indexOf(":") + 1)
    .replace(/\r\n(?=[ \t])/gu, "")
    .trim();
}

/** All fields of that name (lower case). */
export function fieldsNamed(fields: readonly HeaderField[], name: string): HeaderField[] {
  return fields.filter((field) => field.name === name);
}

/** The value of the only field of that name; undefined where there is none. @throws Fault `malformed` where there are several. */
export function onlyValue(fields: readonly HeaderField[], name: string): string | undefined {
  const found = fieldsNamed(fields, name);
  if (found.length > 1) throw new Fault("malformed", `more than one ${name} field`);
  return found[0] && valueOf(found[0]);
}

/**
 * Builds a field; the one way by which text becomes a header.
 * @throws Fault `malformed`: the name or the value holds CR, LF, NUL or another control character (folded white space excepted).
 */
export function field(name: string, value: string): HeaderField {
  if (!/^[!-9;-~]+$/u.test(name)) throw new Fault("malformed", "not a header field name");
  if (/[\0-\x08\x0B\x0C\x0E-\x1F\x7F]/u.test(value) || /\r\n(?![ \t])|\r(?!\n)|(?<!\r)\n/u.test(value)) {
    throw new Fault("malformed", `control characters in the ${name} field`);
  }
  return { name: name.toLowerCase(), raw: Buffer.from(`${name}: ${value}\r\n`, "utf8") };
}

/** Octets of text in one encoded word, so that it stays within 75 characters (RFC 2047 §2). */
const ENCODED_OCTETS = 45;

/** Text of a header: as it is in ASCII, otherwise as encoded words, each of whole characters (RFC 2047 §5). */
export function encodedWords(text: string): string {
  if (/^[\x20-\x7E]*$/u.test(text)) return text;
  const words = [""];
  for (const character of text) {
    const longer = (words.at(-1) ?? "") + character;
    if (Buffer.byteLength(longer) > ENCODED_OCTETS) words.push(character);
    else words[words.length - 1] = longer;
  }
  return words.map((word) => `=?utf-8?B?${Buffer.from(word, "utf8").toString("base64")}?=`).join("\r\n ");
}

/** Joins words into a value whose lines stay within 78 octets where the words allow it (RFC 5322 §2.1.1). */
export function folded(words: readonly string[], firstLineUsed: number): string {
  let text = "";
  let used = firstLineUsed;
  for (const word of words) {
    const breaks = text !== "" && used + 1 + word.length > 78;
    text += text === "" ? word : breaks ? `\r\n ${word}` : ` ${word}`;
    used = breaks ? 1 + word.length : used + 1 + word.length;
  }
  return text;
}

/** The fields and the body as one message again. */
export function joinMessage(fields: readonly HeaderField[], ...body: readonly Octets[]): Buffer {
  return whole(messagePieces(fields, ...body));
}

/** The same in pieces. */
export function messagePieces(fields: readonly HeaderField[], ...body: readonly Octets[]): Pieces {
  return inPieces(...fields.map(({ raw }) => (endsLine(raw) ? raw : Buffer.concat([raw, CRLF]))), CRLF, ...body);
}

const CRLF = Buffer.from("\r\n");
const endsLine = (raw: Buffer): boolean => raw.at(-2) === CRLF[0] && raw.at(-1) === CRLF[1];
