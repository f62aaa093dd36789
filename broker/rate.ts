/** How often one may ask: a token bucket for each gateway, and for each network of those who show no certificate. */
import { isIPv6 } from "node:net";
import { Fault } from "../mime/fault.ts";

export interface Rate {
  /** How many requests may come at once. */
  readonly burst: number;
  /** How many may come for good. */
  readonly perSecond: number;
}

interface Limited {
  readonly perGateway: Rate;
  readonly perAddress: Rate;
  readonly connections: number;
}

/** What one of several processes allows, so that all of them together allow what is configured; whole numbers are rounded up. */
export function shareOf<Limits extends Limited>(limits: Limits, processes: number): Limits {
  const part = ({ burst, perSecond }: Rate): Rate => ({ burst: Math.ceil(burst / processes), perSecond: perSecond / processes });
  const { perGateway, perAddress, connections } = limits;
  return { ...limits, perGateway: part(perGateway), perAddress: part(perAddress), connections: Math.ceil(connections / processes) };
}

/** More names than this at a time are not remembered: those that asked longest ago are forgotten first. */
const MOST_BUCKETS = 50_000;

interface Bucket {
  tokens: number;
  /** By a clock that nobody sets, milliseconds. */
  at: number;
}

export class Buckets {
  readonly #rate: Rate;
  readonly #clock: () => number;
  readonly #buckets = new Map<string, Bucket>();

  /** @param clock milliseconds */
  constructor(rate: Rate, clock = () => performance.now()) {
    this.#rate = rate;
    this.#clock = clock;
  }

  /** @param requests how many this counts as @throws Fault `unavailable` with the seconds to wait: who has this name asked too often */
  take(name: string, requests = 1): void {
    const { burst, perSecond } = this.#rate;
    const wanted = Math.min(requests, burst); // a full bucket is enough for anything
    const at = this.#clock();
    const last = this.#buckets.get(name) ?? { tokens: burst, at };
    const tokens = Math.min(burst, last.tokens + ((at - last.at) / 1_000) * perSecond);
    this.#buckets.delete(name); // so that the map stays in the order of use
    this.#buckets.set(name, { tokens: tokens < wanted ? tokens : tokens - wanted, at });
    if (this.#buckets.size > MOST_BUCKETS) this.#makeRoom(at);
    if (tokens >= wanted) return;
    const retryAfter = Math.max(1, Math.ceil((wanted - tokens) / perSecond));
    throw new Fault("unavailable", "too many requests", { retryAfter });
  }

  /** Whoever has not asked for so long that its bucket is full again is as good as new; if nobody has, the oldest go. */
  #makeRoom(at: number): void {
    const { burst, perSecond } = this.#rate;
    for (const [name, { tokens, at: then }] of this.#buckets) {
      if (tokens + ((at - then) / 1_000) * perSecond >= burst || this.#buckets.size > MOST_BUCKETS) this.#buckets.delete(name);
      else return;
    }
  }
}

/** What one host can easily have many of counts as one: the /64 of an IPv6 address. */
export function networkOf(address: string | undefined): string {
  if (address === undefined || !isIPv6(address)) return address ?? "";
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/iu.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  const [head = "", tail = ""] = (address.split("%")[0] ?? "").split("::");
  const groups = (text: string): string[] => (text === "" ? [] : text.split(":"));
  const missing = 8 - groups(head).length - groups(tail).length;
  const whole = address.includes("::")
    ? [...groups(head), ...Array<string>(Math.max(missing, 0)).fill("0"), ...groups(tail)]
    : groups(head);
  return whole
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(":");
}
