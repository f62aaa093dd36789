/** The two ways a command can fail, and their response codes: RFC 3501 §7.1.2 and §7.1.3, RFC 5530. */

/** A command that is answered `tag NO` or `tag BAD`; after a fatal one the connection closes. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly kind: "NO" | "BAD";
  readonly code: string | undefined;
  readonly fatal: boolean;

  constructor(kind: "NO" | "BAD", text: string, options: { code?: string; fatal?: boolean } = {}) {
    super(text);
    this.kind = kind;
    this.code = options.code;
    this.fatal = options.fatal ?? false;
  }
}

/** The command was understood, and it cannot be done. */
export function no(text: string, code?: string): Refusal {
  return new Refusal("NO", text, code === undefined ? {} : { code });
}

/** The command was not understood. */
export function bad(text: string): Refusal {
  return new Refusal("BAD", text);
}
