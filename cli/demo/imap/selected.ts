/** A mailbox as one session sees it, and the untagged news of what others did to it: RFC 3501 §5.2, §5.5 and §7.4.1. */

import type { Change, Folder, Message } from "./folder.ts";
import { SYSTEM_FLAGS } from "./folder.ts";
import { checkSequence, positionOf, resolveSet, type NumberSet } from "./sets.ts";
import { list } from "./wire.ts";

/** A message with the number that this session knows it by. */
export interface Numbered {
  readonly seq: number;
  readonly message: Message;
}

export class Selected {
  readonly folder: Folder;
  readonly readOnly: boolean;
  readonly #session: object;
  /** UIDs by sequence number: what the client has been told, not what is there. */
  readonly #view: number[] = [];
  readonly #recent = new Set<number>();
  #added: number[];
  readonly #flagged = new Set<number>();
  #gone = false;
  #keywords: number;
  readonly #unwatch: () => void;

  constructor(folder: Folder, options: { readOnly: boolean; session: object; onChange: () => void }) {
    this.folder = folder;
    this.readOnly = options.readOnly;
    this.#session = options.session;
    this.#added = folder.messages().map(({ uid }) => uid);
    this.#keywords = folder.keywords.length;
    this.#unwatch = folder.watch((change) => {
      this.#note(change);
      options.onChange();
    });
    this.#admit();
  }

  get count(): number {
    return this.#view.length;
  }

  get recentCount(): number {
    return this.#recent.size;
  }

  get lastUid(): number {
    return this.#view.at(-1) ?? 0;
  }

  isRecent(uid: number): boolean {
    return this.#recent.has(uid);
  }

  /** Flags as this session sees them. */
  flagsOf(message: Message): readonly string[] {
    return this.#recent.has(message.uid) ? [...message.flags, String.raw`\Recent`] : message.flags;
  }

  /** The flags and the permanent flags, as SELECT lists them. */
  flagLines(): string[] {
    const flags = [...SYSTEM_FLAGS, ...this.folder.keywords];
    const permanent = this.readOnly ? [] : [...flags, String.raw`\*`];
    return [`* FLAGS ${list(flags)}`, `* OK [PERMANENTFLAGS ${list(permanent)}] flags that stay`];
  }

  /** Number of the first message not yet seen. */
  firstUnseen(): number | undefined {
    return this.numbered().find(({ message }) => !message.flags.includes(String.raw`\Seen`))?.seq;
  }

  /** Messages in the view that are still there. */
  numbered(): Numbered[] {
    return this.#view.flatMap((uid, index) => {
      const message = this.folder.get(uid);
      return message === undefined ? [] : [{ seq: index + 1, message }];
    });
  }

  /**
   * The messages of a set; `missing` tells that some were expunged by others and the client has not heard yet.
   * @throws Refusal BAD: a sequence number over the count.
   */
  pick(set: NumberSet, by: "seq" | "uid"): { found: Numbered[]; missing: boolean } {
    if (by === "seq") checkSequence(set, this.count);
    const within = resolveSet(set, by === "seq" ? this.count : this.lastUid);
    const wanted = this.#view.filter((uid, index) => within(by === "seq" ? index + 1 : uid)).length;
    const found = this.numbered().filter(({ seq, message }) => within(by === "seq" ? seq : message.uid));
    return { found, missing: found.length < wanted };
  }

  /** Lines of news for the client; expunges are held back while sequence numbers must not move (RFC 3501 §7.4.1). */
  news(mayExpunge: boolean): string[] {
    const lines: string[] = [];
    if (mayExpunge && this.#gone) lines.push(...this.#dropGone());
    if (this.folder.keywords.length > this.#keywords) lines.push(...this.flagLines());
    this.#keywords = this.folder.keywords.length;
    for (const uid of this.#flagged) lines.push(...this.#flagNews(uid));
    this.#flagged.clear();
    if (this.#admit()) lines.push(`* ${this.count} EXISTS`, `* ${this.recentCount} RECENT`);
    return lines;
  }

  close(): void {
    this.#unwatch();
  }

  #note({ kind, uid, by }: Change): void {
    if (kind === "added") this.#added.push(uid);
    else if (kind === "gone") this.#gone = true;
    else if (by !== this.#session) this.#flagged.add(uid);
  }

  #dropGone(): string[] {
    const lines: string[] = [];
    for (let index = this.#view.length - 1; index >= 0; index -= 1) {
      const uid = this.#view[index] ?? 0;
      if (this.folder.get(uid) !== undefined) continue;
      this.#view.splice(index, 1);
      this.#recent.delete(uid);
      lines.push(`* ${index + 1} EXPUNGE`);
    }
    this.#gone = false;
    return lines;
  }

  #flagNews(uid: number): string[] {
    const position = positionOf(this.#view, uid);
    const message = this.folder.get(uid);
    if (position < 0 || message === undefined) return [];
    return [`* ${position + 1} FETCH (UID ${uid} FLAGS ${list(this.flagsOf(message))})`];
  }

  /** Take what arrived into the view; true when something did. */
  #admit(): boolean {
    const arrived = this.#added.filter((uid) => this.folder.get(uid) !== undefined);
    this.#added = [];
    for (const uid of arrived) {
      this.#view.push(uid);
      const recent = this.readOnly ? this.folder.isRecent(uid) : this.folder.claimRecent(uid);
      if (recent) this.#recent.add(uid);
    }
    return arrived.length > 0;
  }
}
