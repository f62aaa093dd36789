/** A matrix of cells that run side by side, each judged by a test of its own. */

/** Longest time in which a cell may heal, in milliseconds. */
export const HEALS_WITHIN = 60_000;

/** Starts all cells, some of them at once. @returns the outcome of each; to be asked for in any order */
export function startCells<Cell, Outcome>(
  cells: readonly Cell[],
  run: (cell: Cell) => Promise<Outcome>,
  atOnce = 8,
): (cell: Cell) => Promise<Outcome> {
  const outcomes = new Map<Cell, Promise<Outcome>>();
  const lanes: Promise<unknown>[] = Array.from({ length: atOnce }, () => Promise.resolve());
  cells.forEach((cell, at) => {
    const outcome = (lanes[at % atOnce] ?? Promise.resolve()).then(() => limited(run(cell), JSON.stringify(cell)));
    lanes[at % atOnce] = outcome.catch(() => undefined);
    outcome.catch(() => undefined); // its test says so
    outcomes.set(cell, outcome);
  });
  return (cell) => outcomes.get(cell) ?? Promise.reject(new Error("no such cell"));
}

async function limited<Outcome>(work: Promise<Outcome>, name: string): Promise<Outcome> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${name} did not heal within ${HEALS_WITHIN} ms`)), HEALS_WITHIN);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
