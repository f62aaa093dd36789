/** A guard against hostile input on which the work grows with the square of the octets: it is stopped instead of hanging the suite. */
import { createContext, runInContext } from "node:vm";

/** Linear work on the inputs of these tests takes milliseconds, quadratic work minutes: nothing in between has to be told apart. */
const PATIENCE_MS = 5_000;

/** Runs it and returns what it returns. @throws Error where it does not come to an end */
export function ending<T>(run: () => T): T {
  const room: { run: () => void; outcome?: { value: T } } = {
    run() {
      room.outcome = { value: run() };
    },
  };
  runInContext("run()", createContext(room), { timeout: PATIENCE_MS });
  if (!room.outcome) throw new Error("it did not come to an end");
  return room.outcome.value;
}
