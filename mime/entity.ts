/** MIME entities as bytes: canonical line ends, base64, Content-Type, multiparts (RFC 8551 §3.1, RFC 2045, RFC 2046). */
import { randomBytes } from "node:crypto";
import { Fault } from "./fault.ts";
import { field, joinMessage, onlyValue, splitMessage, type HeaderField, type SplitMessage } from "./headers.ts";

const CR = 0x0d;
const LF = 0x0a;
const PADDING = 0x3d;

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
const AT_A_TIME = LINE_OCTETS * 4_096;

/** Base64 of octets, whole or in pieces, in lines of 76 characters, each ended by CRLF (RFC 2045 §6.8). */
export function encodeBase64(octets: Buffer | readonly Buffer[]): Buffer {
  const all = [octets].flat();
  const length = all.reduce((sum, piece) => sum + piece.length, 0);
  const lines = Math.ceil(length / LINE_OCTETS);
  const out = Buffer.allocUnsafe(4 * Math.ceil(length / 3) + 2 * lines);
  const block = Buffer.allocUnsafe(Math.min(AT_A_TIME, length)); // of whole lines, unless it is the last one
  const flat = Buffer.allocUnsafe(4 * Math.ceil(block.length / 3));
  let [to, filled] = [0, 0];
  const flush = (): void => {
    const written = flat.write(block.toString("base64", 0, filled), "latin1");
    for (let at = 0; at < written; at += BASE64_LINE) {
      to += flat.copy(out, to, at, Math.min(at + BASE64_LINE, written));
      out[to++] = CR;
      out[to++] = LF;
    }
    filled = 0;
  };
  for (const piece of all) {
    for (let from = 0; from < piece.length;) {
      const copied = piece.copy(block, filled, from);
      from += copied;
      filled += copied;
      if (filled === AT_A_TIME) flush();
    }
  }
  if (filled > 0) flush();
  return out;
}

/** @throws Fault `malformed`: a character outside the alphabet. */
function decodeBase64(text: Buffer): Buffer {
  const out = Buffer.allocUnsafe(Math.ceil((text.length * 3) / 4));
  const flat = Buffer.allocUnsafe(Math.min(AT_A_TIME, text.length)); // of a length divisible by four, unless it holds everything
  let [to, length] = [0, 0];
  const flush = (): void => {
    to += out.write(flat.toString("latin1", 0, length), to, "base64");
    length = 0;
  };
  for (const octet of text) {
    const inAlphabet =
      (octet >= 0x61 && octet <= 0x7a) || (octet >= 0x2f && octet <= 0x39) || (octet >= 0x41 && octet <= 0x5a) || octet === 0x2b;
    if (inAlphabet || octet === PADDING) {
      flat[length++] = octet;
      if (length === AT_A_TIME) flush();
    } else if (octet !== CR && octet !== LF && octet !== 0x20 && octet !== 0x09) throw new Fault("malformed", "not base64");
  }
  flush();
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

/** The entity's body with its transfer encoding undone; only the encodings that Kakitome writes are read. @throws Fault `malformed`. */
export function decodedBody(entity: SplitMessage): Buffer {
  const encoding = (onlyValue(entity.fields, "content-transfer-encoding") ?? "7bit").toLowerCase();
  if (encoding === "base64") return decodeBase64(entity.body);
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

/** A multipart entity of these parts, whole or in pieces. @param options.fields stand before the Content-Type @param options.boundary a random one where left out */
export function multipart(
  subtype: string,
  parts: readonly (Buffer | readonly Buffer[])[],
  options: { fields?: readonly HeaderField[]; parameters?: string; boundary?: string } = {},
): Buffer {
  const boundary = options.boundary ?? `=_${randomBytes(18).toString("base64url")}`;
  const body = parts.flatMap((part) => [Buffer.from(`--${boundary}\r\n`), ...[part].flat(), Buffer.from("\r\n")]);
  const parameters = options.parameters === undefined ? "" : ` ${options.parameters};`;
  return joinMessage(
    [...(options.fields ?? []), field("Content-Type", `multipart/${subtype};${parameters}\r\n boundary="${boundary}"`)],
    ...body,
    Buffer.from(`--${boundary}--\r\n`),
  );
}

/** An entity in base64. @param head fields to stand on top */
export function base64Entity(
  contentType: string,
  bytes: Buffer | readonly Buffer[],
  disposition?: string,
  head: readonly HeaderField[] = [],
): Buffer {
  const fields = [...head, field("Content-Type", contentType), field("Content-Transfer-Encoding", "base64")];
  if (disposition) fields.push(field("Content-Disposition", disposition));
  return joinMessage(fields, encodeBase64(bytes));
}

/** A text/plain entity in UTF-8: 7bit where the text allows it, else base64. Lines end in CRLF. */
export function textEntity(text: string): Buffer {
  const bytes = toCrlf(Buffer.from(text, "utf8"));
  if (/[^\x09\x0A\x0D\x20-\x7E]/u.test(text)) return base64Entity("text/plain; charset=utf-8", bytes, "inline");
  return joinMessage([field("Content-Type", "text/plain; charset=us-ascii"), field("Content-Disposition", "inline")], bytes);
}
