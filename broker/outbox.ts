/** S11, T1, T2: mails receipts and reports, durably and recognisably: signed once, kept before they are sent, the same bytes at every attempt. */
import { randomBytes } from "node:crypto";
import { createTransport, type Transporter } from "nodemailer";
import { haltAt } from "../config/halt.ts";
import { reasonOf, type Log } from "../config/log.ts";
import { pause } from "../config/lifecycle.ts";
import { Slots } from "../config/slots.ts";
import type { Milliseconds } from "../config/units.ts";
import { parseMailbox } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import type { Broker } from "./broker.ts";
import { demandTrue, reportMail, subjectOf } from "./report.ts";
import { namesOf } from "./session.ts";
import type { OutboxEntry } from "./table.ts";

/** Hands one mail over. @throws whatever the next hop says */
export interface ReceiptMailer {
  send(recipient: string, mail: Buffer): Promise<void>;
  /** Greets the next hop, with TLS and AUTH as configured, and sends nothing. @throws whatever it says */
  greet?(): Promise<void>;
  close(): void;
}

/** A mailer over SMTP. Receipts have the empty reverse-path, so that no failure is ever answered (RFC 5321 §4.5.5). */
export function smtpMailer(options: {
  host: string;
  port: number;
  tls: "implicit" | "starttls" | "none";
  ca: string | undefined;
  auth: { user: string; pass: string } | undefined;
}): ReceiptMailer {
  const transport: Transporter = createTransport({
    host: options.host,
    port: options.port,
    pool: true,
    secure: options.tls === "implicit",
    requireTLS: options.tls === "starttls",
    ignoreTLS: options.tls === "none",
    tls: { rejectUnauthorized: true, ...(options.ca !== undefined && { ca: options.ca }) }, // whatever NODE_TLS_REJECT_UNAUTHORIZED says
    ...(options.auth && { auth: options.auth }),
    connectionTimeout: 30_000,
    greetingTimeout: 30_000,
    socketTimeout: 120_000,
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  return {
    async send(recipient, mail) {
      await transport.sendMail({ envelope: { from: "", to: parseMailbox(recipient).address }, raw: mail });
    },
    async greet() {
      await transport.verify();
    },
    close: () => transport.close(),
  };
}

/** Whether the next hop refuses this receipt for good; what it says to our password (also 530, which wants one) is ours to mend. */
function isFinal(thrown: unknown): boolean {
  const field = (name: string): unknown => (typeof thrown === "object" && thrown !== null ? Reflect.get(thrown, name) : undefined);
  const [code, kind] = [field("responseCode"), field("code")];
  return typeof code === "number" && code >= 500 && code !== 530 && (kind === "EENVELOPE" || kind === "EMESSAGE");
}

/** Longer than a transaction with the next hop takes: of several brokers on one table, one mails a receipt. */
const CLAIM_MS = 2 * 60_000;

export interface OutboxTimes {
  readonly retryFirst: Milliseconds;
  readonly retryLongest: Milliseconds;
}

/** What this broker knows of an entry that is not done. */
interface Attempt {
  readonly entry: OutboxEntry;
  readonly count: number;
  /** By a clock that nobody sets; infinite while it is under way. */
  readonly notBefore: number;
  /** When this process first knew of it, by the same clock. */
  readonly since: number;
  readonly reason?: string;
}

/** As many as the mailer has connections. */
const AT_ONCE = 5;

/** The worker. `wake` tells it of an entry; it looks into the table at its start and again after `retryLongest`, for entries of a former life. */
export class Outbox {
  readonly #broker: Broker;
  readonly #mailer: ReceiptMailer;
  readonly #times: OutboxTimes;
  readonly #attempts = new Map<string, Attempt>();
  readonly #slots = new Slots(AT_ONCE);
  readonly #holder: string;
  #news = new AbortController();
  /** When entries that nobody told of are looked for, by a clock that nobody sets. */
  #nextLook = 0;

  /** @param times may change. @param holder names this broker among those on one table */
  constructor(broker: Broker, mailer: ReceiptMailer, times: OutboxTimes, holder = randomBytes(16).toString("hex")) {
    this.#broker = broker;
    this.#mailer = mailer;
    this.#times = times;
    this.#holder = holder;
  }

  /** What waits, as far as this process knows, and what the mail server said to the oldest. */
  get waiting(): { readonly receipts: number; readonly oldestMs: number; readonly reason: string | undefined } {
    const [oldest] = [...this.#attempts.values()].sort((a, b) => a.since - b.since);
    const oldestMs = oldest ? performance.now() - oldest.since : 0;
    return { receipts: this.#attempts.size, oldestMs, reason: oldest?.reason };
  }

  /** Without an entry it only looks anew for what is due. */
  wake(entry?: OutboxEntry): void {
    if (entry && !this.#attempts.has(entry.evidence))
      this.#attempts.set(entry.evidence, { entry, count: 0, notBefore: 0, since: performance.now() });
    this.#news.abort();
  }

  /** Looks for entries that nobody told of: whoever was to tell has died. */
  lookAgain(): void {
    this.#nextLook = 0;
    this.#news.abort();
  }

  /** Runs until the signal aborts and what is under way has ended. */
  async run(signal: AbortSignal): Promise<void> {
    const underWay = new Set<Promise<void>>();
    while (!signal.aborted) {
      this.#news = new AbortController();
      if (performance.now() >= this.#nextLook) {
        this.#nextLook = Number.POSITIVE_INFINITY; // whoever asks for another look meanwhile gets one
        const after = await this.#look();
        this.#nextLook = Math.min(this.#nextLook, performance.now() + after);
      }
      for (const attempt of this.#attempts.values()) {
        const { entry, count, notBefore } = attempt;
        if (notBefore > performance.now()) continue;
        this.#attempts.set(entry.evidence, { ...attempt, notBefore: Number.POSITIVE_INFINITY });
        const delivery: Promise<void> = this.#slots
          .run(() => (signal.aborted ? Promise.resolve() : this.#deliver(entry, count)))
          .finally(() => underWay.delete(delivery));
        underWay.add(delivery);
      }
      let next = this.#nextLook;
      for (const { notBefore } of this.#attempts.values()) next = Math.min(next, notBefore);
      await pause(Math.max(next - performance.now(), 10), signal, this.#news.signal);
    }
    await Promise.all(underWay);
  }

  /** Looks for entries that nobody told of. @returns after how many milliseconds to look again */
  async #look(): Promise<number> {
    const { table, log } = this.#broker;
    try {
      for (const entry of await table.pending()) this.wake(entry);
      return this.#times.retryLongest;
    } catch (thrown) {
      log.warn({ event: "outbox.waits", reason: reasonOf(thrown) });
      return this.#times.retryFirst;
    }
  }

  async #deliver(entry: OutboxEntry, count: number): Promise<void> {
    const { table } = this.#broker;
    let log = this.#broker.log.with({ evidence: entry.evidence });
    try {
      const at = this.#broker.now().getTime();
      if (!(await table.claim(entry, { holder: this.#holder, until: at + CLAIM_MS }, at))) {
        this.#attempts.delete(entry.evidence); // another broker is at it, or was
        return;
      }
      const row = await table.find(entry.session);
      if (row) log = log.with(namesOf(row));
      const kept = await table.receipt(entry);
      const subject = row && subjectOf(row, entry.evidence);
      if (!row || (subject === "over" && !kept)) {
        await table.done(entry);
        this.#attempts.delete(entry.evidence);
        log.info({ event: "receipt.over" }); // what was delayed is not any more
        return;
      }
      if (subject === undefined) throw new Fault("internal", "an outbox entry without its row");
      if (subject !== "over") demandTrue(this.#broker.masterKey, subject);
      haltAt("k4");
      const built = async (): Promise<Buffer> => {
        if (subject === "over") throw new Fault("internal", "a notice that is over is not written");
        const mail = reportMail(this.#broker, subject, await table.auditHead(entry.session));
        haltAt("k5");
        return table.keepReceipt(entry, mail);
      };
      const mail = kept ?? (await built());
      haltAt("k6");
      await this.#mailer.send(row.sender, mail);
      haltAt("k8");
      await table.done(entry);
      this.#attempts.delete(entry.evidence);
      log.info({ event: "receipt.sent", step: "S11" });
    } catch (thrown) {
      await this.#failed(entry, count + 1, thrown, log);
    }
  }

  async #failed(entry: OutboxEntry, count: number, thrown: unknown, log: Log): Promise<void> {
    const { table } = this.#broker;
    const wait = Math.min(this.#times.retryFirst * 2 ** (count - 1), this.#times.retryLongest);
    const since = this.#attempts.get(entry.evidence)?.since ?? performance.now();
    this.#attempts.set(entry.evidence, { entry, count, notBefore: performance.now() + wait, since, reason: reasonOf(thrown) });
    this.wake();
    if (!isFinal(thrown)) {
      log.warn({ event: "receipt.waits", attempt: count, reason: reasonOf(thrown) });
      return;
    }
    log.error({ event: "receipt.refused", reason: reasonOf(thrown) });
    try {
      await table.done(entry); // refused for good; its bytes stay in the table for the retention time
      this.#attempts.delete(entry.evidence);
    } catch (cause) {
      log.warn({ event: "receipt.waits", attempt: count, reason: reasonOf(cause) });
    }
  }
}
