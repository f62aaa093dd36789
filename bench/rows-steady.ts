/** The row of an ordinary day: for minutes as much as is well below what is possible, and whether anything grows. */
import { pause } from "../config/lifecycle.ts";
import { send, sendAtRate } from "./load.ts";
import { startSending, type SendingPlace } from "./place.ts";
import { resident } from "./resident.ts";
import { percentile, type Figure, type Row, type Sides, type Wishes } from "./row.ts";

const OCTETS = 2_048;
const CONNECTIONS = 10;
const [WARM, FOUND] = [2_000, 2_000];
const SHARE = 0.7;
const LONGEST_MS = 1_000;
/** MiB a minute. */
const MOST_GROWTH = 1;
const LOOK_EVERY_MS = 2_000;
/** Of the time, before memory counts. */
const WARM_SHARE = 0.3;

/** Letters a second that go through. */
async function found({ target, sink }: SendingPlace, count: number): Promise<number> {
  const [wanted, from] = [sink.count() + count, performance.now()];
  await send([target], OCTETS, count, CONNECTIONS);
  await sink.until(wanted);
  return count / ((performance.now() - from) / 1_000);
}

interface Sample {
  readonly minute: number;
  readonly memory: number;
}

/** Memory now and then until the work has ended. */
async function watched(pid: number, work: Promise<unknown>): Promise<Sample[]> {
  const [samples, from]: [Sample[], number] = [[], performance.now()];
  const over = new AbortController();
  const end = (): void => over.abort();
  work.then(end, end); // who asked for the work hears of its failure
  do samples.push({ minute: (performance.now() - from) / 60_000, memory: resident(pid, "VmRSS") });
  while (await pause(LOOK_EVERY_MS, over.signal));
  return samples;
}

/** Of the line that fits best (least squares), MiB a minute. */
function slope(samples: readonly Sample[]): number {
  const mean = (of: (sample: Sample) => number): number => samples.reduce((sum, sample) => sum + of(sample), 0) / samples.length;
  const [middle, level] = [mean(({ minute }) => minute), mean(({ memory }) => memory)];
  const up = mean(({ minute, memory }) => (minute - middle) * (memory - level));
  return up / mean(({ minute }) => (minute - middle) ** 2);
}

async function measure(place: SendingPlace, minutes: number): Promise<Figure> {
  await found(place, WARM);
  const most = await found(place, FOUND);
  const perSecond = most * SHARE;
  const count = Math.round(perSecond * minutes * 60);
  const sending = sendAtRate(place.target, OCTETS, { count, perSecond, connections: CONNECTIONS });
  const samples = await watched(place.pid, sending);
  const times = await sending;
  const late = samples.filter(({ minute }) => minute > minutes * WARM_SHARE);
  const [growth, [first, last]] = [slope(late), [late.at(0)?.memory ?? 0, late.at(-1)?.memory ?? 0]];
  const pace = `${count} letters at ${perSecond.toFixed(0)}/s, ${SHARE * 100} % of ${most.toFixed(0)}/s`;
  const spread = [50, 90, 99, 100].map((percent) => `${percent} %: ${percentile(times, percent).toFixed(0)} ms`).join(", ");
  const grown = `memory ${first.toFixed(0)} to ${last.toFixed(0)} MiB, ${growth.toFixed(2)} MiB a minute (goal < ${MOST_GROWTH})`;
  const remarks = [{ text: pace }, { text: spread }, { text: grown, isMet: growth < MOST_GROWTH }];
  return { value: percentile(times, 99), memory: resident(place.pid, "VmHWM"), remarks };
}

async function prepare({ minutes }: Wishes): Promise<Sides> {
  const place = await startSending();
  return { ours: () => measure(place, minutes), peer: async () => ({ value: LONGEST_MS }), stop: () => place.stop() };
}

export const steady: readonly Row[] = [
  {
    name: "steady",
    what: "final dot to 250, 99 of 100 letters, for minutes at 70 % of what is possible",
    peer: "a limit",
    unit: "ms",
    goal: { atMost: 1 },
    mostRuns: 1,
    isExtra: true,
    prepare,
  },
];
