/** The session table in one file on this machine (SQLite): one transaction for each step of a row, its audit and its outbox entry. */
import { setImmediate as yieldToOthers } from "node:timers/promises";
import { Fault } from "../mime/fault.ts";
import { termsOf, firstLook, type Confirmed, type NewRow, type Released, type Session, type SessionHash, type Waiting } from "./session.ts";
import { EmbeddedFile } from "./table-embedded-file.ts";
import { EmbeddedOutbox } from "./table-embedded-outbox.ts";
import { restoreInto, storedIn } from "./table-embedded-copy.ts";
import type { Stored } from "./table-copy.ts";
import { BROKEN_AGAIN_MS, checkedHash, confirmedOf, releasedOf, sessionOf, waitingOf } from "./table-row.ts";
import type { Claim, ConfirmOrder, Outcome, Outcomes, RecallOrder, ReleaseOrder, Table, TableOptions } from "./table.ts";

/** @throws Fault `unavailable`: the file cannot be opened, or another version of Kakitome wrote it. */
export async function openEmbeddedTable(path: string, options: TableOptions): Promise<Table> {
  return new EmbeddedTable(new EmbeddedFile(path), options);
}

/** How many due rows the sweep settles in one transaction. */
const BATCH = 100;

const INSERT = `INSERT INTO session (session, state, gateway, sender, recipient, messageId, "commit", ticketHash, terms, declaredAt, expiresAt,
  vanishAt, wrappedKey, ticket, declaredMac, due) VALUES (?, 'declared', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`;

/** What a row loses when its key goes. */
const KEYLESS = "wrappedKey = NULL, ticket = NULL, nextTicket = NULL, holder = NULL, claimedUntil = NULL, releases = NULL";

class EmbeddedTable extends EmbeddedOutbox implements Table {
  async declare(rows: readonly NewRow[], vanishAt: number): Promise<Waiting[]> {
    return this.step(() => rows.map((row) => this.#declare(row, vanishAt)));
  }

  async dispatched(sessions: readonly SessionHash[], gateway: string, at: number): Promise<SessionHash[]> {
    return this.step(() =>
      sessions.filter((session) => {
        const row = this.#session(session);
        if (row?.gateway !== gateway || "endedAt" in row) return true;
        if (row.state !== "declared") return false;
        this.file.run("UPDATE session SET state = 'dispatched', due = ? WHERE session = ?", firstLook(row), session);
        this.audit("dispatched", session, at, gateway);
        return false;
      }),
    );
  }

  async withdraw(session: SessionHash, gateway: string, at: number): Promise<boolean> {
    return this.step(() => {
      const row = this.#session(session);
      if (row?.gateway !== gateway) return false;
      if (row.state !== "declared" && row.state !== "dispatched") return row.state === "withdrawn";
      const end = `UPDATE session SET state = 'withdrawn', ${KEYLESS}, endedAt = ?, due = ? WHERE session = ?`;
      this.file.run(end, at, this.forgetAt(at), session);
      this.audit("withdrawn", session, at, gateway);
      return true;
    });
  }

  async release(order: ReleaseOrder): Promise<Released | "claimed" | "recalled" | undefined> {
    const { session, mailboxes, at, filing, claim, mac } = order;
    return this.step(() => {
      const row = this.#session(session);
      if (row && mailboxes.includes(row.recipient) && at < row.expiresAt) {
        if (row.state === "released") return this.#releaseAgain(session, claim, at);
        if (row.state === "declared" || row.state === "dispatched") {
          const isSame = termsOf(row).confirm === "same-session";
          const next = isSame ? { session, ticket: order.ticket } : order.next;
          const give = `UPDATE session SET state = 'released', releasedAt = ?, nextSession = ?, nextTicket = ?, filing = ?, holder = ?,
            claimedUntil = ?, releases = 1, releasedMac = ?, due = ? WHERE session = ?`;
          const given = [checkedHash(next.session), next.ticket, filing, claim.holder, claim.until, mac, firstLook(row)];
          this.file.run(give, at, ...given, session);
          this.audit("released", session, at, row.recipient);
          return releasedOf(this.row(session) ?? {});
        }
      }
      this.audit("release refused", session, at, mailboxes[0]);
      return row?.state === "recalled" && mailboxes.includes(row.recipient) ? "recalled" : undefined;
    });
  }

  async recall({ session, mailboxes, at, evidence, mac }: RecallOrder): Promise<Session | undefined> {
    return this.step(() => {
      const row = this.#sent(session, mailboxes);
      if (!row) this.audit("recall refused", session, at, mailboxes[0]);
      if (row?.state !== "declared" && row?.state !== "dispatched") return row;
      this.#finish(session, "recalled", at, evidence, mac);
      this.audit("recalled", session, at, row.sender);
      return this.#session(session);
    });
  }

  async sent(session: SessionHash, mailboxes: readonly string[]): Promise<Session | undefined> {
    return this.#sent(session, mailboxes);
  }

  #sent(session: SessionHash, mailboxes: readonly string[]): Session | undefined {
    const row = this.#session(session);
    return row && mailboxes.includes(row.sender) ? row : undefined;
  }

  /** The end of a letter that was not opened. Not due before its report is mailed: until then it must not be forgotten. */
  #finish(session: SessionHash, state: "expired" | "recalled", at: number, evidence: string, mac: string): void {
    const end = `UPDATE session SET state = ?, ${KEYLESS}, nextSession = NULL, endedAt = ?, evidence = ?, endedMac = ?, due = NULL
      WHERE session = ?`;
    this.file.run(end, state, at, evidence, mac, session);
    this.#queue(evidence, session);
  }

