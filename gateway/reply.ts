/** Faults as SMTP replies; the only SMTP numbers of the gateway (RFC 5321 §4.2, RFC 2034, RFC 3463). */
import { Fault, type FaultCode } from "../mime/fault.ts";

const ROWS = {
  malformed: [554, "6.0", "The message cannot be read"],
  "too-large": [552, "3.4", "The message is too large"],
  unauthenticated: [530, "7.0", "Authentication is required"],
  forbidden: [550, "7.1", "Not allowed"],
  "no-certificate": [550, "7.5", "The recipient cannot receive registered letters"],
  "session-gone": [554, "7.5", "There is nothing for this ticket"],
  "cannot-open": [554, "7.5", "The letter cannot be opened"],
  "signature-invalid": [554, "7.7", "The signature does not hold"],
  unavailable: [451, "4.1", "The broker cannot be reached; the letter was not accepted, try again later"],
  "storage-full": [452, "3.1", "The gateway's disk is full; the letter was not accepted, try again later"],
  internal: [451, "3.0", "The gateway failed; the letter was not accepted, try again later"],
} as const satisfies Record<FaultCode, readonly [number, string, string]>;

export interface Reply {
  readonly code: number;
  /** Begins with the enhanced status code. */
  readonly text: string;
}

/** What the client sees: the row's words and the advice where there is one; never the inner message. */
export function replyFor(thrown: unknown): Reply {
  const fault = Fault.from(thrown);
  const [code, detail, words] = ROWS[fault.code];
  return { code, text: `${enhanced(code, detail)} ${fault.advice ?? words}` };
}

/** Wrong name or password (RFC 4954 §6). */
export const AUTHENTICATION_FAILED: Reply = { code: 535, text: "5.7.8 User name or password is wrong" };

/** Accepted for delivery; the id finds the letter in the log. */
export function accepted(id: string): string {
  return `2.0.0 Accepted as ${id}`;
}

/** The class digit of an enhanced code follows from the reply code, never written twice (RFC 2034 §4). */
function enhanced(code: number, detail: string): string {
  return `${Math.trunc(code / 100)}.${detail}`;
}

/** Whether a reply of the next hop is final for the letter. */
export function isPermanent(code: number | undefined): boolean {
  return code !== undefined && code >= 500 && code < 600;
}

/** The enhanced status at the head of a next hop's answer, or the class's unspecific one. */
export function statusIn(response: string, code: number | undefined): string {
  return /^\d{3}[ -]([245]\.\d{1,3}\.\d{1,3})(?=\s|$)/u.exec(response)?.[1] ?? `${Math.trunc((code ?? 400) / 100)}.0.0`;
}
