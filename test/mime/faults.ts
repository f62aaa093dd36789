/** How these tests look at a refusal: the Fault itself, and nothing but a Fault. */
import { Fault } from "../../mime/fault.ts";

/** The Fault that this throws. @throws Error where it throws nothing, or something else */
export function faultOf(run: () => unknown): Fault {
  let returned: unknown;
  try {
    returned = run();
  } catch (thrown) {
    if (thrown instanceof Fault) return thrown;
    throw new Error("something other than a Fault was thrown", { cause: thrown });
  }
  throw new Error(`nothing was refused; it returned ${String(returned).slice(0, 200)}`);
}

/** The word of the refusal, or "ok"; for tables that only count outcomes. @throws Error where something else than a Fault is thrown */
export function outcomeOf(run: () => unknown): string {
  try {
    run();
    return "ok";
  } catch (thrown) {
    if (thrown instanceof Fault) return thrown.code;
    throw new Error("something other than a Fault was thrown", { cause: thrown });
  }
}

/** Everything of a refusal that a peer could see or a log line would tell apart. */
export function faceOf({ code, message, advice, retry }: Fault): string {
  return JSON.stringify([code, message, advice, retry]);
}