  #queue(evidence: string, session: SessionHash): void {
    this.file.run("INSERT INTO outbox (evidence, session) VALUES (?, ?)", evidence, session);
  }

  #releaseAgain(session: SessionHash, { holder, until }: Claim, at: number): Released | "claimed" {
    const again = `UPDATE session SET holder = ?, claimedUntil = ?, releases = releases + 1
      WHERE session = ? AND (holder = ? OR claimedUntil <= ?)`;
    if (this.file.run(again, holder, until, session, holder, at) === 0) return "claimed";
    return releasedOf(this.row(session) ?? {});
  }

  async givenOut(session: SessionHash, mailboxes: readonly string[]): Promise<Released | Confirmed | undefined> {
    const row = this.#session(session);
    const isOpen = row?.state === "released" || row?.state === "confirmed";
    return isOpen && mailboxes.includes(row.recipient) ? row : undefined;
  }

  async confirm(order: ConfirmOrder): Promise<Confirmed | undefined> {
    const { session, nextSession, recipient, at, evidence, certificate, proof, mac } = order;
    return this.step(() => {
      const row = this.#session(session);
      if (row?.recipient !== recipient || !("nextSession" in row) || row.nextSession !== nextSession) {
        this.audit("confirm refused", session, at, recipient);
        return undefined;
      }
      if (row.state === "confirmed") return row;
      const isMailed = termsOf(row).receipt !== false;
      // Not due before its receipt is mailed: until then it must not be forgotten.
      const end = `UPDATE session SET state = 'confirmed', ${KEYLESS}, filing = NULL, releasedMac = NULL, confirmedAt = ?, evidence = ?,
        certificate = ?, proof = ?, confirmedMac = ?, due = ? WHERE session = ?`;
      this.file.run(end, at, evidence, certificate, proof, mac, isMailed ? null : this.forgetAt(at), session);
      this.audit("confirmed", session, at, recipient);
      if (isMailed) this.#queue(evidence, session);
      return confirmedOf(this.row(session) ?? {});
    });
  }

  async find(session: SessionHash): Promise<Session | undefined> {
    return this.#session(session);
  }

  async daysInUse(): Promise<ReadonlySet<number>> {
    const rows = this.file.rows("SELECT DISTINCT declaredAt / 86400000 AS day FROM session WHERE wrappedKey IS NOT NULL");
    return new Set(rows.map(({ day }) => Number(day)));
  }

  async compact(): Promise<void> {
    this.file.scrub();
  }

  async sweep(at: number, outcomes: Outcomes): Promise<number> {
    let changed = 0;
    let failure: unknown;
    for (;;) {
      const rows = this.file.rows("SELECT session FROM session WHERE due <= ? ORDER BY due LIMIT ?", at, BATCH);
      const due = rows.map(({ session }) => String(session));
      try {
        changed += this.step(() => due.filter((session) => this.#settle(session, at, outcomes)).length);
      } catch (thrown) {
        if (Fault.from(thrown).code !== "internal") throw thrown;
        failure = thrown;
        changed += this.#settleEach(due, at, outcomes);
      }
      if (due.length < BATCH) break;
      await yieldToOthers();
    }
    this.clearInvites(at);
    this.file.scrub();
    if (failure !== undefined) throw failure;
    return changed;
  }

  /** One by one: a row that somebody has edited holds up itself only, and is looked at again later. @returns how many changed */
  #settleEach(due: readonly SessionHash[], at: number, outcomes: Outcomes): number {
    return due.filter((session) => {
      try {
        return this.step(() => this.#settle(session, at, outcomes));
      } catch (thrown) {
        if (Fault.from(thrown).code !== "internal") throw thrown;
        this.step(() => this.file.run("UPDATE session SET due = ? WHERE session = ?", at + BROKEN_AGAIN_MS, session));
        return false;
      }
    }).length;
  }

  #declare(row: NewRow, vanishAt: number): Waiting {
    const { gateway, sender, recipient, messageId, commit, ticketHash, terms, declaredAt, expiresAt, wrappedKey, ticket, declaredMac } =
      row;
    const session = checkedHash(row.session);
    const known = this.row(session);
    if (known === undefined) {
      const due = Math.min(vanishAt, expiresAt);
      const declaration = [session, gateway, sender, recipient, messageId, commit, ticketHash, terms, declaredAt, expiresAt];
      this.file.run(INSERT, ...declaration, vanishAt, wrappedKey, ticket, declaredMac, due);
      this.audit("declared", session, declaredAt, gateway);
      return waitingOf(this.row(session) ?? {});
    }
    const waits = known["state"] === "declared" || known["state"] === "dispatched";
    const agreed = { gateway, sender, recipient, messageId, commit, terms };
    if (waits && Object.entries(agreed).every(([name, value]) => known[name] === value)) return waitingOf(known);
    throw new Fault("forbidden", "another declaration has the name of this session");
  }

  /** What the sweep's time makes of a row. @returns whether it changed; if not, it is due later */
  #settle(session: SessionHash, at: number, outcomes: Outcomes): boolean {
    const row = this.row(session);
    const known = sessionOf(row ?? {});
    if (known.state === "confirmed") return this.#forgetIfDue(session, known.confirmedAt, at);
    if ("endedAt" in known) return this.#forgetIfDue(session, known.endedAt, at);
    if (known.state === "declared" && Number(row?.["vanishAt"]) <= at) return this.#forget(session, at, "vanished");
    const outcome = outcomes(known);
    if (known.expiresAt <= at) {
      const { expired, expiredMac, expiredReleasedMac } = outcome;
      this.#finish(session, "expired", at, expired, known.state === "released" ? expiredReleasedMac : expiredMac);
      this.audit("expired", session, at, "broker");
      return true;
    }
    return this.#warn(known, at, outcome);
  }

  /** T1, once. */
  #warn({ session, expiresAt }: Waiting | Released, at: number, { delayed, delayedMac }: Outcome): true {
    const warn = "UPDATE session SET delayedAt = ?, delayedEvidence = ?, delayedMac = ?, due = ? WHERE session = ?";
    this.file.run(warn, at, delayed, delayedMac, expiresAt, session);
    this.#queue(delayed, session);
    this.audit("delayed", session, at, "broker");
    return true;
  }

  /** The retention may have been made longer since the row ended. */
  #forgetIfDue(session: SessionHash, endedAt: number, at: number): boolean {
    const due = this.forgetAt(endedAt);
    if (due <= at) return this.#forget(session, at, "forgotten");
    this.file.run("UPDATE session SET due = ? WHERE session = ?", due, session);
    return false;
  }

  #forget(session: SessionHash, at: number, event: "vanished" | "forgotten"): true {
    this.file.run("DELETE FROM session WHERE session = ?", session);
    this.file.run("DELETE FROM receipt WHERE session = ?", session);
    this.audit(event, session, at, "broker");
    return true;
  }

  #session(session: SessionHash): Session | undefined {
    const row = this.row(session);
    return row && sessionOf(row);
  }

  async *stored(): AsyncGenerator<Stored> {
    yield* storedIn(this.file);
  }

  async restore(stored: Stored): Promise<void> {
    if (stored.kind === "registry") this.putText(stored.of, stored.name, stored.record);
    else if (stored.kind === "audit") this.step(() => this.audit(stored.event, stored.session, stored.at, stored.who));
    else if (stored.kind !== "head") restoreInto(this.file, stored, this.retention);
  }
}
