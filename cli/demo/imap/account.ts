/** The folders of one user, their hierarchy and subscriptions: RFC 3501 §6.3.3 to §6.3.9. */

import { Folder } from "./folder.ts";
import { canonicalName, newName, SEPARATOR } from "./names.ts";
import { no } from "./refusal.ts";

const MOST_FOLDERS = 1000;

export class Account {
  readonly #folders = new Map<string, Folder>();
  readonly #subscribed = new Set<string>();
  readonly #listeners = new Set<() => void>();
  // Grows with every folder made, so that a name used again never repeats a UIDVALIDITY: RFC 3501 §2.3.1.1.
  #nextValidity = Math.floor(Date.now() / 1000);

  constructor() {
    this.#make("INBOX");
    this.#subscribed.add("INBOX");
  }

  /** All names, sorted, INBOX first. */
  names(): readonly string[] {
    const [inbox = "INBOX", ...others] = this.#folders.keys();
    return [inbox, ...others.sort()];
  }

  subscriptions(): readonly string[] {
    return [...this.#subscribed].sort();
  }

  find(name: string): Folder | undefined {
    return this.#folders.get(canonicalName(name));
  }

  hasChildren(name: string): boolean {
    return [...this.#folders.keys()].some((other) => other.startsWith(name + SEPARATOR));
  }

  /** Make a folder, and those above it that are missing. @throws Refusal NO: it exists, a bad name, or too many. */
  create(name: string): Folder {
    const wanted = newName(name);
    if (this.#folders.has(wanted)) throw no("the mailbox exists", "ALREADYEXISTS");
    const levels = wanted.split(SEPARATOR);
    const above = levels.slice(1).map((_, depth) => levels.slice(0, depth + 1).join(SEPARATOR));
    if (this.#folders.size + levels.length > MOST_FOLDERS) throw no("too many mailboxes", "LIMIT");
    for (const parent of above) if (!this.#folders.has(parent)) this.#make(parent);
    return this.#make(wanted);
  }

  /** Delete a folder; sessions that have it open see it run empty. @throws Refusal NO. */
  delete(name: string): void {
    const folder = this.existing(name);
    if (folder.name === "INBOX") throw no("INBOX cannot be deleted", "CANNOT");
    if (this.hasChildren(folder.name)) throw no("the mailbox has others below it", "HASCHILDREN");
    this.#folders.delete(folder.name);
    for (const { uid } of folder.messages()) folder.remove(uid);
  }

  /** Rename a folder and those below it; INBOX only hands its messages over (RFC 3501 §6.3.5). @throws Refusal NO. */
  rename(from: string, to: string): void {
    const folder = this.existing(from);
    const wanted = newName(to);
    if (wanted.startsWith(folder.name + SEPARATOR) && folder.name !== "INBOX") throw no("a mailbox cannot move below itself", "CANNOT");
    const made = this.create(wanted);
    if (folder.name === "INBOX") {
      for (const message of folder.messages()) {
        made.add(message);
        folder.remove(message.uid);
      }
      return;
    }
    const old = folder.name;
    const moving = this.names().filter((name) => name === old || name.startsWith(old + SEPARATOR));
    for (const name of moving) {
      this.#move(this.existing(name), wanted + name.slice(old.length));
    }
  }

  /** A folder that must be there. @throws Refusal NO. */
  existing(name: string): Folder {
    const folder = this.find(name);
    if (folder === undefined) throw no("no such mailbox", "NONEXISTENT");
    return folder;
  }

  subscribe(name: string): void {
    const wanted = newName(name);
    if (this.#subscribed.size >= MOST_FOLDERS) throw no("too many subscriptions", "LIMIT");
    this.#subscribed.add(wanted);
  }

  unsubscribe(name: string): void {
    this.#subscribed.delete(canonicalName(name));
  }

  /** Be told whenever anything in any folder changes; the answer ends it. */
  watch(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  #move(folder: Folder, name: string): void {
    this.#folders.delete(folder.name);
    folder.name = name;
    this.#folders.set(name, folder);
  }

  #make(name: string): Folder {
    const folder = new Folder(name, this.#nextValidity);
    this.#nextValidity += 1;
    this.#folders.set(name, folder);
    folder.watch(() => {
      for (const listener of this.#listeners) listener();
    });
    return folder;
  }
}
