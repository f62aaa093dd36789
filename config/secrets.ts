/** Secrets are files that only their owner can read: passwords and private keys. */
import { createPrivateKey, type KeyObject } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
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
  return secretAt(path, () => demandPrivate(path));
}

/**
 * Reads a credential that systemd has put into `$CREDENTIALS_DIRECTORY` (systemd.exec(5), LoadCredential); who may read it there is systemd's
 * affair, which says so in an access control list: its mask looks like a right of the group.
 * @throws Fault `malformed`: none was handed over, or it can be read by everybody
 */
export function readCredential(name: string): Secret {
  const folder = process.env["CREDENTIALS_DIRECTORY"];
  if (folder === undefined) throw new Fault("malformed", `no credential "${name}": systemd hands it over with LoadCredential=${name}:FILE`);
  const path = join(folder, name);
  return secretAt(path, () => demandMode(path, 0o007));
}

/** @throws Fault `malformed`: a file or folder is open to group or others (and how to close it) */
export function demandPrivate(path: string): void {
  demandMode(path, 0o077);
}

function demandMode(path: string, forbidden: number): void {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat || (stat.mode & forbidden) === 0) return; // a missing one is the reader's to name
  const [mode, closed] = [(stat.mode & 0o777).toString(8), stat.isDirectory() ? "700" : "600"];
  throw new Fault("malformed", `${path} can be read by others (mode ${mode}): run chmod ${closed} ${path}`);
}

function secretAt(path: string, demand: () => void): Secret {
  try {
    demand();
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
