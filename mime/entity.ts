/** MIME entities as bytes: canonical line ends, base64, Content-Type, multiparts (RFC 8551 §3.1, RFC 2045, RFC 2046). */
import { randomBytes } from "node:crypto";
import { Fault } from "./fault.ts";
import { field, joinMessage, messagePieces, onlyValue, splitMessage, type HeaderField, type SplitMessage } from "./headers.ts";
import { madeLater, octetsIn, room, slices, whole, type Octets, type Pieces } from "./pieces.ts";

const CR = 0x0d;
const LF = 0x0a;

/** The bytes with every line end as CRLF: a lone CR or LF becomes one (RFC 8551 §3.1.1). Returned as they are where nothing changes. */
export function toCrlf(bytes: Buffer): Buffer {
  let lone = 0;
  for (let at = 0; at < bytes.length; at++) {
    if (bytes[at] === LF && bytes[at - 1] !== CR) lone++;
    else if (bytes[at] === CR && bytes[at + 1] !== LF) lone++;
  }
  if (lone === 0) return bytes;
  const out = Buffer.allocUnsafe(bytes.length + lone);
  let to = 0;
  for (let at = 0; at < bytes.length; at++) {
    const octet = bytes[at] ?? 0;
    if (octet === LF && bytes[at - 1] !== CR) out[to++] = CR;
    out[to++] = octet;
    if (octet === CR && bytes[at + 1] !== LF) out[to++] = LF;
  }
  return out;
}

const BASE64_LINE = 76;
const LINE_OCTETS = 57;
/** So much is encoded or decoded at a time: a multiple of both line lengths' needs, small beside a letter. */
const AT_A_TIME = LINE_OCTETS * 1_024;

/** Octets of base64 text with its line ends. */
const base64Octets = (octets: number): number => 4 * Math.ceil(octets / 3) + 2 * Math.ceil(octets / LINE_OCTETS);

/** Base64 in lines of 76 characters, each ended by CRLF (RFC 2045 §6.8). */
export function encodeBase64(octets: Octets): Buffer {
  return whole(base64Pieces(octets));
}

/** The same in pieces. */
export function base64Pieces(octets: Octets): Pieces {
  const length = octetsIn(octets);
  if (length > 0 && length <= AT_A_TIME) return madeLater(base64Octets(length), () => [inLines(whole(octets))]);
  return madeLater(base64Octets(length), function* () {
    const block = Buffer.allocUnsafe(Math.min(AT_A_TIME, length)); // of whole lines, unless it is the last one
    let filled = 0;
    for (const piece of slices(octets)) {
      for (let from = 0; from < piece.length;) {
        const copied = piece.copy(block, filled, from);
        from += copied;
        filled += copied;
        if (filled < AT_A_TIME) continue;
        yield inLines(block);
        filled = 0;
      }
    }
    if (filled > 0) yield inLines(block.subarray(0, filled));
  });
}

/** @param octets no more than are encoded at a time */
function inLines(octets: Buffer): Buffer {
  const text = octets.toString("base64");
  const out = room(base64Octets(octets.length));
  let from = out.length - text.length;
  out.write(text, from, "latin1");
  for (let to = 0; from < out.length; from += BASE64_LINE) {
    const end = Math.min(from + BASE64_LINE, out.length);
    out.copyWithin(to, from, end); // each line moves to the left, over what has moved already
    to += end - from;
    out[to++] = CR;
    out[to++] = LF;
  }
  return out;
}

/** What is neither base64 nor white space (RFC 2045 §6.8), and white space. */
const [FOREIGN, SPACES] = [/[^A-Za-z0-9+/=]/u, /[\r\n \t]+/gu];
/** So much text is decoded at a time. */
const TEXT_AT_A_TIME = 64 << 10;

/** Where the lines end that begin here and are as long as the first, in whole groups of four; and how many octets they stand for. */
function evenLines(text: Buffer, from: number): { readonly end: number; readonly octets: number } {
  const found = text.indexOf(LF, from);
  const line = found > from && text[found - 1] === CR ? found - 1 - from : found - from;
  if (line <= 0 || line % 4 !== 0) return { end: from, octets: 0 };
  const step = found + 1 - from;
  const last = Math.min(text.length, from + Math.max(step, TEXT_AT_A_TIME)) - step;
  const behind = text[from + line];
  let end = from;
  while (end <= last && text[end + step - 1] === LF && text[end + line] === behind) end += step;
  return { end, octets: ((end - from) / step) * (line / 4) * 3 };
}

