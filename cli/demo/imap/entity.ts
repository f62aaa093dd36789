/** A message cut into its MIME parts by offsets, its octets untouched, and the sections of BODY[...]: RFC 2045, RFC 2046 §5.1, RFC 3501 §6.4.5. */

import { fieldOf, parseFields, parseStructured, type Field, type Structured } from "./header.ts";

/** A message or a part of one: its header from `start`, its body from `body`, both before `end`. */
export interface Entity {
  readonly start: number;
  readonly body: number;
  readonly end: number;
  readonly fields: readonly Field[];
  readonly type: string;
  readonly subtype: string;
  readonly parameters: Structured["parameters"];
  /** Parts of a multipart; empty for anything else. */
  readonly parts: readonly Entity[];
  /** The message inside a message/rfc822; undefined for anything else. */
  readonly inner: Entity | undefined;
}

/** What BODY[...] asks for, without its partial. */
export interface Section {
  readonly path: readonly number[];
  readonly part: "" | "HEADER" | "HEADER.FIELDS" | "HEADER.FIELDS.NOT" | "TEXT" | "MIME";
  /** Lower-case field names; only for HEADER.FIELDS and its NOT. */
  readonly fields: readonly string[];
}

const DEEPEST = 50;
const MOST_PARTS = 1000;

const known = new WeakMap<Buffer, Entity>();

/** The parts of a message; computed once for the same buffer. */
export function parseEntity(bytes: Buffer): Entity {
  const entity = known.get(bytes) ?? new Parser(bytes).entity({ start: 0, end: bytes.length }, "text/plain", 0);
  known.set(bytes, entity);
  return entity;
}

interface Range {
  readonly start: number;
  readonly end: number;
}

class Parser {
  readonly #bytes: Buffer;
  #made = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  entity({ start, end }: Range, fallback: string, depth: number): Entity {
    this.#made += 1;
    const body = this.#headerEnd(start, end);
    const fields = parseFields(this.#bytes.toString("latin1", start, body));
    const content = fieldOf(fields, "content-type");
    const stated = parseStructured(content ?? "");
    const fits = /^[^\s/]+\/[^\s/]+$/.test(stated.value);
    const [type = "", subtype = ""] = (fits ? stated.value : fallback).split("/");
    const isMessage = `${type}/${subtype}`.toLowerCase() === "message/rfc822";
    const parameters = fits ? stated.parameters : ([] as const);
    const boundary = parameters.find(([name]) => name.toLowerCase() === "boundary")?.[1] ?? "";
    const opens = depth < DEEPEST && this.#made < MOST_PARTS;
    const ranges = opens && type.toLowerCase() === "multipart" && boundary !== "" ? this.#cut(boundary, body, end) : [];
    const child = subtype.toLowerCase() === "digest" ? "message/rfc822" : "text/plain";
    const parts = ranges.map((range) => this.entity(range, child, depth + 1));
    const inner = opens && isMessage ? this.entity({ start: body, end }, "text/plain", depth + 1) : undefined;
    return { start, body, end, fields, type, subtype, parameters, parts, inner };
  }

  /** Past the blank line; a header without one is all there is. */
  #headerEnd(start: number, end: number): number {
    for (let line = start; line < end;) {
      const lineEnd = this.#lineEnd(line, end);
      const length = lineEnd - line;
      if (length <= 2 && (this.#bytes[line] === 0x0a || (this.#bytes[line] === 0x0d && this.#bytes[line + 1] === 0x0a))) return lineEnd;
      line = lineEnd;
    }
    return end;
  }

  #lineEnd(from: number, end: number): number {
    const at = this.#bytes.indexOf(0x0a, from);
    return at < 0 || at >= end ? end : at + 1;
  }

  /** The ranges between delimiter lines; a last part that was never closed runs to the end. */
  #cut(boundary: string, from: number, end: number): Range[] {
    const mark = Buffer.from(`--${boundary}`, "latin1");
    const ranges: Range[] = [];
    let open: number | undefined;
    for (let at = this.#bytes.indexOf(mark, from); at >= 0 && at < end; at = this.#bytes.indexOf(mark, at + 1)) {
      const lineEnd = this.#lineEnd(at, end);
      const tail = this.#bytes.toString("latin1", Math.min(at + mark.length, lineEnd), lineEnd);
      const delimits = (at === from || this.#bytes[at - 1] === 0x0a) && /^(?:--)?[ \t]*\r?\n?$/.test(tail);
      if (!delimits) continue;
      if (open !== undefined) ranges.push({ start: open, end: Math.max(open, this.#beforeLineEnd(at)) });
      open = lineEnd;
      if (tail.startsWith("--") || this.#made + ranges.length >= MOST_PARTS) return ranges;
    }
    if (open !== undefined) ranges.push({ start: open, end });
    return ranges;
  }

  /** The line end before a delimiter is part of the delimiter: RFC 2046 §5.1.1. */
  #beforeLineEnd(at: number): number {
    return this.#bytes[at - 2] === 0x0d ? at - 2 : at - 1;
  }
}

/** The octets of a section, or undefined when the message has no such part. */
export function extract(bytes: Buffer, { path, part, fields }: Section): Buffer | undefined {
  const root = parseEntity(bytes);
  const found = descend(root, path);
  if (found === undefined) return undefined;
  if (part === "") return path.length === 0 ? bytes : bytes.subarray(found.body, found.end);
  if (part === "MIME") return bytes.subarray(found.start, found.body);
  // HEADER and TEXT are of a message: the whole one, or one inside a message/rfc822 part.
  const message = path.length === 0 ? root : found.inner;
  if (message === undefined) return undefined;
  if (part === "HEADER") return bytes.subarray(message.start, message.body);
  if (part === "TEXT") return bytes.subarray(message.body, message.end);
  const kept = message.fields.filter(({ name }) => fields.includes(name.toLowerCase()) === (part === "HEADER.FIELDS"));
  const lines = kept.map(({ raw }) => (raw.endsWith("\n") ? raw : `${raw}\r\n`));
  return Buffer.from(`${lines.join("")}\r\n`, "latin1");
}

function descend(root: Entity, path: readonly number[]): Entity | undefined {
  let [entity, holder]: [Entity, Entity | undefined] = [root, root];
  for (const number of path) {
    // The holder is the message or multipart whose parts are counted; a message of one part has itself as part 1.
    if (holder === undefined) return undefined;
    const part: Entity | undefined = isMultipart(holder) ? holder.parts[number - 1] : number === 1 ? holder : undefined;
    if (part === undefined) return undefined;
    entity = part;
    holder = isMultipart(part) ? part : part.inner;
  }
  return entity;
}

export function isMultipart(entity: Entity): boolean {
  return entity.type.toLowerCase() === "multipart";
}
