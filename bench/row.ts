/** What a row of the table is: ours and a named peer doing comparable work, told apart by one figure each. */

export interface Figure {
  readonly value: number;
  /** Largest resident memory of the process that did the work, MiB, where that says something. */
  readonly memory?: number;
  /** What else was seen. */
  readonly remarks?: readonly Remark[];
}

export interface Remark {
  readonly text: string;
  /** Where it has a goal of its own. */
  readonly isMet?: boolean;
}

/** The two sides of a row, ready to be measured again and again. */
export interface Sides {
  ours(): Promise<Figure>;
  peer(): Promise<Figure>;
  stop?(): Promise<void>;
}

/** Of the ratio ours / peer: at least where more is better, at most where less is. Or how far ours may lie beyond the peer, in the row's unit. */
type Goal = { readonly atLeast: number } | { readonly atMost: number } | { readonly atMostBeyond: number };

/** What whoever measures wants otherwise. */
export interface Wishes {
  /** How long `steady` goes on. */
  readonly minutes: number;
  /** Small counts where the large ones take long: whether the row works, not what it says. */
  readonly isQuick: boolean;
}

export interface Row {
  /** For `--only`. */
  readonly name: string;
  readonly what: string;
  readonly peer: string;
  readonly unit: "letters/s" | "requests/s" | "MB/s" | "ms" | "KiB";
  /** Without one the figures are stated. */
  readonly goal?: Goal;
  /** Of ours, MiB. */
  readonly mostMemory?: number;
  /** Where one run takes minutes and says enough. */
  readonly mostRuns?: number;
  /** Measured only where it is named. */
  readonly isExtra?: boolean;
  readonly prepare: (wishes: Wishes) => Promise<Sides>;
}

/** The middle one; the mean of the two in the middle where they are even in number. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  return ((sorted[Math.ceil(half) - 1] ?? Number.NaN) + (sorted[Math.floor(half)] ?? Number.NaN)) / 2;
}

/** So many of a hundred are not above it. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil((sorted.length * percent) / 100) - 1)] ?? Number.NaN;
}

/** Two sides that one measurement tells of: whichever is asked first has it made, the other one has its half. */
export function together(measure: () => Promise<{ readonly ours: Figure; readonly peer: Figure }>): Pick<Sides, "ours" | "peer"> {
  let kept: { readonly side: "ours" | "peer"; readonly figure: Figure } | undefined;
  const half = (mine: "ours" | "peer", other: "ours" | "peer") => async (): Promise<Figure> => {
    const left = kept;
    kept = undefined;
    if (left?.side === mine) return left.figure;
    const both = await measure();
    kept = { side: other, figure: both[other] };
    return both[mine];
  };
  return { ours: half("ours", "peer"), peer: half("peer", "ours") };
}
