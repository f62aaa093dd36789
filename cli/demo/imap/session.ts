/** One client's session: who it is, which mailbox it has open, and how it is written to: RFC 3501 §3. */

import type { Account } from "./account.ts";
import type { Folder } from "./folder.ts";
import type { Arguments } from "./parse.ts";
import { bad, no } from "./refusal.ts";
import { Selected } from "./selected.ts";
import type { MailStore } from "./store.ts";
import type { Piece } from "./wire.ts";

/** What a session needs of its connection. */
export interface Wire {
  readonly secure: boolean;
  readonly local: boolean;
  readonly offersTls: boolean;
  write(pieces: readonly Piece[]): void;
  /** The next line outside a command: of AUTHENTICATE or IDLE. Undefined when the peer is gone. */
  line(): Promise<string | undefined>;
  startTls(): Promise<void>;
  end(): void;
}

/** How a command ended well: the words and code of its tagged OK, and what is done after that is written. */
export interface Done {
  readonly text: string;
  readonly code?: string | undefined;
  readonly after?: () => void | Promise<void>;
}

/** A command: takes its arguments, writes its untagged answers, and returns its end or throws a Refusal. */
export type Command = (session: Session, args: Arguments) => Done | Promise<Done>;

export class Session {
  readonly store: MailStore;
  readonly wire: Wire;
  failedLogins = 0;
  #account: Account | undefined;
  #selected: Selected | undefined;
  #live = false;

  constructor(store: MailStore, wire: Wire) {
    this.store = store;
    this.wire = wire;
  }

  get state(): "guest" | "user" | "selected" {
    if (this.#account === undefined) return "guest";
    return this.#selected === undefined ? "user" : "selected";
  }

  get account(): Account {
    if (this.#account === undefined) throw bad("not logged in");
    return this.#account;
  }

  get selected(): Selected {
    if (this.#selected === undefined) throw bad("no mailbox is selected");
    return this.#selected;
  }

  /** The selected mailbox, when it may be changed. @throws Refusal NO: it was opened with EXAMINE. */
  get writable(): Selected {
    if (this.selected.readOnly) throw no("the mailbox is open for reading only", "READ-ONLY");
    return this.selected;
  }

  logIn(account: Account): void {
    this.#account = account;
  }

  select(folder: Folder, readOnly: boolean): Selected {
    this.deselect();
    this.#selected = new Selected(folder, { readOnly, session: this, onChange: () => this.#live && this.tellNews(true) });
    return this.#selected;
  }

  deselect(): void {
    this.#selected?.close();
    this.#selected = undefined;
  }

  say(...lines: readonly string[]): void {
    for (const line of lines) this.wire.write([line, "\r\n"]);
  }

  /** Write what others did to the selected mailbox since the last time. */
  tellNews(mayExpunge: boolean): void {
    if (this.#selected !== undefined) this.say(...this.#selected.news(mayExpunge));
  }

  /** Write news as they happen, until the answer is called. */
  goLive(): () => void {
    this.#live = true;
    this.tellNews(true);
    return () => {
      this.#live = false;
    };
  }
}
