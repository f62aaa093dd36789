/** The mailboxes of the demo, all in memory: accounts, their passwords and their folders (the model of RFC 3501 §2.3). */

import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { Account } from "./account.ts";
import type { Message } from "./folder.ts";

/** What a delivery may say of itself; a message lands unread in INBOX with the time of now. */
export interface DeliverOptions {
  folder?: string;
  flags?: readonly string[];
  internalDate?: Date;
}

export class MailStore {
  readonly #accounts = new Map<string, { account: Account; proof: Buffer }>();
  readonly #key = randomBytes(32);

  /** Add a user with an empty INBOX; for a user who is there already, change the password. */
  addUser(user: string, password: string): void {
    const account = this.#accounts.get(user)?.account ?? new Account();
    this.#accounts.set(user, { account, proof: this.#proofOf(Buffer.from(password)) });
  }

  hasUser(user: string): boolean {
    return this.#accounts.has(user);
  }

  /** The account that a name and a password open, or undefined; takes as long for an unknown name as for a wrong password. */
  open(user: string, password: Buffer): Account | undefined {
    const entry = this.#accounts.get(user);
    const equal = timingSafeEqual(entry?.proof ?? Buffer.alloc(32), this.#proofOf(password));
    return equal ? entry?.account : undefined;
  }

  /**
   * Puts a message into a folder of a user, making the folder if missing; returns its UID.
   * @throws Error: no such user, or a folder name that cannot be.
   */
  deliver(user: string, bytes: Buffer, options: DeliverOptions = {}): number {
    const account = this.#account(user);
    const name = options.folder ?? "INBOX";
    let folder = account.find(name);
    if (folder === undefined) {
      folder = account.create(name);
      account.subscribe(name); // clients that show only subscribed folders should show this one
    }
    return folder.add({ bytes: Buffer.from(bytes), flags: options.flags ?? [], internalDate: options.internalDate ?? new Date() });
  }

  /** All messages of a folder, in UID order; none when the folder is missing. @throws Error: no such user. */
  list(user: string, folder = "INBOX"): readonly Message[] {
    return this.#account(user).find(folder)?.messages() ?? [];
  }

  /** Resolves when the predicate holds over the folder's messages; rejects with signal.reason on abort. */
  async until(
    user: string,
    folder: string,
    predicate: (messages: readonly Message[]) => boolean,
    signal: AbortSignal,
  ): Promise<readonly Message[]> {
    const account = this.#account(user);
    signal.throwIfAborted();
    let stop: (() => void) | undefined;
    const found = new Promise<readonly Message[]>((resolve, reject) => {
      const look = (): void => {
        try {
          const messages = this.list(user, folder);
          if (predicate(messages)) resolve(messages);
        } catch (cause) {
          reject(cause);
        }
      };
      const abort = (): void => reject(signal.reason);
      const unwatch = account.watch(look);
      signal.addEventListener("abort", abort, { once: true });
      stop = () => {
        unwatch();
        signal.removeEventListener("abort", abort);
      };
      look();
    });
    return await found.finally(() => stop?.());
  }

  #account(user: string): Account {
    const entry = this.#accounts.get(user);
    if (entry === undefined) throw new Error(`no such user: ${user}`);
    return entry.account;
  }

  // Equal lengths for timingSafeEqual, whatever the password.
  #proofOf(password: Buffer): Buffer {
    return createHmac("sha256", this.#key).update(password).digest();
  }
}
