/** Secrets are files that only their owner can read: passwords and private keys. */
import { createPrivateKey, type KeyObject } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { Fault } from "../mime/fault.ts";

/** A password or key that cannot print: it is reachable only by `reveal`. */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return "[Secret]";
  }

  toJSON(): string {
    return "[Secret]";
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return "[Secret]";
  }
}

/**
 * Reads a secret file; a final line end does not count.
 * @throws Fault `malformed`: not readable, empty, or open to group or others (and how to close it)
 */
export function readSecret(path: string): Secret {
  try {
    const { mode } = statSync(path);
    if ((mode & 0o077) !== 0) {
      throw new Fault("malformed", `${path} can be read by others (mode ${(mode & 0o777).toString(8)}): run chmod 600 ${path}`);
    }
    const text = readFileSync(path, "utf8").replace(/\r?\n$/u, "");
    if (text === "") throw new Fault("malformed", `${path} is empty`);
    return new Secret(text);
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    throw new Fault("malformed", `${path} cannot be read (${cause instanceof Error ? cause.message : String(cause)})`, { cause });
  }
}

/** Reads a private key as PEM. @throws Fault `malformed` as `readSecret` does, or where it is no unencrypted private key. */
export function readPrivateKey(path: string): KeyObject {
  const pem = readSecret(path);
  try {
    return createPrivateKey(pem.reveal());
  } catch {
    throw new Fault("malformed", `${path} holds no private key as unencrypted PEM`); // the cause could quote the key
  }
}
