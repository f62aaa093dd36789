/** What a running process takes, as Linux counts it (proc(5)). */
import { readFileSync } from "node:fs";

/** Ticks of a second in /proc/PID/stat: sysconf(_SC_CLK_TCK), which is 100 on every Linux. */
const TICKS = 100;

/** Resident memory in MiB: now (`VmRSS`), or the most there was (`VmHWM`). @param pid a number, or `self` */
export function resident(pid: number | "self", which: "VmRSS" | "VmHWM"): number {
  const kibibytes = new RegExp(`^${which}:\\s+(\\d+)`, "mu").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kibibytes) / 1_024;
}

/** Processor time of the process and its threads so far, in seconds. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" "); // from the state on
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}
