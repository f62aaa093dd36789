/** Named points at which a process can be made to stand still, so that tests kill it exactly there (docs/durability.md). */
import { writeSync } from "node:fs";
import { flushLog } from "./log.ts";

/** Points of the outbound walk (a), the inbound walk (b) and the broker (k), in the order in which a letter passes them. */
export const HALTS = [
  ...(["a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9", "a10", "a11"] as const),
  ...(["b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8", "b9", "b10", "b11"] as const),
  ...(["k1", "k2", "k3", "k4", "k5", "k6", "k8"] as const),
] as const;

/** And those of the master key's rotation (m), which no letter passes. */
export type HaltPoint = (typeof HALTS)[number] | `m${1 | 2 | 3 | 4 | 5}`;

/** `a6`, or `k1@3` for the third pass. */
const [wanted, pass = "1"] = (process.env["KAKITOME_HALT"] ?? "").split("@");
let passes = 0;

/**
 * Stands still (SIGSTOP) where the environment variable KAKITOME_HALT names this point, once, after saying so on standard output;
 * SIGCONT lets the process go on. Without the variable, as in every real life, it does nothing.
 */
export function haltAt(point: HaltPoint): void {
  if (point !== wanted || ++passes !== Number(pass)) return;
  flushLog();
  writeSync(1, `${JSON.stringify({ event: "halted", point })}\n`);
  process.kill(process.pid, "SIGSTOP");
}
