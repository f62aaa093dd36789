/** Octets in pieces: what is large goes through signing and sealing without ever being whole in memory. */

/** Octets of a number that is known before they are made. What is made of a cipher can be gone through once. */
export interface Pieces extends Iterable<Buffer> {
  readonly octets: number;
}

/** Octets in one piece or in several. */
export type Octets = Buffer | Pieces;

export const octetsIn = (part: Octets): number => (Buffer.isBuffer(part) ? part.length : part.octets);

/** These one after the other; nothing is copied. */
export function inPieces(...parts: readonly Octets[]): Pieces {
  return {
    octets: parts.reduce((sum, part) => sum + octetsIn(part), 0),
    *[Symbol.iterator]() {
      for (const part of parts) {
        if (Buffer.isBuffer(part)) yield part;
        else yield* part;
      }
    },
  };
}

/** Octets that are made when it is their turn. @param octets how many that will be */
export function madeLater(octets: number, make: () => Iterable<Buffer>): Pieces {
  return { octets, [Symbol.iterator]: () => make()[Symbol.iterator]() };
}

/** In one piece. */
export function whole(part: Octets): Buffer {
  return Buffer.isBuffer(part) ? part : Buffer.concat([...part], part.octets);
}

/** Whether these are those octets; nothing is put together for it. */
export function isSame(part: Octets, octets: Buffer): boolean {
  if (octetsIn(part) !== octets.length) return false;
  let at = 0;
  for (const slice of slices(part)) if (!slice.equals(octets.subarray(at, (at += slice.length)))) return false;
  return true;
}

/** A piece is worked on in slices of so many octets. */
const SLICE_OCTETS = 64 << 10;

/** In pieces none of which is large. */
export function* slices(part: Octets): Generator<Buffer> {
  for (const piece of Buffer.isBuffer(part) ? [part] : part) {
    if (piece.length <= SLICE_OCTETS) yield piece;
    else for (let at = 0; at < piece.length; at += SLICE_OCTETS) yield piece.subarray(at, at + SLICE_OCTETS);
  }
}
