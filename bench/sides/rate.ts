/** How often something can be done in a second, after a warm-up, and the memory that it took. */
import { resident } from "../resident.ts";

const WARM_MS = 1_500;
const MEASURE_MS = 2_500;

/** Prints a `Figure` on standard output. @param work one operation @param scale what one operation counts for */
export async function printRate(work: () => unknown, scale = 1): Promise<void> {
  for (const end = performance.now() + WARM_MS; performance.now() < end;) await work();
  let count = 0;
  const from = performance.now();
  while (performance.now() - from < MEASURE_MS) {
    await work();
    count++;
  }
  const seconds = (performance.now() - from) / 1_000;
  printFigure((count * scale) / seconds);
}

/** With the most memory that was resident since this program began; `maxRSS` counts the process that started it, too. */
export function printFigure(value: number): void {
  console.log(JSON.stringify({ value, memory: resident("self", "VmHWM") }));
}
