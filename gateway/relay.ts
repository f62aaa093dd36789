/** Hands sealed copies to the next hop (S5): one transaction a recipient, retried with growing pauses, reported to the broker, given up with a notice. */
import { randomBytes } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Transporter } from "nodemailer";
import type { BrokerClient } from "../broker/client.ts";
import { haltAt } from "../config/halt.ts";
import { pause } from "../config/lifecycle.ts";
import { letterOf, reasonOf, type Log } from "../config/log.ts";
import type { GatewayConfig } from "../config/schema.ts";
import { Slots } from "../config/slots.ts";
import { Fault } from "../mime/fault.ts";
import { Announcer } from "./announcer.ts";
import { DAMAGED, LOST, failureNotice, noticeId, type Refusal } from "./bounce.ts";
import type { Letters } from "./letters.ts";
import { answerIn, connectTo, CONNECTIONS, envelopeOf, handOver, type EnvelopeOf, type NextHop } from "./next-hop.ts";
import { isFinished, sessionOf, type Consignment, type Entry, type Progress, type Spool, type Spooled } from "./spool.ts";
import type { SubmittedRecipient } from "./submission.ts";
import type { Language } from "./words.ts";

export interface RelayParts {
  readonly nextHop: NextHop;
  readonly retry: GatewayConfig["retry"];
  readonly spool: Spool;
  readonly letters: Letters;
  readonly broker: BrokerClient;
  /** Whether an entry that a former life left is this process's; all are where it is left out. */
  isOurs?(entry: Entry): boolean;
  /** Of the notices about a recipient. */
  languageFor(recipient: string): Language;
  readonly log: Log;
  now(): Date;
}

/** Copies whose bytes are in memory at once. */
const IN_MEMORY = 2 * CONNECTIONS;

/** A letter that is not older has a row at the broker: it was declared just now. */
const FRESH_MS = 60_000;

type NoticeFor = Pick<Spooled["entry"], "sender" | "messageId" | "acceptedAt" | "envelopeId">;

export class Relay {
  readonly #parts: RelayParts;
  readonly #transport: Transporter;
  readonly #signal: AbortSignal;
  readonly #running = new Set<Promise<void>>();
  readonly #taken = new Set<Spooled>();
  readonly #slots = new Slots(IN_MEMORY);
  readonly #announcer: Announcer;

  constructor(parts: RelayParts, signal: AbortSignal) {
    this.#parts = parts;
    this.#signal = signal;
    this.#transport = connectTo(parts.nextHop);
    this.#announcer = new Announcer(parts.broker, signal);
  }

  /** Takes up what a former life left in the spool. */
  async resume(): Promise<void> {
    const { spool, isOurs = () => true, log } = this.#parts;
    const all = await spool.all((id, thrown) => log.error({ event: "spool.broken", accepted: id, reason: reasonOf(thrown) }));
    const left = all.filter(({ entry }) => isOurs(entry));
    for (const spooled of left) this.take(spooled);
    if (left.length > 0) log.info({ event: "spool.resumed", letters: left.length });
  }

