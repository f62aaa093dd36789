/** Who may submit, and as whom: users of the configuration with scrypt hashes (RFC 7914; RFC 4954 AUTH). */
import { createHmac, randomBytes, scrypt, timingSafeEqual, type ScryptOptions } from "node:crypto";
import type { User } from "../config/schema.ts";
import { Slots } from "../config/slots.ts";
import type { Mailbox } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import { Refused } from "./reply.ts";

const COST: ScryptOptions = { N: 1 << 15, r: 8, p: 1, maxmem: 64 << 20 };
const KEY_OCTETS = 32;
/** Hashes at once: Node has four threads for them and for files, and the spool needs some. */
const AT_ONCE = 2;
/** Who would wait longer than some seconds is better told to come again. */
const MOST_WAITING = 20;

function derive(password: string, salt: Buffer, options: ScryptOptions): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(password.normalize("NFC"), salt, KEY_OCTETS, options, (error, key) => (error ? reject(error) : resolve(key)));
  });
}

/** Hash for the configuration: `$scrypt$N$r$p$salt$key`, salt and key in base64url. */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(16);
  const key = await derive(password, salt, COST);
  return `$scrypt$${COST.N}$${COST.r}$${COST.p}$${salt.toString("base64url")}$${key.toString("base64url")}`;
}

async function matches(password: string, hash: string): Promise<boolean> {
  const [, , n, r, p, salt, key] = hash.split("$");
  const options = { N: Number(n), r: Number(r), p: Number(p), maxmem: 256 << 20 };
  const expected = Buffer.from(key ?? "", "base64url");
  const actual = await derive(password, Buffer.from(salt ?? "", "base64url"), options);
  return expected.length === actual.length && timingSafeEqual(expected, actual);
}

/** A user who proved the password. */
export interface Submitter {
  readonly name: string;
  readonly identities: readonly Mailbox[];
  /** The hash that the password was checked against; absent where no password was asked for. */
  readonly proof?: string;
}

/** Whether the submitter may send as this mailbox. */
export function maySendAs(submitter: Submitter, mailbox: Mailbox): boolean {
  return submitter.identities.some(({ key }) => key === mailbox.key);
}

/** So long a password that was right is known to be right: mail clients log in for every letter, and a hash is made to be slow. */
const KNOWN_FOR_MS = 5 * 60_000;

/** The users of one gateway. */
export class Users {
  readonly #users: readonly User[];
  readonly #key = randomBytes(32);
  /** By name: what the last right password is recognised by, under a key of this process, and until when, by `performance.now()`. */
  readonly #known = new Map<string, { readonly tag: Buffer; readonly until: number }>();
  readonly #nobody: Promise<string>;
  readonly #slots = new Slots(AT_ONCE);
  #waiting = 0;

  constructor(users: readonly User[]) {
    this.#users = users;
    this.#nobody = hashPassword(randomBytes(16).toString("hex"));
  }

  /**
   * @returns undefined where name or password is wrong; an unknown name takes as long as a wrong password
   * @throws Fault `malformed`: a password of more than 1,024 characters; Refused `busy`: too many are being checked
   */
  async authenticate(name: string, password: string): Promise<Submitter | undefined> {
    if (password.length > 1_024) throw new Fault("malformed", "a password that long cannot be meant");
    const tag = createHmac("sha256", this.#key)
      .update(`${name}\0${password.normalize("NFC")}`)
      .digest();
    const known = this.#known.get(name);
    if (known && known.until > performance.now() && timingSafeEqual(known.tag, tag)) return this.#submitter(name);
    if (this.#waiting >= MOST_WAITING) throw new Refused("busy");
    this.#waiting++;
    try {
      const submitter = await this.#slots.run(() => this.#check(name, password));
      if (submitter) this.#known.set(name, { tag, until: performance.now() + KNOWN_FOR_MS });
      return submitter;
    } finally {
      this.#waiting--;
    }
  }

  /** Somebody who proved to be a user before, perhaps of another configuration. @returns undefined where user or password are others now */
  current({ name, proof }: Submitter): Submitter | undefined {
    const submitter = this.#submitter(name);
    return submitter?.proof === proof ? submitter : undefined;
  }

  async #check(name: string, password: string): Promise<Submitter | undefined> {
    const user = this.#users.find((one) => one.name === name);
    const good = await matches(password, user?.password ?? (await this.#nobody));
    return user && good ? this.#submitter(name) : undefined;
  }

  #submitter(name: string): Submitter | undefined {
    const user = this.#users.find((one) => one.name === name);
    return user && { name: user.name, identities: user.identities, proof: user.password };
  }
}
