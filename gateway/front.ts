/** What has a gateway's doors and watchers: its one process, or workers (`workers`), among whom its mailboxes are divided. */
import { pause, type Lifecycle } from "../config/lifecycle.ts";
import { reasonOf, type Facts, type Log } from "../config/log.ts";
import type { Figures } from "../config/metrics.ts";
import type { GatewayConfig } from "../config/schema.ts";
import { Workers as WorkersOf } from "../config/workers.ts";
import type { Certificate } from "../mime/certificate.ts";
import type { Desk } from "./desk.ts";
import { certificateAt } from "./doors.ts";
import { Owners, type Neighbours, type Senders } from "./neighbours.ts";
import type { Relay } from "./relay.ts";
import { CONSIGNED_WITHIN_MS } from "./worker.ts";
import type { Opened, Renewed, ToPrimary, ToWorker, WorkerNews } from "./worker-talk.ts";

export interface Front {
  /** Of the doors, in the order of the configuration. */
  readonly ports: readonly number[];
  /** What clients are shown; undefined where there are no doors. */
  certificate(): Certificate | undefined;
  /** What waits in the spool; undefined where the gateway only receives. */
  waiting(): Promise<Relay["waiting"] | undefined>;
  /** Takes it, here and in every worker. @throws Fault `malformed`; then nobody took it */
  take(next: GatewayConfig): Promise<void>;
  /** How many workers there are to be, and how many of them serve; absent where there are none. */
  strength?(): { readonly wanted: number; readonly serving: number };
  /** What workers count. */
  figures(): Promise<readonly Figures[]>;
}

/** Everything in this process. */
export async function openAlone(desk: Desk, running: Lifecycle): Promise<Front> {
  await desk.open(running);
  const { doors } = desk;
  return {
    ports: doors?.ports ?? [],
    certificate: () => doors?.certificate(),
    waiting: async () => doors?.relay.waiting,
    take: async (next) => desk.read(next)(), // throws before anything changed
    figures: async () => [],
  };
}

class Workers extends WorkersOf<GatewayConfig, Opened, ToWorker, ToPrimary, readonly WorkerNews[]> {}

/** Longer than a worker's doors, transactions and watchers take to close. */
const STOP_WITHIN_MS = 30_000;
const TOLD_AGAIN_AFTER_MS = 1_000;

export interface CrewParts {
  readonly log: Log;
  /** The configuration as it counts now. */
  config(): GatewayConfig;
  /** Is told each line of a worker's log. */
  heard(facts: Facts): void;
}

/** The workers of a gateway, and what they do for each other through this process. */
export class Crew {
  /** For what is to be done here for a sender: everything belongs to some worker. */
  readonly neighbours: Neighbours;
  readonly #workers: Workers;
  readonly #log: Log;
  #untold: { mailboxes: Set<string>; channel: boolean } = { mailboxes: new Set(), channel: false };
  #isTelling = false;
  #signal: AbortSignal | undefined;

  constructor({ mailboxes, workers: count }: GatewayConfig, { log, config, heard }: CrewParts) {
    const owners = new Owners(mailboxes, count);
    const senders: Senders = {
      consign: (submission) => this.#workers.ask(owners.of(submission.sender.address), "consign", submission, CONSIGNED_WITHIN_MS),
      passOn: (transit) => this.#workers.ask(owners.of(transit.sender), "passOn", transit, CONSIGNED_WITHIN_MS),
      add: (letter) => this.#workers.ask(owners.of(letter.sender), "add", letter),
      change: (...change) => this.#workers.ask(owners.of(change[0].sender), "change", change),
    };
    this.neighbours = { ...senders, count, isOurs: () => false };
    this.#log = log;
    this.#workers = new Workers({
      log,
      count,
      stopWithin: STOP_WITHIN_MS,
      config,
      answers: { ...senders, change: (change) => senders.change(...change) },
      heard: (news) => news.forEach(heard),
      ended: () => undefined,
    });
  }

  /** Starts them. @param desk this process's, for what a reload changes */
  async open(desk: Desk, running: Lifecycle): Promise<Front> {
    const workers = this.#workers;
    await workers.start();
    running.onStop(async () => {
      await workers.askAll("close", undefined, STOP_WITHIN_MS).catch(() => undefined); // what is coming in may be for another one
      await workers.stop();
    });
    this.#signal = running.signal;
    void this.#tell();
    const isSending = desk.config.submission !== undefined;
    let shown = certificateAt(desk.config);
    return {
      ports: workers.opened?.ports ?? [],
      certificate: () => shown,
      async waiting() {
        if (!isSending) return undefined;
        const all = await workers.askAll("waiting", undefined);
        const times = all.flatMap(({ oldest }) => oldest ?? []);
        return { letters: all.reduce((sum, { letters }) => sum + letters, 0), oldest: times.length === 0 ? undefined : Math.min(...times) };
      },
      async take(next) {
        const [take, certificate] = [desk.read(next), certificateAt(next)];
        await workers.reload(next, () => {
          take();
          shown = certificate;
        });
      },
      strength: () => workers.strength,
      figures: () => workers.figures(),
    };
  }

  /** Tells them that files of these mailboxes, or of the channel, are others now; those that start later find them. */
  renewed({ mailboxes, channel }: Renewed): void {
    for (const address of mailboxes) this.#untold.mailboxes.add(address);
    this.#untold.channel ||= channel;
    void this.#tell();
  }

  async #tell(): Promise<void> {
    if (this.#isTelling || !this.#signal) return;
    this.#isTelling = true;
    while (!this.#signal.aborted && (this.#untold.channel || this.#untold.mailboxes.size > 0)) {
      const { mailboxes, channel } = this.#untold;
      this.#untold = { mailboxes: new Set(), channel: false };
      try {
        await this.#workers.tellAll("renewed", { mailboxes: [...mailboxes], channel });
      } catch (thrown) {
        this.#log.error({ event: "worker.not-told", reason: reasonOf(thrown), againMs: TOLD_AGAIN_AFTER_MS });
        for (const address of mailboxes) this.#untold.mailboxes.add(address);
        this.#untold.channel ||= channel;
        await pause(TOLD_AGAIN_AFTER_MS, this.#signal);
      }
    }
    this.#isTelling = false;
  }
}
