/** Calls to the broker over kept connections: bounded answers, problem documents as faults, an unreachable broker as `unavailable`. */
import type { Dispatcher, Pool } from "undici";
import { Fault } from "../mime/fault.ts";
import { faultOf } from "./problem.ts";
import { LARGEST_BODY_OCTETS } from "./wire.ts";

export interface Body {
  readonly type: string;
  readonly bytes: Buffer;
}

/** One call. @throws Fault `unavailable`, or the fault that the broker answers */
export async function call(pool: Pool, method: "GET" | "POST", path: string, body: Body | undefined, signal: AbortSignal): Promise<Buffer> {
  let response: Dispatcher.ResponseData;
  let bytes: Buffer;
  try {
    response = await pool.request({ method, path, signal, ...(body && { body: body.bytes, headers: { "content-type": body.type } }) });
    bytes = await bounded(response);
  } catch (cause) {
    throw cause instanceof Fault ? cause : new Fault("unavailable", "the broker cannot be reached", { cause });
  }
  if (response.statusCode < 300) return bytes;
  let problem: unknown;
  try {
    problem = JSON.parse(bytes.toString("utf8"));
  } catch {
    problem = undefined;
  }
  throw faultOf(response.statusCode, problem);
}

/** Whether the line broke, so that nobody knows whether the call was heard; a refused connection or an answer is something else. */
export function isBroken(thrown: unknown): boolean {
  const cause = thrown instanceof Fault ? thrown.cause : undefined;
  const code = typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined;
  return code === "UND_ERR_SOCKET" || code === "ECONNRESET" || code === "EPIPE";
}

/** Closes the pool behind a piece of work. */
export async function closing<T>(pool: Pool, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } finally {
    await pool.destroy();
  }
}

async function bounded(response: Dispatcher.ResponseData): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response.body) {
    const bytes = Buffer.from(chunk as Uint8Array);
    length += bytes.length;
    if (length > 4 * LARGEST_BODY_OCTETS) throw new Fault("unavailable", "the broker's answer is too large");
    chunks.push(bytes);
  }
  return Buffer.concat(chunks);
}
