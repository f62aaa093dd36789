/** DER writer and bounded BER/DER reader for what Kakitome encodes itself: envelopes, tickets, certificate fields (X.690). */
import { Fault } from "./fault.ts";
import { inPieces, type Octets, type Pieces } from "./pieces.ts";

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** The identifier octet of a context-specific tag (X.690 §8.1.2), number 0-30. */
export function contextTag(number: number, form: "primitive" | "constructed"): number {
  return 0x80 | (form === "constructed" ? 0x20 : 0) | number;
}

/** An element begun: identifier and length octets, and room for so much behind them. */
function begin(tag: number, length: number, room: number): { readonly octets: Buffer; readonly head: number } {
  const more = length < 0x80 ? 0 : Math.ceil((32 - Math.clz32(length)) / 8);
  const octets = Buffer.allocUnsafe(2 + more + room);
  octets[0] = tag;
  octets[1] = more === 0 ? length : 0x80 | more;
  if (more > 0) octets.writeUIntBE(length, 2, more);
  return { octets, head: 2 + more };
}

/** One TLV in definite length. */
export function encode(tag: number, ...contents: readonly Buffer[]): Buffer {
  let length = 0;
  for (const part of contents) length += part.length;
  const { octets, head } = begin(tag, length, length);
  let at = head;
  for (const part of contents) {
    octets.set(part, at);
    at += part.length;
  }
  return octets;
}

/** One TLV around large contents. */
export function pieces(tag: number, ...contents: readonly Octets[]): Pieces {
  const inside = inPieces(...contents);
  return inPieces(begin(tag, inside.octets, 0).octets, inside);
}

export const sequence = (...parts: readonly Buffer[]): Buffer => encode(TAG.sequence, ...parts);
export const octetString = (octets: Buffer): Buffer => encode(TAG.octetString, octets);
export const utf8String = (text: string): Buffer => encode(TAG.utf8String, Buffer.from(text, "utf8"));
export const derNull = (): Buffer => encode(TAG.null);

/** SET OF, its elements in DER order (X.690 §11.6). */
export function setOf(...parts: readonly Buffer[]): Buffer {
  return encode(TAG.set, ...[...parts].sort((a, b) => Buffer.compare(a, b)));
}

/** A small non-negative INTEGER. */
export function integer(value: number): Buffer {
  const octets: number[] = [value % 256];
  for (let rest = Math.floor(value / 256); rest > 0; rest = Math.floor(rest / 256)) octets.unshift(rest % 256);
  if ((octets[0] ?? 0) >= 0x80) octets.unshift(0);
  return encode(TAG.integer, Buffer.from(octets));
}

/** GeneralizedTime in UTC to the second (RFC 5652 §11.3). */
export function generalizedTime(time: Date): Buffer {
  return encode(TAG.generalizedTime, Buffer.from(`${time.toISOString().replace(/[-:T]/gu, "").slice(0, 14)}Z`));
}

/** Reads the octets of a GeneralizedTime in UTC to the second. @throws Fault `malformed`. */
export function parseGeneralizedTime(octets: Buffer): Date {
  const parts = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/u.exec(octets.toString("latin1"));
  const time = parts ? new Date(`${parts[1]}-${parts[2]}-${parts[3]}T${parts[4]}:${parts[5]}:${parts[6]}Z`) : undefined;
  const exists = time && !Number.isNaN(time.getTime()) && generalizedTime(time).subarray(2).equals(octets); // no 30th of February
  if (!exists) throw new Fault("malformed", "not a GeneralizedTime in UTC");
  return time;
}

const encoded = new Map<string, Buffer>();

/** OBJECT IDENTIFIER from dotted text; arcs of any size (the UUID arc 2.25 needs 128 bits, X.667). The same octets each time: not to be changed. */
export function oid(dotted: string): Buffer {
  const known = encoded.get(dotted) ?? encodeOid(dotted);
  encoded.set(dotted, known);
  return known;
}

function encodeOid(dotted: string): Buffer {
  const arcs = dotted.split(".").map((arc) => BigInt(arc));
  const [first = 0n, second = 0n, ...rest] = arcs;
  const octets = [first * 40n + second, ...rest].flatMap((arc) => {
    const sevens = [Number(arc & 0x7fn)];
    for (let left = arc >> 7n; left > 0n; left >>= 7n) sevens.unshift(Number(left & 0x7fn) | 0x80);
    return sevens;
  });
  return encode(TAG.oid, Buffer.from(octets));
}

/** One element that was read: places in the input. Most are only passed over: without two views of each, the broker allocates an eighth less for a declaration. */
export class Element {
  readonly tag: number;
  /** Present for constructed elements only. */
  readonly children: readonly Element[] | undefined;
  /** Offset behind the element. */
  readonly end: number;
  readonly #input: Buffer;
  readonly #start: number;
  readonly #contentStart: number;
  readonly #contentEnd: number;

