/** What the broker's roots have revoked: fetched from our broker and nobody else, verified against the trusted roots, kept over restarts (RFC 5280 §6.3). */
import { join } from "node:path";
import type { BrokerClient } from "../broker/client.ts";
import { pause } from "../config/lifecycle.ts";
import { reasonOf, type Log } from "../config/log.ts";
import type { Certificate } from "../mime/certificate.ts";
import { parseRevocationList, type RevocationList, type RevokedSerials } from "../mime/crl.ts";
import { Fault } from "../mime/fault.ts";
import { readIfPresent, writeDurably } from "./durable.ts";

const FILE = "broker.crl";
const NONE: RevokedSerials = new Map();

interface Place {
  /** The gateway's data folder. */
  readonly folder: string;
  /** Whose list counts. */
  roots(): readonly Certificate[];
  readonly log: Log;
  now(): Date;
}

export class Revocations {
  readonly #place: Place;
  #list: RevocationList | undefined;

  constructor(place: Place) {
    this.#place = place;
  }

  /** What counts now. A list past its nextUpdate still counts: what it names stays revoked. */
  get revoked(): RevokedSerials {
    return this.#list?.revoked ?? NONE;
  }

  /** Reads the list that was kept; one that does not hold is left for the next fetch to replace. */
  async load(): Promise<void> {
    const { folder, roots, log } = this.#place;
    const kept = await readIfPresent(join(folder, FILE));
    if (!kept) return;
    try {
      this.#list = parseRevocationList(kept, roots());
    } catch (thrown) {
      log.error({ event: "revocations.not-valid", file: join(folder, FILE), reason: reasonOf(thrown) });
    }
  }

  /** Fetches the list once. @returns whether there is a current one now; what is wrong is said in the log */
  async refresh(broker: Pick<BrokerClient, "revocationList">, signal: AbortSignal): Promise<boolean> {
    try {
      await this.#take(await broker.revocationList(signal));
    } catch (thrown) {
      this.#place.log.warn({ event: "revocations.not-fetched", reason: reasonOf(thrown) });
    }
    return this.#isCurrent();
  }

  /** Fetches it now and again until the signal aborts; sooner where it did not come. @param every milliseconds */
  async keepFresh(broker: Pick<BrokerClient, "revocationList">, every: number, signal: AbortSignal): Promise<void> {
    for (let wait = FIRST_RETRY_MS; !signal.aborted;) {
      const isCurrent = await this.refresh(broker, signal);
      await pause(isCurrent ? every : Math.min(wait, every), signal);
      wait = isCurrent ? FIRST_RETRY_MS : wait * 2;
    }
  }

  async #take(der: Buffer): Promise<void> {
    const { folder, roots, log } = this.#place;
    const list = parseRevocationList(der, roots());
    if (this.#list && list.number < this.#list.number) throw new Fault("forbidden", "the broker gave an older list than it gave before");
    await writeDurably(join(folder, FILE), [der]);
    const added = list.revoked.size - (this.#list?.revoked.size ?? 0);
    this.#list = list;
    if (added > 0) log.warn({ event: "revocations.new", revoked: list.revoked.size, added });
  }

  #isCurrent(): boolean {
    const { log, now } = this.#place;
    if (this.#list && now() <= this.#list.nextUpdate) return true;
    const since = this.#list?.nextUpdate.toISOString() ?? "ever";
    log.warn({
      event: "revocations.stale",
      since,
      advice: "Revocations made since then are not known here; see whether the broker answers.",
    });
    return false;
  }
}

const FIRST_RETRY_MS = 5_000;
