/** Hands sealed copies to the next hop (S5): one transaction a recipient, retried with growing pauses, reported to the broker, given up with a notice. */
import { createTransport, type Transporter } from "nodemailer";
import { ticketHash, type BrokerClient } from "../broker/client.ts";
import { haltAt } from "../config/halt.ts";
import { pause } from "../config/lifecycle.ts";
import { reasonOf, type Log } from "../config/log.ts";
import type { GatewayConfig } from "../config/schema.ts";
import { Fault } from "../mime/fault.ts";
import { failureNotice } from "./bounce.ts";
import type { Letters } from "./letters.ts";
import { isPermanent, statusIn } from "./reply.ts";
import type { Consignment, Spool, Spooled } from "./spool.ts";
import type { Submission, SubmittedRecipient } from "./submission.ts";
import { randomBytes } from "node:crypto";

interface NextHop {
  readonly host: string;
  readonly port: number;
  readonly tls: "implicit" | "starttls" | "none";
  readonly ca: string | undefined;
  readonly auth: { readonly user: string; readonly pass: string } | undefined;
  /** How we greet. */
  readonly name: string;
}

export interface RelayParts {
  readonly nextHop: NextHop;
  readonly retry: GatewayConfig["retry"];
  readonly spool: Spool;
  readonly letters: Letters;
  readonly broker: BrokerClient;
  readonly log: Log;
  now(): Date;
}

const CONNECTIONS = 5;

/** What the next hop said to a copy. */
interface Refusal {
  /** The enhanced status code. */
  readonly status: string;
  readonly answer: string;
  readonly message: Buffer;
  readonly sealed: boolean;
}

type NoticeFor = Pick<Spooled["entry"], "sender" | "messageId" | "acceptedAt" | "envelopeId">;

export class Relay {
  readonly #parts: RelayParts;
  readonly #transport: Transporter;
  readonly #signal: AbortSignal;
  readonly #running = new Set<Promise<void>>();

