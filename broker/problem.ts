/** Faults as problem documents; the only HTTP status numbers of the broker (RFC 9457). */
import { Fault, isFaultCode, type FaultCode } from "../mime/fault.ts";

const PROBLEMS = {
  malformed: [400, "The request cannot be read"],
  "too-large": [413, "The request is too large"],
  unauthenticated: [401, "A certificate of this broker is needed"],
  forbidden: [403, "Not for this certificate"],
  "no-certificate": [422, "The mailbox is not enrolled"],
  "session-gone": [404, "There is nothing for this ticket"],
  recalled: [410, "The sender has recalled the letter"],
  "cannot-open": [422, "It cannot be opened"],
  "signature-invalid": [422, "The signature does not hold"],
  unavailable: [503, "Not now; try again later"],
  "storage-full": [507, "The disk is full; try again later"],
  internal: [500, "The broker failed; try again later"],
} as const satisfies Record<FaultCode, readonly [number, string]>;

/** Of `unavailable`, where who asks is the reason (RFC 6585 §4); for a gateway it is the same: later. */
const TOO_OFTEN = [429, "Too many requests; try again later"] as const;

export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: (typeof PROBLEMS)[FaultCode][0] | (typeof TOO_OFTEN)[0];
  readonly detail?: string;
}

const TYPE = "urn:kakitome:fault:";

/** What the outside learns of a fault: its word, and the advice where there is one; never the inner message. */
export function problemOf(fault: Fault): Problem {
  const [status, title] = fault.retryAfter === undefined ? PROBLEMS[fault.code] : TOO_OFTEN;
  return { type: `${TYPE}${fault.code}`, title, status, ...(fault.advice !== undefined && { detail: fault.advice }) };
}

/** Header fields of the answer that holds the problem. */
export function problemHeaders({ retryAfter }: Fault): Record<string, string> {
  return { "content-type": "application/problem+json", ...(retryAfter !== undefined && { "retry-after": String(retryAfter) }) };
}

/** The fault that a problem document stands for; what is no such document is `unavailable`. */
export function faultOf(status: number, body: unknown): Fault {
  const type: unknown = typeof body === "object" && body !== null && "type" in body ? body.type : undefined;
  const code = typeof type === "string" && type.startsWith(TYPE) ? type.slice(TYPE.length) : undefined;
  if (!isFaultCode(code)) return new Fault("unavailable", `the broker answered ${status}`);
  const detail: unknown = typeof body === "object" && body !== null && "detail" in body ? body.detail : undefined;
  return new Fault(code, `the broker answered ${status}: ${PROBLEMS[code][1]}`, typeof detail === "string" ? { advice: detail } : {});
}
