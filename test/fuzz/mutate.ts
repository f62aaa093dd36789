/** Mutations that can be repeated: the same seed makes the same inputs. */

/** A source of numbers that a seed determines (mulberry32). */
export class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 or more, less than 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number, 0 or more, less than `below`. */
  below(below: number): number {
    return Math.floor(this.next() * below);
  }

  of<T>(all: readonly T[]): T {
    const one = all[this.below(all.length)];
    if (one === undefined) throw new Error("nothing to choose from");
    return one;
  }
}

/** What parsers of mail, ASN.1, JSON and YAML stumble over. */
const TOKENS = [
  ..."\r \n \0 \r\n \r\n.\r\n \n.\n \r\n\r\n -- : ; , < > ( ) \" \\ = ? * % { } [ ] & ~ | @ ' null -1 1e999 ../ \u00e9 \ud83d\udce8".split(
    " ",
  ),
  " ",
  "\t",
  "Content-Type: multipart/mixed; boundary=x\r\n",
  "--x--",
  "=?utf-8?B?AA==?=",
  "&a [*a,*a]",
  "__proto__",
  "constructor",
  "9".repeat(40),
  "A".repeat(2_000),
  "(".repeat(300),
  "[".repeat(300),
].map((text) => Buffer.from(text));
const OCTETS = [0x00, 0x01, 0x02, 0x03, 0x04, 0x06, 0x1f, 0x20, 0x30, 0x31, 0x7f, 0x80, 0x81, 0x82, 0x84, 0xa0, 0xa1, 0xff];

type Mutator = (octets: Buffer, chance: Chance, others: readonly Buffer[]) => Buffer;

const replaced = (octets: Buffer, from: number, to: number, by: Buffer): Buffer =>
  Buffer.concat([octets.subarray(0, from), by, octets.subarray(to)]);

/** A piece of the input: where it begins and ends. */
function piece(octets: Buffer, chance: Chance): [from: number, to: number] {
  const from = chance.below(octets.length + 1);
  return [from, Math.min(octets.length, from + 1 + chance.below(chance.of([2, 8, 64, 1_024])))];
}

const MUTATORS: readonly Mutator[] = [
  (octets, chance) => {
    const copy = Buffer.from(octets);
    const at = chance.below(Math.max(copy.length, 1));
    if (at < copy.length) copy[at] = (copy[at] ?? 0) ^ (1 << chance.below(8));
    return copy;
  },
  (octets, chance) => {
    const at = chance.below(octets.length + 1);
    return replaced(octets, at, Math.min(at + 1, octets.length), Buffer.from([chance.of(OCTETS)]));
  },
  (octets, chance) => replaced(octets, ...piece(octets, chance), Buffer.alloc(0)),
  (octets, chance) => {
    const at = chance.below(octets.length + 1);
    return replaced(octets, at, at, chance.of(TOKENS));
  },
  (octets, chance) => replaced(octets, ...piece(octets, chance), chance.of(TOKENS)),
  (octets, chance) => {
    const [from, to] = piece(octets, chance);
    const at = chance.below(octets.length + 1);
    return replaced(octets, at, at, octets.subarray(from, to));
  },
  (octets, chance) => octets.subarray(0, chance.below(octets.length + 1)),
  (octets, chance, others) => {
    const other = chance.of(others);
    return replaced(octets, ...piece(octets, chance), other.subarray(...piece(other, chance)));
  },
  (octets, chance, others) => {
    const other = chance.of(others);
    return Buffer.concat([octets.subarray(0, chance.below(octets.length + 1)), other.subarray(chance.below(other.length + 1))]);
  },
];

/** An input made of one of the seeds by a few mutations. */
export function mutant(seeds: readonly Buffer[], chance: Chance): Buffer {
  let octets = chance.of(seeds);
  for (let count = 1 + chance.below(4); count > 0; count--) octets = chance.of(MUTATORS)(octets, chance, seeds);
  return octets;
}
