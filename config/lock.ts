/** One process for one folder: a lock of the operating system, which ends with the process however it ends. */
import { accessSync, constants, existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import Database from "libsql";
import { Fault } from "../mime/fault.ts";

const LOCK = "lock";
/** A worker ends as soon as it learns that its primary has; a step that blocks it may come before. */
const FORMER_WORKER_ENDS_WITHIN_MS = 10_000;

/** @returns what gives the folder free again. @throws Fault `unavailable`: another process works there; `forbidden`: its lock cannot be written */
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
  const path = join(folder, name);
  if (existsSync(path)) mustBeWritable(path);
  const file = new Database(path, { timeout: wait });
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

/**
 * SQLite opens a file that it may not write all the same, to read only, and then locks nothing. Asked without opening: to close a file
 * ends every lock that the process has on it.
 */
function mustBeWritable(path: string): void {
  try {
    accessSync(path, constants.W_OK);
  } catch (cause) {
    const advice = `${path} cannot be written: give it to the user who owns its folder (chown)`;
    throw new Fault("forbidden", advice, { cause, advice });
  }
}

/** Whether a process works in the folder; asked by reading, so that nothing is made there. */
export function isLocked(folder: string): boolean {
  const path = join(folder, LOCK);
  if (!existsSync(path)) return false;
  let file: Database.Database | undefined;
  try {
    file = new Database(path, { timeout: 0, readonly: true });
    file.exec("SELECT 1 FROM sqlite_master");
    return false;
  } catch (thrown) {
    return thrown instanceof Error && "code" in thrown && thrown.code === "SQLITE_BUSY";
  } finally {
    file?.close();
  }
}
