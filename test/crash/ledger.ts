/** The ledger: keeps what the sender saw of each mail, and judges at the end whether it arrived exactly once, sealed on its way, with one receipt. */
import { randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { Observer, type Facts, type OpenedCopy, type RegisterEntry, type Row } from "./facts.ts";
import type { CrashPlace } from "./place.ts";
import { send, type Answer, type Mail } from "./sender.ts";

/** A mail and what the sender saw of it. */
export interface Account {
  readonly mail: Mail;
  readonly answers: Answer[];
}

export type Kind = "lost" | "duplicated" | "plaintext" | "receipt" | "left over";

/** Something that is not as it must be. */
export interface Finding {
  readonly kind: Kind;
  readonly what: string;
  /** Waiting cannot mend it. */
  readonly final?: boolean;
}

/** What must hold once everything is quiet; nothing is returned where all is well. */
export function judge(accounts: readonly Account[], facts: Facts): Finding[] {
  const index: Index = {
    byToken: groupBy(facts.opened, ({ token }) => token),
    copies: groupBy(facts.opened, ({ messageId }) => messageId),
    records: groupBy(facts.register, ({ messageId }) => messageId),
    rows: groupBy(facts.rows, ({ messageId }) => messageId),
    facts,
  };
  const found = accounts.flatMap(({ mail, answers }) => mail.recipients.flatMap((recipient) => judgeOne(mail, recipient, answers, index)));
  return [...found, ...leftOver(facts)];
}

interface Index {
  readonly byToken: Groups<OpenedCopy>;
  readonly copies: Groups<OpenedCopy>;
  readonly records: Groups<RegisterEntry>;
  readonly rows: Groups<Row>;
  readonly facts: Facts;
}

type Groups<T> = (key: string) => readonly T[];

function groupBy<T>(all: readonly T[], keyOf: (one: T) => string): Groups<T> {
  const groups = new Map<string, T[]>();
  for (const one of all) groups.set(keyOf(one), [...(groups.get(keyOf(one)) ?? []), one]);
  return (key) => groups.get(key) ?? [];
}

function judgeOne({ token, messageId }: Mail, recipient: string, answers: readonly Answer[], index: Index): Finding[] {
  const what = (words: string): string => `${messageId} to ${recipient}: ${words} (the sender saw ${answers.join(", ")})`;
  const found: Finding[] = [];
  const copies = new Set([...index.byToken(token), ...index.copies(messageId)].filter((copy) => copy.recipient === recipient));
  if (copies.size > 1) found.push({ kind: "duplicated", what: what(`opened ${copies.size} times`), final: true });
  if ([...copies].some((copy) => copy.token !== token || copy.messageId !== messageId))
    found.push({ kind: "lost", what: what("its text came under another Message-ID, or another text under its own"), final: true });
  if (!answers.includes("250")) return found;
  const noticed = index.facts.notices.some((notice) => notice.includes(messageId) && notice.includes(recipient));
  if (copies.size === 0 && !noticed)
    found.push({ kind: "lost", what: what("accepted, and neither opened nor answered by a failure notice") });
  const final = copies.size > 1; // two letters have two receipts
  if (!noticed)
    found.push(...receiptsOf(messageId, recipient, index).map((words) => ({ kind: "receipt" as const, what: what(words), final })));
  return found;
}

/** What is wrong with the receipt of one recipient: there must be one record here, one confirmed row there, of the same evidence and the same bytes. */
function receiptsOf(messageId: string, recipient: string, { records: recordsOf, rows, facts }: Index): string[] {
  const records = recordsOf(messageId).filter(({ address }) => address === recipient);
  const confirmed = rows(messageId).filter((row) => row.recipient === recipient && row.state === "confirmed");
  const [record, row] = [records[0], confirmed[0]];
  const wrong: string[] = [];
  if (records.length !== 1) wrong.push(`${records.length} records at the sender`);
  if (confirmed.length !== 1) wrong.push(`${confirmed.length} confirmed rows at the broker`);
  if (!record || !row) return wrong;
  if (record.state !== "opened") wrong.push(`the record says ${record.state}`);
  if (record.evidence === undefined || record.evidence !== row.evidence || record.session !== row.session)
    wrong.push("record and row differ in evidence or session");
  if (row.holdsKey) wrong.push("the confirmed row still holds its key");
  if (record.evidence !== undefined && facts.unequal.includes(record.evidence)) wrong.push("the receipt's bytes differ or are missing");
  return wrong;
}

function leftOver(facts: Facts): Finding[] {
  const open = facts.rows.filter(({ state }) => state === "dispatched" || state === "released").length; // `declared` ones vanish by themselves
  const counts: [number, string][] = [
    [facts.sealed, "sealed letters in the recipients' mailboxes"],
    [facts.unsent, "receipts that the broker has not mailed"],
    [facts.spooled.length, "files in the spool"],
    [facts.queued, "mails in the mail server's queue"],
    [open, "rows that are neither confirmed nor ended"],
  ];
  return counts.filter(([count]) => count > 0).map(([count, words]) => ({ kind: "left over", what: `${count} ${words}` }));
}

const LOOK_EVERY_MS = 25;

/** Keeps the accounts of one place. */
export class Ledger {
  readonly #place: CrashPlace;
  readonly #observer: Observer;
  readonly #accounts: Account[] = [];
  readonly #run = randomBytes(6).toString("hex");

  constructor(place: CrashPlace) {
    this.#place = place;
    this.#observer = new Observer(place);
  }

  get accounts(): readonly Account[] {
    return this.#accounts;
  }

  close(): void {
    this.#observer.close();
  }

  /** A new mail of which nothing is known yet. */
  open(recipients: readonly string[]): Account {
    const number = this.#accounts.length;
    const mail = {
      token: `K${this.#run}n${number}`,
      messageId: `<mail-${number}.${randomBytes(4).toString("hex")}@a.example>`,
      recipients,
    };
    const account: Account = { mail, answers: [] };
    this.#accounts.push(account);
    return account;
  }

  /** Sends it until 250. */
  send({ mail, answers }: Account, signal: AbortSignal): Promise<void> {
    return send(this.#place, mail, (answer) => answers.push(answer), signal);
  }

  /** Waits until there is nothing more to happen to a mail, but not longer than this. @returns what is then not as it must be */
  async settle(account: Account, within: number): Promise<Finding[]> {
    const { messageId, recipients } = account.mail;
    const deadline = Date.now() + within;
    for (;;) {
      const entries = this.#observer.register(messageId);
      const all = entries.length >= recipients.length && entries.every(({ state }) => state === "opened");
      if (all || Date.now() > deadline) {
        const found = judge([account], await this.#observer.facts(messageId));
        if (found.every(({ final }) => final) || Date.now() > deadline) return found;
      }
      await pause(LOOK_EVERY_MS);
    }
  }

  /** Waits until the system is quiet, or as long as it comes nearer to that, and judges every mail there was. @param still milliseconds in which nothing was settled */
  async settleAll(still: number): Promise<Finding[]> {
    let [fewest, since] = [Number.POSITIVE_INFINITY, Date.now()];
    for (;;) {
      const open = judge(this.#accounts, await this.#observer.facts()).filter(({ final }) => !final).length;
      if (open < fewest) [fewest, since] = [open, Date.now()];
      if (open === 0 || Date.now() - since > still) break;
      await pause(20 * LOOK_EVERY_MS);
    }
    return [...judge(this.#accounts, await this.#observer.facts(undefined, await this.#observer.status())), ...this.plaintext()];
  }

  /** Stands in the text of every mail. */
  get secret(): string {
    return `K${this.#run}n`;
  }

  /** Where the text of any mail of this place stands on a disk outside the mailboxes. */
  plaintext(): Finding[] {
    return this.#observer.filesWith(this.secret).map((file) => ({ kind: "plaintext", what: file }));
  }
}