  /** Takes a spooled submission; it is worked on until it is finished or the gateway stops. Its client's answer comes first. */
  take(spooled: Spooled): void {
    this.#taken.add(spooled);
    const work = nextTurn()
      .then(() => this.#deliver(spooled))
      .finally(() => {
        this.#taken.delete(spooled);
        this.#running.delete(work);
      });
    this.#running.add(work);
  }

  /** Keeps copies of recalled letters here that have not left yet. @returns their sessions */
  async holdBack(sessions: ReadonlySet<string>): Promise<ReadonlySet<string>> {
    const kept = new Set<string>();
    for (const spooled of this.#taken) {
      for (const [at, consignment] of spooled.entry.consignments.entries()) {
        const session = sessionOf(consignment) ?? "";
        if (!sessions.has(session) || spooled.progress[at]?.stage !== "waiting" || spooled.sending.has(at)) continue;
        spooled.progress[at] = { stage: "failed" };
        await this.#parts.spool.keep(spooled); // the entry may wait a while for its end
        kept.add(session);
      }
    }
    return kept;
  }

  /**
   * Passes a message on unsealed, now: one transaction a recipient, for a clear text is never spooled. Where some of several are refused
   * the sender gets a notice for each of them.
   * @throws Fault where no recipient was taken: `unavailable`, or `forbidden` with the next hop's words where it refuses for good;
   * `storage-full`, before it is tried, where such a notice could not be written
   */
  async passOn(mail: EnvelopeOf, recipients: readonly SubmittedRecipient[], message: Buffer, messageId: string): Promise<void> {
    const { log, spool, now } = this.#parts;
    if (recipients.length > 1) await spool.probe();
    const refusals: { recipient: SubmittedRecipient; cause: unknown }[] = [];
    for (const recipient of recipients) {
      const envelope = { ...envelopeOf(mail, { ...recipient, recipient: recipient.mailbox.address }), use8BitMime: true };
      await handOver(this.#transport, envelope, message).catch((cause: unknown) => refusals.push({ recipient, cause }));
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
    const letter = letterOf(messageId);
    log.info({ event: "message.passed-unsealed", letter, recipients: recipients.length - refusals.length });
    const { sender, envelopeId } = mail;
    const entry = { sender, messageId, acceptedAt: now().toISOString(), ...(envelopeId !== undefined && { envelopeId }) };
    for (const { recipient, cause } of refusals) {
      const { status, answer } = answerIn(cause);
      const { mailbox, notify, originalRecipient } = recipient;
      const failed = { recipient: mailbox.address, notify, ...(originalRecipient !== undefined && { originalRecipient }) };
      const refusal = { status, answer, message, sealed: false };
      await this.#notify(randomBytes(16).toString("hex"), entry, failed, refusal).catch((thrown: unknown) => {
        log.error({ event: "notice.lost", letter, status, reason: reasonOf(thrown) }); // a client that is put off has it all sent once more
      });
    }
  }

  /** What waits here: how many submissions, and since when the oldest one, in milliseconds since the epoch. */
  get waiting(): { readonly letters: number; readonly oldest: number | undefined } {
    let oldest = Number.POSITIVE_INFINITY;
    for (const { entry } of this.#taken) oldest = Math.min(oldest, Date.parse(entry.acceptedAt));
    return { letters: this.#taken.size, oldest: this.#taken.size === 0 ? undefined : oldest };
  }

  /** Waits for the transactions that run. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#running);
    this.#transport.close();
  }

  async #deliver(spooled: Spooled): Promise<void> {
    const { entry, progress } = spooled;
    const { register } = entry; // must know a letter before its receipt can come; its second run after a crash changes nothing
    if (register) await this.#persist(entry, () => this.#slots.run(() => this.#parts.letters.add(register)));
    await Promise.all(entry.consignments.map((consignment, at) => this.#walk(spooled, consignment, at)));
    if (progress.every(isFinished)) await this.#persist(entry, () => this.#parts.spool.finish(spooled));
  }

  async #walk(spooled: Spooled, consignment: Consignment, at: number): Promise<void> {
    await this.#persist(spooled.entry, async () => {
      const reached = (): Progress["stage"] | undefined => spooled.progress[at]?.stage;
      if (reached() === "waiting") await this.#slots.run(() => this.#relay(spooled, consignment, at));
      if (reached() === "relayed") await this.#report(spooled, consignment, at);
      if (reached() === "refused") await this.#slots.run(() => this.#giveUp(spooled, consignment, at));
      return reached() === "reported" || reached() === "failed";
    });
  }

  /** Tries a step until it says that it is done, with growing pauses: a full disk or a lost line heals without a restart. */
  async #persist(entry: Entry, step: () => Promise<boolean | void>): Promise<void> {
    const { first, longest } = this.#parts.retry;
    for (let wait: number = first; !this.#signal.aborted; wait = Math.min(wait * 2, longest)) {
      try {
        if ((await step()) !== false) return;
      } catch (thrown) {
        this.#logOf(entry).error({ event: "relay.failed", reason: reasonOf(thrown) });
      }
      await pause(wait, this.#signal);
    }
  }

  /** Keeps how far a copy is; the last change of all is the end of the whole entry. */
  async #advance(spooled: Spooled, at: number, to: Progress): Promise<void> {
    spooled.progress[at] = to;
    if (!spooled.progress.every(isFinished)) await this.#parts.spool.keep(spooled);
  }

  async #relay(spooled: Spooled, consignment: Consignment, at: number): Promise<void> {
    const { entry } = spooled;
    const { spool, now, retry } = this.#parts;
    const log = this.#logOf(entry, consignment);
    const message = await spool.message(spooled, consignment);
    if (!message) {
      log.error({ event: "spool.broken", reason: DAMAGED.answer });
      return this.#advance(spooled, at, DAMAGED);
    }
    const age = now().getTime() - Date.parse(entry.acceptedAt);
    const isFirst = Math.abs(age) <= FRESH_MS && !spooled.announced.has(at); // or our clock was set back meanwhile
    if (!isFirst && (await this.#announce(spooled, consignment, at, "again")) === "lost") return this.#lose(spooled, consignment, at);
    if (spooled.progress[at]?.stage !== "waiting") return; // it was recalled meanwhile
    spooled.sending.add(at);
    try {
      await handOver(this.#transport, envelopeOf(entry, consignment), message);
    } catch (thrown) {
      const { code, status, answer, isFinal } = answerIn(thrown);
      const tooOld = age > retry.giveUpAfter;
      log.warn({ event: "relay.refused", code, final: isFinal || tooOld, reason: reasonOf(thrown) });
      if (isFinal || tooOld) await this.#advance(spooled, at, { stage: "refused", status, answer });
      else await this.#announce(spooled, consignment, at);
      return;
    } finally {
      spooled.sending.delete(at);
    }
    haltAt("a8");
    log.info({ event: "letter.relayed", step: "S5" });
    spooled.progress[at] = { stage: "relayed" }; // kept with what the broker says of it
  }

  async #report(spooled: Spooled, consignment: Consignment, at: number): Promise<void> {
    const outcome = await this.#announce(spooled, consignment, at);
    if (outcome === "later") await this.#advance(spooled, at, { stage: "relayed" }); // the recipient's presentation implies it meanwhile
    haltAt("a9");
    if (outcome === "later") return;
    haltAt("a10");
    if (outcome === "lost") return this.#lose(spooled, consignment, at); // while the next hop had it in hand
    await this.#advance(spooled, at, { stage: "reported" });
  }

  /** Nobody can open it any more: its sender is told so, unless it was recalled. */
  async #lose(spooled: Spooled, consignment: Consignment, at: number): Promise<void> {
    const isRecalled = (await this.#isRecalled(spooled, consignment)) || spooled.progress[at]?.stage === "failed"; // held back meanwhile
    await this.#advance(spooled, at, isRecalled ? { stage: "failed" } : LOST);
  }

  /**
   * Tells the broker once that a letter is on its way: without that its row would vanish, and with it the key.
   * @param again asks whether it can be opened still, for it may have expired, or been recalled by another process
   */
  async #announce(
    { entry, announced }: Spooled,
    consignment: Consignment,
    at: number,
    again?: "again",
  ): Promise<"known" | "lost" | "later"> {
    const { ticket } = consignment;
    if (ticket === undefined || (announced.has(at) && !again)) return "known";
    try {
      if (await this.#announcer.announce(Buffer.from(ticket, "base64"))) return "lost";
      if (!announced.has(at)) this.#logOf(entry, consignment).info({ event: "letter.announced" });
      announced.add(at);
      return "known";
    } catch (thrown) {
      if (Fault.from(thrown).retry === "later") return "later";
      this.#logOf(entry, consignment).warn({ event: "relay.report-refused", reason: reasonOf(thrown) });
      return "known";
    }
  }

  /** The key first, then the notice: a sender who reads "nobody can open it" must be able to rely on it. */
  async #giveUp(spooled: Spooled, consignment: Consignment, at: number): Promise<void> {
    const { entry, progress } = spooled;
    const refused = progress[at];
    if (refused?.stage !== "refused") return;
    const { status, answer } = refused;
    const { broker, spool } = this.#parts;
    if (consignment.ticket !== undefined) {
      try {
        await broker.withdraw([Buffer.from(consignment.ticket, "base64")], this.#signal);
      } catch (thrown) {
        if (Fault.from(thrown).retry === "later") return; // both or neither: tried again with the next attempt
      }
    }
    const message = (await spool.message(spooled, consignment)) ?? Buffer.alloc(0);
    await this.#notify(noticeId(entry.id, at), entry, consignment, { status, answer, message, sealed: consignment.ticket !== undefined });
    await this.#failLetter(spooled, consignment, answer.slice(0, 400));
    this.#logOf(entry, consignment).warn({ event: "letter.given-up", status });
    await this.#advance(spooled, at, { stage: "failed" });
  }

  /** Every line names the letter, what the client was told that it was accepted as, and the copy where it is about one. */
  #logOf({ id, messageId }: Entry, consignment?: Consignment): Log {
    const session = consignment && sessionOf(consignment)?.slice(0, 12);
    return this.#parts.log.with({ letter: letterOf(messageId), accepted: id, ...(session !== undefined && { session }) });
  }

  /** Tells the sender once, unless DSN parameters say otherwise; a notice is never answered by a notice. */
  async #notify(
    id: string,
    entry: NoticeFor,
    consignment: Pick<Consignment, "recipient" | "notify" | "originalRecipient">,
    failure: Refusal,
  ): Promise<void> {
    const { spool, now, nextHop } = this.#parts;
    const silent = consignment.notify.length > 0 && !consignment.notify.includes("FAILURE"); // RFC 3461 §4.1
    if (entry.sender === "" || silent) return;
    await spool.once(id, async () => {
      const notice = failureNotice({
        ...failure,
        host: nextHop.name,
        language: this.#parts.languageFor(consignment.recipient),
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
    });
  }

  /** What cannot be read says nothing. */
  async #isRecalled({ entry: { register } }: Spooled, consignment: Consignment): Promise<boolean> {
    const letter = register && (await this.#parts.letters.find(register).catch(() => undefined));
    const session = sessionOf(consignment);
    return letter?.recipients.some((one) => one.session === session && one.state === "recalled") ?? false;
  }

  async #failLetter({ entry: { register } }: Spooled, consignment: Consignment, reason: string): Promise<void> {
    const session = sessionOf(consignment);
    if (session === undefined || !register) return;
    const { sender, messageId } = register;
    const at = this.#parts.now().toISOString();
    await this.#parts.letters.change({ sender, messageId }, session, { state: "failed", reason, at });
  }
}
