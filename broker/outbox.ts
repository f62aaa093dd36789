/** S11: mails receipts, durably and recognisably: signed once, kept before they are sent, the same bytes at every attempt. */
import { createHash, randomBytes } from "node:crypto";
import { createTransport, type Transporter } from "nodemailer";
import { haltAt } from "../config/halt.ts";
import { reasonOf } from "../config/log.ts";
import { pause } from "../config/lifecycle.ts";
import type { Milliseconds } from "../config/units.ts";
import { parseMailbox } from "../mime/address.ts";
import { evidenceId } from "../mime/evidence.ts";
import { Fault } from "../mime/fault.ts";
import { buildReceipt } from "../mime/report.ts";
import type { Broker } from "./broker.ts";
import { proofOf, termsOf, type Confirmed } from "./session.ts";
import type { OutboxEntry } from "./table.ts";

/** Hands one mail over. @throws whatever the next hop says */
export interface ReceiptMailer {
  send(recipient: string, mail: Buffer): Promise<void>;
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
  /** Names this broker among those on one table; a random name where left out. */
  readonly holder?: string;
}

/** The worker. `wake` tells it that an entry came; by itself it looks again after `retryLongest`, for entries of a former life. */
export class Outbox {
  readonly #broker: Broker;
  readonly #mailer: ReceiptMailer;
  readonly #times: OutboxTimes;
  readonly #attempts = new Map<string, { count: number; /** By a clock that nobody sets. */ notBefore: number }>();
  readonly #holder: string;
  #wake: () => void = () => undefined;

  constructor(broker: Broker, mailer: ReceiptMailer, times: OutboxTimes) {
    this.#broker = broker;
    this.#mailer = mailer;
    this.#times = times;
    this.#holder = times.holder ?? randomBytes(16).toString("hex");
  }

  wake(): void {
    this.#wake();
  }

  /** Runs until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const woken = new AbortController();
      this.#wake = () => woken.abort();
      await this.#pass(signal).catch((thrown: unknown) => this.#broker.log.warn({ event: "outbox.waits", reason: reasonOf(thrown) }));
      const next = Math.min(
        ...[...this.#attempts.values()].map(({ notBefore }) => notBefore),
        performance.now() + this.#times.retryLongest,
      );
      await pause(Math.max(next - performance.now(), 10), AbortSignal.any([signal, woken.signal]));
    }
  }

  async #pass(signal: AbortSignal): Promise<void> {
    const entries = await this.#broker.table.pending();
    for (const entry of entries) {
      if (signal.aborted) return;
      if ((this.#attempts.get(entry.evidence)?.notBefore ?? 0) <= performance.now()) await this.#deliver(entry);
    }
  }

  async #deliver(entry: OutboxEntry): Promise<void> {
    const { table, log } = this.#broker;
    try {
      const at = this.#broker.now().getTime();
      if (!(await table.claim(entry, { holder: this.#holder, until: at + CLAIM_MS }, at))) return; // another broker is at it, or was
      const row = await table.find(entry.session);
      if (row?.state !== "confirmed") throw new Fault("internal", "an outbox entry without its confirmed row");
      haltAt("k4");
      const mail = (await table.receipt(entry)) ?? (await table.keepReceipt(entry, this.#build(row)));
      haltAt("k6");
      await this.#mailer.send(row.sender, mail);
      haltAt("k8");
      await table.done(entry);
      this.#attempts.delete(entry.evidence);
      log.info({ event: "receipt.sent", step: "S11", session: row.ticketHash.slice(0, 12), evidence: entry.evidence });
    } catch (thrown) {
      await this.#failed(entry, thrown);
    }
  }

  async #failed(entry: OutboxEntry, thrown: unknown): Promise<void> {
    const { table, log } = this.#broker;
    if (isFinal(thrown)) {
      log.error({ event: "receipt.refused", evidence: entry.evidence, reason: reasonOf(thrown) });
      this.#attempts.delete(entry.evidence);
      await table.done(entry); // refused for good; its bytes stay in the table for the retention time
      return;
    }
    const count = (this.#attempts.get(entry.evidence)?.count ?? 0) + 1;
    const wait = Math.min(this.#times.retryFirst * 2 ** (count - 1), this.#times.retryLongest);
    this.#attempts.set(entry.evidence, { count, notBefore: performance.now() + wait });
    log.warn({ event: "receipt.waits", evidence: entry.evidence, attempt: count, reason: reasonOf(thrown) });
  }

  #build(row: Confirmed): Buffer {
    const { signer, url, receiptsFrom } = this.#broker;
    const time = this.#broker.now();
    const iso = (milliseconds: number): string => new Date(milliseconds).toISOString();
    const { hold, signing, contentId } = termsOf(row);
    const { receipt, openingValue } = proofOf(row);
    const recipientReceipt = Buffer.from(receipt, "base64");
    const session = row.ticketHash;
    const statement = {
      version: 1 as const,
      broker: url,
      sender: row.sender,
      recipient: row.recipient,
      messageId: row.messageId,
      hold,
      signing,
      commit: row.commit,
      contentId,
      session,
      declaredAt: iso(row.declaredAt),
      releasedAt: iso(row.releasedAt),
    };
    const released = {
      ...statement,
      event: "ContentAccessTracking" as const,
      evidence: evidenceId("ContentAccessTracking", session),
      previous: evidenceId("SubmissionAcceptance", session),
    };
    const evidence = {
      ...statement,
      event: "ContentHandover" as const,
      evidence: row.evidence,
      previous: released.evidence,
      confirmedAt: iso(row.confirmedAt),
      recipientCertificate: row.certificate,
      recipientReceipt: createHash("sha256").update(recipientReceipt).digest("hex"),
      openingValue,
    };
    const mail = buildReceipt(
      { evidence, released, recipientReceipt, from: receiptsFrom.address, host: receiptsFrom.domain, time },
      signer,
    );
    haltAt("k5");
    return mail;
  }
}
