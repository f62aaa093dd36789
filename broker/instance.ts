/** A broker in one process: its parts as configuration and data folder have them now, and what a reload changes of them. */
import { reasonOf } from "../config/log.ts";
import { pause } from "../config/lifecycle.ts";
import { differences, sorted, type Reloaded } from "../config/reload.ts";
import type { BrokerConfig } from "../config/schema.ts";
import type { Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import type { Broker } from "./broker.ts";
import type { ServerLimits } from "./listener.ts";
import { LIVE_KEYS, readLive, renewedIn, withLive, type Live } from "./live.ts";
import { masterKeysAt } from "./master-files.ts";
import { localMasterKey } from "./master-key.ts";
import { masterPlaceOf } from "./open.ts";
import { shareOf } from "./rate.ts";
import { countingIn } from "./roots.ts";

/** What was read and is not taken yet. */
export interface Reading {
  readonly config: BrokerConfig;
  readonly live: Live;
  /** For whoever asked for a reload. */
  readonly reloaded: Reloaded;
}

export class Instance {
  readonly broker: Broker;
  /** Of this process's doors: its share of what is configured. Changed in place, for whoever counts by them. */
  readonly limits: ServerLimits;
  #config: BrokerConfig;
  readonly #live: Live;

  /** @throws Fault `malformed`: a file of the data folder */
  constructor(config: BrokerConfig, parts: Pick<Broker, "table" | "log" | "now" | "receiptWaits">) {
    const masters = masterPlaceOf(config);
    const live = readLive(config);
    this.#config = config;
    this.#live = live;
    this.limits = shareOf(config.limits, config.workers);
    this.broker = {
      ...parts,
      url: config.url,
      masterKey: localMasterKey(() => masterKeysAt(masters), masters.dayKeys),
      get root() {
        return live.roots.issuing;
      },
      get roots() {
        return countingIn(live.roots);
      },
      get links() {
        return live.roots.links;
      },
      get signer() {
        return live.signer;
      },
      get sessionKeys() {
        return live.sessionKeys;
      },
      receiptsFrom: config.receipts.from,
      get limits() {
        return live.limits;
      },
    };
  }

  /** As it counts now. */
  get config(): BrokerConfig {
    return this.#config;
  }

  get tls(): Live["tls"] {
    return this.#live.tls;
  }

  /** The broker's own, by what they are for. */
  certificates(): Readonly<Record<string, Certificate>> {
    const { server, signer, roots, sessionKeys } = this.#live;
    const [session] = sessionKeys;
    return { root: roots.issuing.certificate, server, signing: signer.certificate, ...(session && { session: session.certificate }) };
  }

  /** Reads what can count at once, and changes nothing. @param next the configuration as it is written now @throws Fault `malformed` */
  read(next = this.#config): Reading {
    const found = sorted(differences(this.#config, next), LIVE_KEYS);
    const config = withLive(this.#config, next);
    const live = readLive(config);
    return { config, live, reloaded: { ...found, changed: [...found.changed, ...renewedIn(this.#live, live)] } };
  }

  take({ config, live }: Reading): void {
    this.#config = config;
    Object.assign(this.#live, live);
    const { perGateway, perAddress, ...rest } = shareOf(config.limits, config.workers);
    Object.assign(this.limits, rest);
    Object.assign(this.limits.perGateway, perGateway);
    Object.assign(this.limits.perAddress, perAddress);
  }

  /** Does something now and again until the signal aborts; what fails is logged under the event and tried the next time. */
  async every(ms: number, event: string, signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    do {
      try {
        await work();
      } catch (thrown) {
        this.broker.log.warn({ event, reason: reasonOf(thrown), advice: Fault.from(thrown).advice });
      }
    } while (await pause(ms, signal));
  }
}
