/**
 * The processes of a gateway that has several (`workers`). A mailbox belongs to one of them, and with it what it sends, the spool's and the
 * register's files of that, its watcher and the journal's files: each file has one writer, and what is kept in order in memory stays so.
 */
import { hash } from "node:crypto";
import type { OwnMailbox } from "../config/schema.ts";
import type { Letters } from "./letters.ts";
import type { Entry } from "./spool.ts";
import type { Submission } from "./submission.ts";
import type { Transit } from "./transit.ts";

/** What a process does for senders that belong to it, and has the others' processes do. */
export interface Senders {
  /** The outbound walk. @returns the id under which the letter was accepted @throws Fault as `consign`; `unavailable`: its process is away */
  consign(submission: Submission): Promise<string>;
  /** Passes on a mail of somebody who is not ours. @throws Fault as `passThrough`; `unavailable` */
  passOn(transit: Transit): Promise<string>;
  /** Changes the register, whose files are named by the author: who stands in From, not in the envelope. */
  add: Letters["add"];
  change: Letters["change"];
}

/** What one of several processes knows of all. */
export interface Neighbours extends Senders {
  /** How many there are. */
  readonly count: number;
  /** Whether an address belongs to this one. */
  isOurs(address: string): boolean;
}

/** Which of so many processes an address belongs to. */
export class Owners {
  readonly #count: number;
  readonly #mailboxes: ReadonlyMap<string, string>;

  constructor(mailboxes: readonly OwnMailbox[], count: number) {
    this.#count = count;
    this.#mailboxes = new Map(mailboxes.flatMap(({ address, aliases }) => aliases.map(({ key }) => [key, address.key] as const)));
  }

  /** @param address of a mailbox of ours, of one of its aliases, or of anybody whose mail passes through @returns from 1 on */
  of(address: string): number {
    const key = address.toLowerCase();
    return (Number.parseInt(hash("sha256", this.#mailboxes.get(key) ?? key).slice(0, 8), 16) % this.#count) + 1;
  }
}

/** Whose entry it is: its sender's; a notice of ours is its recipient's, who sent what it is about. */
export function senderOf({ sender, consignments }: Pick<Entry, "sender" | "consignments">): string {
  return sender === "" ? (consignments[0]?.recipient ?? "") : sender;
}