  /** @param at offsets in the input: of the element, of its content, behind its content, behind the element */
  constructor(tag: number, children: readonly Element[] | undefined, input: Buffer, ...at: readonly [number, number, number, number]) {
    this.tag = tag;
    this.children = children;
    this.#input = input;
    [this.#start, this.#contentStart, this.#contentEnd, this.end] = at;
  }

  /** A view of the input. */
  get content(): Buffer {
    return this.#input.subarray(this.#contentStart, this.#contentEnd);
  }

  /** The element's whole encoding as it stood in the input. */
  get encoding(): Buffer {
    return this.#input.subarray(this.#start, this.end);
  }
}

export interface Limits {
  readonly depth: number;
  readonly elements: number;
}

/** Enough for every structure of our own; the ciphertext of a large letter in segments needs `elements` raised with its size. */
const SMALL: Limits = { depth: 24, elements: 4_000 };

const refuse = (why: string): Fault => new Fault("malformed", `not well-formed ASN.1: ${why}`);

/**
 * Reads one BER or DER element that fills the input. Indefinite lengths are read (Thunderbird writes them), multi-byte tags are not.
 * @throws Fault `malformed`: truncated, trailing octets, too deep, too many elements.
 */
export function parse(input: Buffer, limits: Limits = SMALL): Element {
  let left = limits.elements;
  const read = (start: number, end: number, depth: number): Element => {
    if (depth > limits.depth) throw refuse("nested too deep");
    if (left-- <= 0) throw refuse("too many elements");
    const tag = input[start];
    const first = input[start + 1];
    if (tag === undefined || first === undefined || start + 2 > end) throw refuse("truncated");
    if ((tag & 0x1f) === 0x1f) throw refuse("a multi-byte tag");
    const constructed = (tag & 0x20) !== 0;
    if (first === 0x80) {
      if (!constructed) throw refuse("a primitive of indefinite length");
      return readIndefinite(tag, start, end, depth);
    }
    let at = start + 2;
    let length = first;
    if (first > 0x80) {
      const octets = first & 0x7f;
      if (octets > 6 || at + octets > end) throw refuse("a length that cannot be");
      length = input.readUIntBE(at, octets);
      at += octets;
    }
    const next = at + length;
    if (next > end) throw refuse("truncated");
    const children: Element[] | undefined = constructed ? [] : undefined;
    for (let child = constructed ? at : next; child < next;) {
      const element = read(child, next, depth + 1);
      children?.push(element);
      child = element.end;
    }
    return new Element(tag, children, input, start, at, next, next);
  };
  const readIndefinite = (tag: number, start: number, end: number, depth: number): Element => {
    const children: Element[] = [];
    let at = start + 2;
    while (!(input[at] === 0 && input[at + 1] === 0)) {
      const element = read(at, end, depth + 1);
      children.push(element);
      at = element.end;
    }
    if (at + 2 > end) throw refuse("truncated");
    return new Element(tag, children, input, start, start + 2, at, at + 2);
  };
  const element = read(0, input.length, 0);
  if (element.end !== input.length) throw refuse("octets follow the end");
  return element;
}

/** Walks the children of a constructed element in order; each call states what must come next. */
export class Cursor {
  readonly #elements: readonly Element[];
  #at = 0;

  /** @throws Fault `malformed`: the element is not constructed, or has another tag. */
  constructor(element: Element, tag: number = TAG.sequence) {
    if (element.tag !== tag || !element.children) throw refuse("another element was expected");
    this.#elements = element.children;
  }

  /** The next element, which must have the tag. @throws Fault `malformed`. */
  take(tag: number): Element {
    const element = this.optional(tag);
    if (!element) throw refuse("an element is missing");
    return element;
  }

  /** The next element if it has the tag. */
  optional(tag: number): Element | undefined {
    const element = this.#elements[this.#at];
    if (element?.tag !== tag) return undefined;
    this.#at++;
    return element;
  }

  /** The next element, whatever it is. @throws Fault `malformed` at the end. */
  any(): Element {
    const element = this.#elements[this.#at];
    if (!element) throw refuse("an element is missing");
    this.#at++;
    return element;
  }

  /** @throws Fault `malformed` where elements are left. */
  end(): void {
    if (this.#at !== this.#elements.length) throw refuse("an element too many");
  }
}

/** The octets of an OCTET STRING (or an implicit tag of one), joined where BER cut it into segments. @throws Fault `malformed`. */
export function octetsOf(element: Element): Buffer {
  if (!element.children) return element.content;
  return Buffer.concat(
    element.children.map((segment) => {
      if (segment.tag !== TAG.octetString && segment.tag !== (TAG.octetString | 0x20)) throw refuse("a foreign segment in an OCTET STRING");
      return octetsOf(segment);
    }),
  );
}

/** The small non-negative number in an INTEGER. @throws Fault `malformed`. */
export function integerOf(element: Element): number {
  if (element.tag !== TAG.integer || element.content.length === 0 || element.content.length > 6 || (element.content[0] ?? 0) >= 0x80) {
    throw refuse("a small INTEGER was expected");
  }
  return element.content.readUIntBE(0, element.content.length);
}

/** Whether the element is this OBJECT IDENTIFIER (dotted text). */
export function isOid(element: Element, dotted: string): boolean {
  return element.tag === TAG.oid && element.encoding.equals(oid(dotted));
}

const texts = new Map<string, string>();
/** So many are remembered at most: others decide which ones come. */
const MOST_TEXTS = 256;

/** The dotted text of an OBJECT IDENTIFIER. @throws Fault `malformed`. */
export function dottedOf({ tag, content }: Element): string {
  if (tag !== TAG.oid || content.length === 0 || content.length > 64 || (content.at(-1) ?? 0) >= 0x80)
    throw refuse("not an OBJECT IDENTIFIER");
  const octets = content.toString("latin1");
  const known = texts.get(octets) ?? dottedIn(content);
  if (texts.size < MOST_TEXTS) texts.set(octets, known);
  return known;
}

function dottedIn(content: Buffer): string {
  const arcs: bigint[] = [];
  let arc = 0n;
  for (const octet of content) {
    arc = (arc << 7n) | BigInt(octet & 0x7f);
    if (octet >= 0x80) continue;
    arcs.push(arc);
    arc = 0n;
  }
  const [joint = 0n, ...rest] = arcs;
  const first = joint < 80n ? joint / 40n : 2n; // X.690 §8.19.4
  return [first, joint - 40n * first, ...rest].join(".");
}
