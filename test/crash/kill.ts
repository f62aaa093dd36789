/** One kill at one point: a process dies there, comes back, and the letter it was at arrives as if nothing had been. */
import { HALTS, type HaltPoint } from "../../config/halt.ts";
import { failOver } from "./failover.ts";
import type { Finding, Ledger } from "./ledger.ts";
import { RECIPIENTS, type CrashPlace, type Program } from "./place.ts";
import { bringBackOldData, killAtLostReply, killRedisUnderBroker, type Scene } from "./special.ts";

/** How many recipients the letter has. */
export type Shape = 1 | 3;
export const SHAPES: readonly Shape[] = [1, 3];

export interface Kill {
  readonly point: string;
  readonly shape: Shape;
  /** Counts the kills at this point, from 0: another recipient or another step each time. */
  readonly round: number;
}

const WITHOUT_HALT: Readonly<Record<string, (scene: Scene) => Promise<void>>> = {
  k7: killAtLostReply,
  k9: killRedisUnderBroker,
  k10: bringBackOldData,
  k11: failOver,
};

const number = (point: string): number => Number(point.slice(1));

/** Every point, in the order in which a letter passes them (docs/durability.md). */
export const POINTS: readonly string[] = [...HALTS, ...Object.keys(WITHOUT_HALT)].sort(
  (one, other) => one.charCodeAt(0) - other.charCodeAt(0) || number(one) - number(other),
);

const DONE_WITHIN_MS = 60_000;
const SETTLED_WITHIN_MS = 30_000;

/** How often a letter passes the point: a submission once, a copy once for each recipient, the table six steps for each. */
function passes(point: HaltPoint, shape: Shape): number {
  if (/^a[2-7]$/u.test(point)) return 1;
  return /^k[123]$/u.test(point) ? 6 * shape : shape;
}

const isHalt = (point: string): point is (typeof HALTS)[number] => (HALTS as readonly string[]).includes(point);

function programAt({ parts }: CrashPlace, point: HaltPoint): Program {
  const { a, b, c } = parts;
  return point.startsWith("a") ? a : point.startsWith("b") ? b : c;
}

/** Carries out one kill and waits till all is quiet. @returns what is not as it must be @throws Error where the kill could not be carried out */
export async function killAt(place: CrashPlace, ledger: Ledger, kill: Kill): Promise<Finding[]> {
  const account = ledger.open(RECIPIENTS.slice(0, kill.shape));
  const stop = new AbortController();
  try {
    const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(DONE_WITHIN_MS)]);
    const scene = { place, ledger, kill, account, signal };
    const special = WITHOUT_HALT[kill.point];
    const shown = await (special ? special(scene) : killAtHalt(scene));
    return [...(shown ?? []), ...(await ledger.settle(account, SETTLED_WITHIN_MS))];
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    const last = place.broker.process.text().split("\n").slice(-3).join("\n");
    throw new Error(`${why} (the sender saw ${account.answers.slice(-5).join(", ")}); the broker's last words:\n${last}`, { cause });
  } finally {
    stop.abort();
  }
}

async function killAtHalt({ place, ledger, kill: { point, shape, round }, account, signal }: Scene): Promise<Finding[]> {
  if (!isHalt(point)) throw new Error(`there is no way to kill at ${point}`);
  const program = programAt(place, point);
  await program.arm(`${point}@${1 + (round % passes(point, shape))}`);
  const sending = ledger.send(account, signal);
  sending.catch(() => undefined);
  await program.halted();
  await program.kill();
  const shown = round === 0 ? ledger.plaintext() : []; // what the dead process has left on disks
  await program.start();
  await sending;
  return shown;
}
