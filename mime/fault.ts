/** The twelve faults: every failure inside Kakitome is one of these words; numbers belong to the edges that speak SMTP and HTTP. */

const RETRY = {
  malformed: "never",
  "too-large": "never",
  unauthenticated: "never",
  forbidden: "never",
  "no-certificate": "never",
  "session-gone": "never",
  recalled: "never",
  "cannot-open": "never",
  "signature-invalid": "never",
  unavailable: "later",
  "storage-full": "later",
  internal: "later",
} as const;

export type FaultCode = keyof typeof RETRY;

export const FAULT_CODES = Object.keys(RETRY) as readonly FaultCode[];

/**
 * A failure with a word that decides what happens next. The message is for the log of this side; a peer sees only the words that
 * its edge keeps for the code, and `advice`, which is written to be shown.
 */
export class Fault extends Error {
  override readonly name = "Fault";
  readonly code: FaultCode;
  /** What the person who sees the refusal can do about it; never holds anything of a letter or a key. */
  readonly advice: string | undefined;
  /** With `unavailable`: whoever asked has asked too often, and gets nothing for so many seconds. */
  readonly retryAfter: number | undefined;

  constructor(code: FaultCode, message: string, options: { cause?: unknown; advice?: string; retryAfter?: number } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.advice = options.advice;
    this.retryAfter = options.retryAfter;
  }

  /** Whether the same attempt can succeed at another time. */
  get retry(): "never" | "later" {
    return RETRY[this.code];
  }

  /** The fault in whatever was thrown: a Fault as it is, anything else as `internal`. */
  static from(thrown: unknown): Fault {
    if (thrown instanceof Fault) return thrown;
    return new Fault("internal", textOf(thrown), { cause: thrown });
  }
}

/** Whatever was thrown as text: a message where it has one. */
function textOf(thrown: unknown): string {
  try {
    const isError = Object.prototype.toString.call(thrown) === "[object Error]"; // also one of another realm
    return isError ? (thrown as Error).message : String(thrown);
  } catch {
    return "something that has no text was thrown";
  }
}

/** Whether the text is one of the twelve words. */
export function isFaultCode(text: unknown): text is FaultCode {
  return typeof text === "string" && Object.hasOwn(RETRY, text);
}
