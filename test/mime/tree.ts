/** Changes to one element deep in a DER encoding, all lengths above it made right again: forgeries that are well-formed. */
import { encode, parse, type Element } from "../../mime/der.ts";

/** Where the parts of an AuthEnvelopedData stand: the number of the child, from the ContentInfo downwards. */
export const AT = {
  type: [0],
  data: [1, 0],
  version: [1, 0, 0],
  recipients: [1, 0, 1],
  recipient: [1, 0, 1, 0],
  content: [1, 0, 2],
  contentType: [1, 0, 2, 0],
  algorithm: [1, 0, 2, 1],
  cipher: [1, 0, 2, 1, 0],
  parameters: [1, 0, 2, 1, 1],
  nonce: [1, 0, 2, 1, 1, 0],
  tagLength: [1, 0, 2, 1, 1, 1],
  ciphertext: [1, 0, 2, 2],
  mac: [1, 0, 3],
} as const satisfies Record<string, readonly number[]>;

/** The element at the path. */
export function at(der: Buffer, path: readonly number[]): Element {
  return path.reduce((element, child) => childOf(element, child), parse(der));
}

/** The encoding with the element at the path replaced; no replacement takes it out, several put more in its place. */
export function edit(der: Buffer, path: readonly number[], change: (element: Element) => readonly Buffer[]): Buffer {
  return rebuilt(parse(der), path, change);
}

function rebuilt(element: Element, [child, ...rest]: readonly number[], change: (element: Element) => readonly Buffer[]): Buffer {
  if (child === undefined) return Buffer.concat(change(element));
  childOf(element, child);
  const children = element.children ?? [];
  return encode(element.tag, ...children.map((one, index) => (index === child ? rebuilt(one, rest, change) : one.encoding)));
}

function childOf(element: Element, child: number): Element {
  const found = element.children?.[child];
  if (!found) throw new Error(`no child ${child}`);
  return found;
}

/** Where the content of the element at the path lies in the encoding. */
export function rangeOf(der: Buffer, path: readonly number[]): { start: number; end: number } {
  const { content } = at(der, path);
  const start = content.byteOffset - der.byteOffset;
  return { start, end: start + content.length };
}

/** Every copy of the octets in which one bit is another, with the octet's offset. @param stride 9 takes one bit of nearly every octet */
export function* bitFlips(octets: Buffer, stride = 1): Generator<{ mutant: Buffer; offset: number }> {
  for (let bit = 0; bit < octets.length * 8; bit += stride) {
    const mutant = Buffer.from(octets);
    const offset = bit >> 3;
    mutant[offset] = (mutant[offset] ?? 0) ^ (0x80 >> (bit & 7));
    yield { mutant, offset };
  }
}