/** Where a piece of text ends that is decoded at a time: behind a line, unless it is longer. */
function pieceEnd(text: Buffer, from: number): number {
  if (text.length - from <= TEXT_AT_A_TIME) return text.length;
  const found = text.lastIndexOf(LF, from + TEXT_AT_A_TIME - 1);
  return found < from ? from + TEXT_AT_A_TIME : found + 1;
}

/**
 * The library's decoder skips what is foreign to it, and knows two letters more. Lines of one length are given to it as they stand: the number
 * of octets shows whether it skipped anything but their ends. What is left goes through two regular expressions.
 * @param out where it goes; the text itself will do, for what is read is ahead of what is written. @throws Fault `malformed`: a character outside the alphabet
 */
function decodeBase64(text: Buffer, out: Buffer = Buffer.allocUnsafe(Math.ceil((text.length * 3) / 4))): Buffer {
  let [to, at, rest] = [0, 0, ""];
  while (at < text.length) {
    const even = rest === "" ? evenLines(text, at) : { end: at, octets: 0 };
    const end = even.end > at ? even.end : pieceEnd(text, at);
    let characters = text.toString("latin1", at, end);
    at = end;
    if (even.octets > 0 && !characters.includes("-") && !characters.includes("_")) {
      const written = out.write(characters, to, "base64");
      if (written === even.octets) {
        to += written;
        continue;
      }
    }
    characters = rest + characters.replaceAll(SPACES, "");
    if (FOREIGN.test(characters)) throw new Fault("malformed", "not base64");
    const quads = at === text.length ? characters.length : characters.length - (characters.length % 4);
    to += out.write(characters.slice(0, quads), to, "base64");
    rest = characters.slice(quads);
  }
  return out.subarray(0, to);
}