  constructor(parts: RelayParts, signal: AbortSignal) {
    this.#parts = parts;
    this.#signal = signal;
    const { host, port, tls, ca, auth, name } = parts.nextHop;
    this.#transport = createTransport({
      host,
      port,
      name,
      pool: true,
      maxConnections: CONNECTIONS,
      maxMessages: 1_000,
      secure: tls === "implicit",
      requireTLS: tls === "starttls", // never falls back to clear text
      ignoreTLS: tls === "none",
      ...(ca !== undefined && { tls: { ca } }),
      ...(auth && { auth }),
      connectionTimeout: 30_000,
      greetingTimeout: 60_000,
      socketTimeout: 10 * 60_000, // RFC 5321 §4.5.3.2.6: ten minutes for the final dot
      disableFileAccess: true,
      disableUrlAccess: true,
    });
  }

  /** Takes up what a former life left in the spool. */
  async resume(): Promise<void> {
    for (const spooled of await this.#parts.spool.all()) this.take(spooled);
  }

  /** Takes a spooled submission; it is worked on until it is finished or the gateway stops. */
  take(spooled: Spooled): void {
    const work = this.#deliver(spooled)
      .catch((thrown: unknown) => this.#parts.log.error({ event: "relay.failed", letter: spooled.entry.id, reason: reasonOf(thrown) }))
      .finally(() => this.#running.delete(work));
    this.#running.add(work);
  }

  /**
   * Passes a message on unsealed, now: one transaction a recipient, for a clear text is never spooled. Where some of several are refused
   * the sender gets a notice for each of them.
   * @throws Fault where no recipient was taken: `unavailable`, or `forbidden` with the next hop's words where it refuses for good
   */
  async passOn(submission: Submission, recipients: readonly SubmittedRecipient[], message: Buffer, messageId: string): Promise<void> {
    const refusals: { recipient: SubmittedRecipient; cause: unknown }[] = [];
    for (const recipient of recipients) {
      const envelope = { from: submission.sender.address, to: recipient.mailbox.address, use8BitMime: true };
      await this.#transport.sendMail({ envelope, raw: message }).catch((cause: unknown) => refusals.push({ recipient, cause }));
    }
    const [first] = refusals;
    if (first && refusals.length === recipients.length) {
      const { answer, isFinal } = answerIn(first.cause);
      if (!isFinal) throw new Fault("unavailable", "the next hop did not take the message", { cause: first.cause });
      throw new Fault("forbidden", "the next hop refused the message", {
        cause: first.cause,
        advice: `The next mail server refused: ${answer}`,
      });
    }
    this.#parts.log.info({ event: "message.passed-unsealed", recipients: recipients.length - refusals.length });
    const entry = { sender: submission.sender.address, messageId, acceptedAt: this.#parts.now().toISOString() };
    for (const { recipient, cause } of refusals) {
      const { code, answer } = answerIn(cause);
      const { mailbox, notify, originalRecipient } = recipient;
      const failed = { recipient: mailbox.address, notify, ...(originalRecipient !== undefined && { originalRecipient }) };
      await this.#notify(entry, failed, { status: statusIn(answer, code), answer, message, sealed: false });
    }
  }

  /** Waits for the transactions that run. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#running);
    this.#transport.close();
  }

  async #deliver(spooled: Spooled): Promise<void> {
    const { entry, progress } = spooled;
    await Promise.all(entry.consignments.map((consignment, at) => this.#walk(spooled, consignment, at)));
    if (progress.every((one) => one === "reported" || one === "failed")) await this.#parts.spool.remove(entry.id);
  }

  async #walk(spooled: Spooled, consignment: Consignment, at: number): Promise<void> {
    const { retry } = this.#parts;
    for (let wait: number = retry.first; !this.#signal.aborted; wait = Math.min(wait * 2, retry.longest)) {
      if (spooled.progress[at] === "waiting") await this.#relay(spooled, consignment, at);
      if (spooled.progress[at] === "relayed") await this.#report(spooled, consignment, at);
      if (spooled.progress[at] === "reported" || spooled.progress[at] === "failed") return;
      await pause(wait, this.#signal);
    }
  }

  async #advance(spooled: Spooled, at: number, to: Spooled["progress"][number]): Promise<void> {
    spooled.progress[at] = to;
    const finished = spooled.progress.every((one) => one === "reported" || one === "failed");
    if (!finished) await this.#parts.spool.keep(spooled);
  }

  async #relay(spooled: Spooled, consignment: Consignment, at: number): Promise<void> {
    const { entry } = spooled;
    const { spool, log, now } = this.#parts;
    const message = await spool.message(entry.id, consignment);
    try {
      await this.#transport.sendMail({ envelope: envelopeOf(spooled, consignment), raw: message });
    } catch (thrown) {
      const { code, answer, isFinal } = answerIn(thrown);
      const tooOld = now().getTime() - Date.parse(entry.acceptedAt) > this.#parts.retry.giveUpAfter;
      log.warn({ event: "relay.refused", letter: entry.id, code, final: isFinal || tooOld, reason: reasonOf(thrown) });
      if (isFinal || tooOld)
        await this.#giveUp(spooled, consignment, at, { status: statusIn(answer, code), answer, message, sealed: true });
      return;
    }
    haltAt("a8");
    log.info({ event: "letter.relayed", step: "S5", letter: entry.id });
    await this.#advance(spooled, at, "relayed");
    haltAt("a9");
    await this.#changeLetter(spooled, consignment, { state: "handed-over" });
  }

  async #report(spooled: Spooled, { ticket }: Consignment, at: number): Promise<void> {
    try {
      if (ticket !== undefined) await this.#parts.broker.dispatched([Buffer.from(ticket, "base64")], this.#signal);
    } catch (thrown) {
      if (Fault.from(thrown).retry === "later") return; // the recipient's presentation implies it meanwhile
      this.#parts.log.warn({ event: "relay.report-refused", letter: spooled.entry.id, reason: reasonOf(thrown) });
    }
    haltAt("a10");
    await this.#advance(spooled, at, "reported");
  }

  async #giveUp(spooled: Spooled, consignment: Consignment, at: number, failure: Refusal): Promise<void> {
    const { entry } = spooled;
    const { broker } = this.#parts;
    if (consignment.ticket !== undefined) {
      try {
        await broker.withdraw([Buffer.from(consignment.ticket, "base64")], this.#signal);
      } catch (thrown) {
        if (Fault.from(thrown).retry === "later") return; // both or neither: tried again with the next attempt
      }
    }
    await this.#notify(entry, consignment, failure);
    await this.#changeLetter(spooled, consignment, { state: "failed", reason: failure.answer.slice(0, 400) });
    await this.#advance(spooled, at, "failed");
  }

  /** Tells the sender, unless DSN parameters say otherwise; a notice is never answered by a notice. */
  async #notify(
    entry: NoticeFor,
    consignment: Pick<Consignment, "recipient" | "notify" | "originalRecipient">,
    failure: Refusal,
  ): Promise<void> {
    const { spool, now, nextHop } = this.#parts;
    const silent = consignment.notify.length > 0 && !consignment.notify.includes("FAILURE"); // RFC 3461 §4.1
    if (entry.sender !== "" && !silent) {
      const id = randomBytes(12).toString("hex");
      const notice = failureNotice({
        ...failure,
        host: nextHop.name,
        sender: entry.sender,
        recipient: consignment.recipient,
        originalRecipient: consignment.originalRecipient,
        envelopeId: entry.envelopeId,
        messageId: entry.messageId,
        acceptedAt: new Date(entry.acceptedAt),
        now: now(),
        id,
      });
      const own = { id, sender: "", messageId: entry.messageId, acceptedAt: now().toISOString() };
      this.take(await spool.put(own, [{ recipient: entry.sender, notify: [], message: notice }]));
    }
  }

  async #changeLetter(
    { entry }: Spooled,
    { ticket }: Consignment,
    change: { state: "handed-over" | "failed"; reason?: string },
  ): Promise<void> {
    if (ticket === undefined) return;
    const session = ticketHash(Buffer.from(ticket, "base64"));
    await this.#parts.letters.change(entry.messageId, session, { ...change, at: this.#parts.now().toISOString() });
  }
}

function envelopeOf({ entry }: Spooled, consignment: Consignment) {
  const dsn = {
    ...(entry.envelopeId !== undefined && { id: entry.envelopeId }),
    ...(entry.returns !== undefined && { return: entry.returns === "FULL" ? ("full" as const) : ("headers" as const) }),
    ...(consignment.notify.length > 0 && { notify: consignment.notify.map((word) => word.toLowerCase()) }),
    ...(consignment.originalRecipient !== undefined && { recipient: consignment.originalRecipient }),
  };
  return { from: entry.sender, to: consignment.recipient, ...(Object.keys(dsn).length > 0 && { dsn }) };
}

/** RFC 4954 §6: ours to mend, not the letter's fault. */
const AUTHENTICATION_WANTED = 530;

/** What the next hop said, where it said something. Only what it says to the envelope or the message is final for a letter: not a refused password. */
function answerIn(thrown: unknown): { code: number | undefined; answer: string; isFinal: boolean } {
  const field = (name: string): unknown => (typeof thrown === "object" && thrown !== null ? Reflect.get(thrown, name) : undefined);
  const [code, response, kind] = [field("responseCode"), field("response"), field("code")];
  const number = typeof code === "number" ? code : undefined;
  return {
    code: number,
    answer: typeof response === "string" ? response : Fault.from(thrown).message,
    isFinal: isPermanent(number) && number !== AUTHENTICATION_WANTED && (kind === "EENVELOPE" || kind === "EMESSAGE"),
  };
}
