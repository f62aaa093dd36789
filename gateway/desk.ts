/** What a process of a gateway does for its mailboxes: the inbound walk, receipts, watchers, and the doors with the outbound walk behind them. */
import { join } from "node:path";
import type { BrokerClient } from "../broker/client.ts";
import type { Lifecycle } from "../config/lifecycle.ts";
import type { Log } from "../config/log.ts";
import type { GatewayConfig, OwnMailbox } from "../config/schema.ts";
import { openDoors, pemAt, type Doors } from "./doors.ts";
import { Elsewhere } from "./elsewhere.ts";
import type { Identities } from "./identities.ts";
import { receive, type InboundParts } from "./inbound.ts";
import { Journal } from "./journal.ts";
import { Learned } from "./learned.ts";
import { Letters } from "./letters.ts";
import { Logins } from "./login.ts";
import type { Letterbox, Seen } from "./mailbox.ts";
import { Maildir } from "./maildir.ts";
import type { Neighbours } from "./neighbours.ts";
import { receiveReceipt } from "./receipts.ts";
import { governing } from "./rules.ts";
import { Spool } from "./spool.ts";
import { FOLDERS } from "./status.ts";
import { watch, type WatcherParts } from "./watcher.ts";

/** Base64 in two layers, headers and a notice: what a letter of the largest size can grow to, and room. */
const GROWTH = 2.2;
const LARGEST_RECEIVED_OCTETS = 200 << 20;

export interface DeskParts {
  readonly broker: BrokerClient;
  readonly identities: Identities;
  /** Absent where there is one process. */
  readonly neighbours?: Neighbours | undefined;
  readonly log: Log;
  now(): Date;
}

export class Desk {
  readonly spool: Spool;
  readonly journal: Journal;
  readonly letters: Letters;
  #config: GatewayConfig;
  readonly #parts: DeskParts;
  readonly #logins: Logins;
  #doors: Doors | undefined;

  constructor(config: GatewayConfig, parts: DeskParts) {
    this.#config = config;
    this.#parts = parts;
    this.#logins = new Logins(parts.now);
    this.spool = new Spool(join(config.data, FOLDERS.spool));
    this.journal = new Journal(join(config.data, FOLDERS.journal));
    this.letters = new Letters(join(config.data, FOLDERS.letters), parts.neighbours);
  }

  /** As it counts now. */
  get config(): GatewayConfig {
    return this.#config;
  }

  /** Once they are open; undefined where the gateway has none. */
  get doors(): Doors | undefined {
    return this.#doors;
  }

  /** Clears away in the folders what a crash left half done; for the one process that has them alone. */
  async prepare(): Promise<void> {
    await Promise.all([this.spool.prepare(), this.journal.prepare(), this.letters.prepare()]);
  }

  /** Opens the doors and takes up what a former life left in the spool. */
  async open(running: Lifecycle): Promise<void> {
    const { spool, letters } = this;
    this.#doors = await openDoors(this.#config, { ...this.#parts, spool, letters, logins: this.#logins }, running);
  }

  /** Watches the mailboxes until everything stops. */
  watch(running: Lifecycle): void {
    const { neighbours } = this.#parts;
    const ours = this.#config.mailboxes.filter(({ address }) => neighbours?.isOurs(address.address) ?? true);
    const watchers = ours.map((own) => this.#watchOne(own, running.signal));
    running.onStop(async () => void (await Promise.all(watchers)));
  }

  /**
   * Prepares what a new configuration says, and changes nothing yet.
   * @returns what takes it
   * @throws Fault `malformed` as `Doors.prepare`
   */
  read(next: GatewayConfig): () => void {
    const take = this.#doors?.prepare(next);
    return () => {
      take?.();
      this.#config = withLive(this.#config, next);
    };
  }

  readonly onReport = (letterbox: Pick<Letterbox, "fetch">, seen: Seen): Promise<void> =>
    receiveReceipt({ ...this.#parts, letters: this.letters }, letterbox, seen);

  readonly onSigned = (letterbox: Pick<Letterbox, "fetch">, seen: Seen): Promise<void> =>
    new Learned(this.#config, this.#parts.log).receive(letterbox, seen);

  readonly walkOf = (own: OwnMailbox): InboundParts => {
    const { broker, identities, log, now } = this.#parts;
    const language = () => governing(this.#config.policy, own.address).terms.language;
    return {
      broker,
      brokerUrl: this.#config.broker.url,
      journal: this.journal,
      log,
      get language() {
        return language();
      },
      name: this.#config.name,
      own,
      elsewhere: new Elsewhere(),
      identity: () => identities.of(own.address),
      now,
    };
  };

  #accessOf({ imap, maildir }: OwnMailbox): WatcherParts["access"] | undefined {
    if (maildir) return { config: maildir, open: (changed) => Maildir.open(maildir, changed) };
    return imap && { config: imap, login: this.#logins.of(imap), ca: pemAt(imap.ca) };
  }

  async #watchOne(own: OwnMailbox, signal: AbortSignal): Promise<void> {
    const access = this.#accessOf(own);
    if (!access) return;
    const inbound = this.walkOf(own);
    const parts = {
      access,
      address: own.address.address,
      journal: this.journal,
      log: this.#parts.log,
      largest: Math.max(LARGEST_RECEIVED_OCTETS, (this.#config.submission?.largest ?? 0) * GROWTH),
      onSealed: (mailbox, seen, aborted) => receive(inbound, mailbox, seen, aborted),
      onReport: this.onReport,
      onSigned: this.onSigned,
    } satisfies WatcherParts;
    await watch(parts, signal);
  }
}

/** The running configuration with what a reload changes of it; the rest stays as it runs, and is named at every reload until the restart. */
function withLive(current: GatewayConfig, next: GatewayConfig): GatewayConfig {
  const { users, policy, submission, inbound } = next;
  const { listen, control, others } = current.submission ?? {};
  const renewed = submission &&
    current.submission && { ...submission, listen: listen ?? submission.listen, control, others: others ?? submission.others };
  const { listen: inboundListen, deliver } = current.inbound ?? {};
  const renewedInbound = inbound && inboundListen && deliver && { ...inbound, listen: inboundListen, deliver };
  return { ...current, users, policy, submission: renewed ?? current.submission, inbound: renewedInbound ?? current.inbound };
}
