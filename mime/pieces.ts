/** Octets in pieces: what is large goes through signing and sealing without ever being whole in memory. */

/** Octets of a number that is known before they are made. What is made of a cipher can be gone through once. */
export interface Pieces extends Iterable<Buffer> {
  readonly octets: number;
  /** What it was put together of, where it was. */
  readonly parts?: readonly Octets[];
}

/** Octets in one piece or in several. */
export type Octets = Buffer | Pieces;

export const octetsIn = (part: Octets): number => (Buffer.isBuffer(part) ? part.length : part.octets);

/** These one after the other; nothing is copied. However deep they are nested, they are gone through as one list. */
export function inPieces(...given: readonly Octets[]): Pieces {
  const parts: Octets[] = [];
  let octets = 0;
  for (const part of given) {
    octets += octetsIn(part);
    if (!Buffer.isBuffer(part) && part.parts) parts.push(...part.parts);
    else parts.push(part);
  }
  return {
    octets,
    parts,
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

const SLAB_OCTETS = 64 << 10;
const [SMALLEST_FROM_SLAB, LARGEST_FROM_SLAB] = [2 << 10, 16 << 10];
let slab = Buffer.alloc(0);

/**
 * Room for octets that are needed for a moment only. Node.js cuts what is below 4 KiB from a slab and makes an object of everything larger,
 * which the engine has to clear away: for the buffers of a small letter that took a tenth of sealing it. A larger pool for the whole process
 * would keep slabs alive for what is kept for long.
 * @returns not cleared; on a multiple of 8 octets
 */
export function room(octets: number): Buffer {
  if (octets < SMALLEST_FROM_SLAB || octets > LARGEST_FROM_SLAB) return Buffer.allocUnsafe(octets);
  if (slab.length < octets) slab = Buffer.allocUnsafeSlow(SLAB_OCTETS);
  const taken = slab.subarray(0, octets);
  slab = slab.subarray(Math.ceil(octets / 8) * 8);
  return taken;
}

/** In one piece. */
export function whole(part: Octets): Buffer {
  if (Buffer.isBuffer(part)) return part;
  const octets = room(part.octets);
  let at = 0;
  const put = (piece: Buffer): void => {
    octets.set(piece, at);
    at += piece.length;
  };
  for (const one of part.parts ?? [part]) {
    if (Buffer.isBuffer(one)) put(one);
    else for (const piece of one) put(piece);
  }
  return octets.subarray(0, at);
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

/** In one piece where that is small: each piece costs a call into the library, and what is gone through twice is put together once. */
export function joined(part: Octets): Octets {
  return octetsIn(part) <= SLICE_OCTETS ? whole(part) : part;
}

/** In pieces none of which is large. */
export function* slices(octets: Octets): Generator<Buffer> {
  const part = joined(octets);
  for (const piece of Buffer.isBuffer(part) ? [part] : part) {
    if (piece.length <= SLICE_OCTETS) yield piece;
    else for (let at = 0; at < piece.length; at += SLICE_OCTETS) yield piece.subarray(at, at + SLICE_OCTETS);
  }
}
