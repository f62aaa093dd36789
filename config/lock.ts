/** One process for one folder: a lock of the operating system, which ends with the process however it ends. */
import { join } from "node:path";
import Database from "libsql";
import { Fault } from "../mime/fault.ts";

/** @returns what gives the folder free again. @throws Fault `unavailable`: another process works there */
export function lockFolder(folder: string): () => void {
  const file = new Database(join(folder, "lock"), { timeout: 0 });
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