export interface ContentType {
  /** `type/subtype` in lower case. */
  readonly type: string;
  /** Names in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

/**
 * Parses the value of a Content-Type field; an absent field is text/plain (RFC 2045 §5.2).
 * @throws Fault `malformed`: a parameter stands twice or cannot be read
 */
export function parseContentType(value: string | undefined): ContentType {
  if (value === undefined) return { type: "text/plain", parameters: new Map() };
  const bare = /^\s*([!#-'*+.0-9A-Z^-~-]+\/[!#-'*+.0-9A-Z^-~-]+)\s*/u.exec(value);
  if (!bare?.[1]) throw new Fault("malformed", "a Content-Type that cannot be read");
  const parameters = new Map<string, string>();
  const pattern = /\s*;\s*(?:([!#-'*+.0-9A-Z^-~-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([!#-'*+.0-9A-Z^-~-]+))\s*)?/guy;
  pattern.lastIndex = bare[0].length;
  while (pattern.lastIndex < value.length) {
    const match = pattern.exec(value);
    if (!match) throw new Fault("malformed", "a Content-Type parameter that cannot be read");
    const name = match[1]?.toLowerCase();
    if (name === undefined) continue;
    if (parameters.has(name)) throw new Fault("malformed", `the Content-Type parameter ${name} stands twice`);
    parameters.set(name, match[2]?.replace(/\\(.)/gu, "$1") ?? match[3] ?? "");
  }
  return { type: bare[1].toLowerCase(), parameters };
}

export interface Entity extends SplitMessage {
  readonly contentType: ContentType;
}

/** Splits an entity and reads its Content-Type. @throws Fault `malformed`, `too-large`. */
export function parseEntity(bytes: Buffer): Entity {
  const split = splitMessage(bytes);
  return { ...split, contentType: parseContentType(onlyValue(split.fields, "content-type")) };
}

/** Whether octets that were read stay as they are, or are written over with what is made of them: a large letter is then in memory once. */
export type Use = "keep" | "spend";

/** The entity's body with its transfer encoding undone; only the encodings that Kakitome writes are read. @throws Fault `malformed`. */
export function decodedBody(entity: SplitMessage, use: Use = "keep"): Buffer {
  const encoding = (onlyValue(entity.fields, "content-transfer-encoding") ?? "7bit").toLowerCase();
  if (encoding === "base64") return use === "spend" ? decodeBase64(entity.body, entity.body) : decodeBase64(entity.body);
  if (encoding === "7bit" || encoding === "8bit" || encoding === "binary") return entity.body;
  throw new Fault("malformed", "a transfer encoding that is not read here");
}

const MOST_PARTS = 100;
/** White space that may follow a boundary on its line (RFC 2046 §5.1.1). */
const LONGEST_PADDING = 998;

/**
 * The parts between the boundaries, as bytes, exactly (RFC 2046 §5.1.1); preamble and epilogue are dropped.
 * @throws Fault `malformed`: no boundary parameter, not closed, or more than 100 parts
 */
export function splitMultipart(entity: Entity): Buffer[] {
  const boundary = entity.contentType.parameters.get("boundary");
  if (!entity.contentType.type.startsWith("multipart/") || !boundary || boundary.length > 70) {
    throw new Fault("malformed", "not a multipart with a boundary");
  }
  const { body } = entity;
  const dashes = Buffer.from(`--${boundary}`, "latin1");
  const parts: Buffer[] = [];
  let start: number | undefined;
  for (let at = 0; at < body.length;) {
    const found = body.indexOf(dashes, at);
    if (found < 0) break;
    at = found + dashes.length;
    const atLineStart = found === 0 || (body[found - 1] === LF && body[found - 2] === CR);
    if (!atLineStart) continue; // before the line's end is looked for: look-alikes cost one look each
    const lineEnd = body.indexOf("\r\n", at, "latin1");
    const rest = body.subarray(at, lineEnd < 0 ? body.length : lineEnd);
    at = lineEnd < 0 ? body.length : lineEnd;
    if (rest.length > LONGEST_PADDING || !/^(?:--)?[ \t]*$/u.test(rest.toString("latin1"))) continue;
    if (start !== undefined) parts.push(body.subarray(start, Math.max(start, found - 2)));
    if (parts.length > MOST_PARTS) throw new Fault("malformed", "too many parts");
    if (rest[0] === 0x2d) return parts;
    start = lineEnd < 0 ? body.length : lineEnd + 2;
  }
  throw new Fault("malformed", "a multipart that is not closed");
}

const BOUNDARY_OCTETS = 18;
let unused = Buffer.alloc(0);

/** That no part can have foreseen. Many at a time are made: each call costs more than its octets. */
function newBoundary(): string {
  if (unused.length === 0) unused = randomBytes(64 * BOUNDARY_OCTETS);
  const octets = unused.subarray(0, BOUNDARY_OCTETS);
  unused = unused.subarray(BOUNDARY_OCTETS);
  return `=_${octets.toString("base64url")}`;
}

interface MultipartOptions {
  /** Stand before the Content-Type. */
  readonly fields?: readonly HeaderField[];
  readonly parameters?: string;
  /** A random one where left out. */
  readonly boundary?: string;
}

/** A multipart entity of these parts. */
export function multipart(subtype: string, parts: readonly Octets[], options: MultipartOptions = {}): Buffer {
  return whole(multipartPieces(subtype, parts, options));
}

/** The same in pieces. */
export function multipartPieces(subtype: string, parts: readonly Octets[], options: MultipartOptions = {}): Pieces {
  const boundary = options.boundary ?? newBoundary();
  const body = parts.flatMap((part) => [Buffer.from(`--${boundary}\r\n`), part, Buffer.from("\r\n")]);
  const parameters = options.parameters === undefined ? "" : ` ${options.parameters};`;
  return messagePieces(
    [...(options.fields ?? []), field("Content-Type", `multipart/${subtype};${parameters}\r\n boundary="${boundary}"`)],
    ...body,
    Buffer.from(`--${boundary}--\r\n`),
  );
}

/** An entity in base64. @param head fields to stand on top */
export function base64Entity(contentType: string, bytes: Octets, disposition?: string, head: readonly HeaderField[] = []): Buffer {
  return whole(base64EntityPieces(contentType, bytes, disposition, head));
}

/** The same in pieces. */
export function base64EntityPieces(contentType: string, bytes: Octets, disposition?: string, head: readonly HeaderField[] = []): Pieces {
  const fields = [...head, field("Content-Type", contentType), field("Content-Transfer-Encoding", "base64")];
  if (disposition) fields.push(field("Content-Disposition", disposition));
  return messagePieces(fields, base64Pieces(bytes));
}

/** A text/plain entity in UTF-8: 7bit where the text allows it, else base64. Lines end in CRLF. */
export function textEntity(text: string): Buffer {
  const bytes = toCrlf(Buffer.from(text, "utf8"));
  if (/[^\x09\x0A\x0D\x20-\x7E]/u.test(text)) return base64Entity("text/plain; charset=utf-8", bytes, "inline");
  return joinMessage([field("Content-Type", "text/plain; charset=us-ascii"), field("Content-Disposition", "inline")], bytes);
}

/** Fields of a mail as a part of a report; in ASCII whatever they are, for what is signed must not be changed on its way (RFC 8551 §3.1.1, RFC 6533 §6). */
export function headersEntity(fields: readonly HeaderField[]): Buffer {
  const octets = joinMessage(fields, Buffer.alloc(0));
  const isAscii = octets.every((octet) => octet < 0x80);
  return isAscii ? joinMessage([field("Content-Type", "text/rfc822-headers")], octets) : base64Entity("message/global-headers", octets);
}
