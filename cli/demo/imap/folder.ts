/** One mailbox: its messages in UID order, their flags, and who is told of a change: RFC 3501 §2.3. */

import { no } from "./refusal.ts";

/** A message; a change of flags makes a new one with the same UID. */
export interface Message {
  readonly uid: number;
  readonly flags: readonly string[];
  readonly internalDate: Date;
  readonly bytes: Buffer;
}

/** What happened to a message, and which session did it (none for a delivery). */
export interface Change {
  readonly kind: "added" | "gone" | "flags";
  readonly uid: number;
  readonly by: object | undefined;
}

export const SYSTEM_FLAGS: readonly string[] = ["Answered", "Flagged", "Deleted", "Seen", "Draft"].map((flag) => `\\${flag}`);

const MOST_FLAGS = 100;

export class Folder {
  name: string;
  readonly uidValidity: number;
  #uidNext = 1;
  readonly #messages = new Map<number, Message>();
  readonly #recent = new Set<number>();
  readonly #keywords = new Map<string, string>();
  readonly #listeners = new Set<(change: Change) => void>();

  constructor(name: string, uidValidity: number) {
    this.name = name;
    this.uidValidity = uidValidity;
  }

  get uidNext(): number {
    return this.#uidNext;
  }

  get size(): number {
    return this.#messages.size;
  }

  /** Keywords ever used here, as they were first spelt. */
  get keywords(): readonly string[] {
    return [...this.#keywords.values()];
  }

  /** How many messages no session has been told of. */
  get recentCount(): number {
    return this.#recent.size;
  }

  messages(): Message[] {
    return [...this.#messages.values()];
  }

  get(uid: number): Message | undefined {
    return this.#messages.get(uid);
  }

  /** Add a message and return its UID. @throws Refusal NO: too many flags. */
  add(message: { bytes: Buffer; flags: readonly string[]; internalDate: Date }, by?: object): number {
    const flags = this.#canonicalFlags(message.flags);
    const uid = this.#uidNext;
    this.#uidNext += 1;
    this.#messages.set(uid, { ...message, uid, flags });
    this.#recent.add(uid);
    this.#tell({ kind: "added", uid, by });
    return uid;
  }

  /** Replace the flags of a message; nobody is told when they stay the same. @throws Refusal NO: too many flags. */
  setFlags(uid: number, flags: readonly string[], by?: object): void {
    const message = this.#messages.get(uid);
    if (message === undefined) return;
    const wanted = this.#canonicalFlags(flags);
    const same = wanted.length === message.flags.length && wanted.every((flag) => message.flags.includes(flag));
    if (same) return;
    this.#messages.set(uid, { ...message, flags: wanted });
    this.#tell({ kind: "flags", uid, by });
  }

  remove(uid: number, by?: object): void {
    if (!this.#messages.delete(uid)) return;
    this.#recent.delete(uid);
    this.#tell({ kind: "gone", uid, by });
  }

  /** Take the \Recent mark of a message; true for the one session that gets it (RFC 3501 §2.3.2). */
  claimRecent(uid: number): boolean {
    return this.#recent.delete(uid);
  }

  isRecent(uid: number): boolean {
    return this.#recent.has(uid);
  }

  /** Be told of every change; the answer ends it. */
  watch(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  #tell(change: Change): void {
    for (const listener of this.#listeners) listener(change);
  }

  /** Flags are equal in any case; a keyword keeps its first spelling, and \Recent is the server's own. */
  #canonicalFlags(flags: readonly string[]): string[] {
    const named = new Map<string, string>();
    for (const flag of flags) {
      const key = flag.toLowerCase();
      const system = SYSTEM_FLAGS.find((known) => known.toLowerCase() === key);
      if (system !== undefined) named.set(key, system);
      else if (!key.startsWith("\\")) named.set(key, this.#keywords.get(key) ?? flag);
    }
    if (named.size > MOST_FLAGS) throw no("too many flags on one message", "LIMIT");
    for (const [key, name] of named) if (!key.startsWith("\\")) this.#keywords.set(key, name);
    return [...named.values()];
  }
}
