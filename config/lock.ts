/** One process for one folder: a lock of the operating system, which ends with the process however it ends. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import Database from "libsql";
import { Fault } from "../mime/fault.ts";

const LOCK = "lock";
/** A worker ends as soon as it learns that its primary has; a step that blocks it may come before. */
const FORMER_WORKER_ENDS_WITHIN_MS = 10_000;

/** @returns what gives the folder free again. @throws Fault `unavailable`: another process works there */
export function lockFolder(folder: string): () => void {
  return lock(folder, LOCK, 0);
}

/** The same for a worker of the process that works there. @param number of the worker: one of a former process with this number is waited for */
export function lockForWorker(folder: string, number: number): () => void {
  return lock(folder, `${LOCK}.${number}`, FORMER_WORKER_ENDS_WITHIN_MS);
}

/** Waits until the workers of a process that was killed have ended, too. @throws Fault `unavailable`: one of them does not */
export function awaitFormerWorkers(folder: string): void {
  for (const name of readdirSync(folder)) if (/^lock\.\d+$/u.test(name)) lock(folder, name, FORMER_WORKER_ENDS_WITHIN_MS)();
}

/** @param wait milliseconds, in which the whole process stands still */
function lock(folder: string, name: string, wait: number): () => void {
  const file = new Database(join(folder, name), { timeout: wait });
  try {
    file.exec("BEGIN EXCLUSIVE");
  } catch (cause) {
    file.close();
    throw new Fault("unavailable", `another process works in ${folder}`, {
      cause,
      advice: `another process works in ${folder}; stop the other process, or give each one a data folder of its own`,
    });
  }
  return () => file.close();
}

/** Whether a process works in the folder. */
export function isLocked(folder: string): boolean {
  try {
    lockFolder(folder)();
    return false;
  } catch (thrown) {
    return Fault.from(thrown).code === "unavailable";
  }
}
