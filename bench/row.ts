/** What a row of the table is: ours and a named peer doing comparable work, told apart by one figure each. */

export interface Figure {
  readonly value: number;
  /** Largest resident memory of the process that did the work, MiB, where that says something. */
  readonly memory?: number;
}

/** The two sides of a row, ready to be measured again and again. */
export interface Sides {
  ours(): Promise<Figure>;
  peer(): Promise<Figure>;
  stop?(): Promise<void>;
}

export interface Row {
  /** For `--only`. */
  readonly name: string;
  readonly what: string;
  readonly peer: string;
  readonly unit: "letters/s" | "requests/s" | "MB/s" | "ms";
  /** Of the ratio ours / peer: at least where more is better, at most where less is. */
  readonly goal: { readonly atLeast: number } | { readonly atMost: number };
  /** Of ours, MiB. */
  readonly mostMemory?: number;
  readonly prepare: () => Promise<Sides>;
}

/** The middle one; the mean of the two in the middle where they are even in number. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  return ((sorted[Math.ceil(half) - 1] ?? Number.NaN) + (sorted[Math.floor(half)] ?? Number.NaN)) / 2;
}
