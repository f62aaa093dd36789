/** Who may connect: connections in total, of one address at once, and of one address in a minute. */
import { BlockList, isIPv6 } from "node:net";
import type { DoorLimits, Network } from "../config/schema.ts";

/** The networks of a list, to be asked for addresses. */
export function networksOf(list: readonly Network[]): (address: string) => boolean {
  const networks = new BlockList();
  for (const { address, prefix, family } of list) networks.addSubnet(address, prefix, family);
  return (address) => networks.check(address, isIPv6(address) ? "ipv6" : "ipv4");
}

/** The address as a limit counts it: of IPv6 the first 64 bits, which is what one customer gets (RFC 6177 §2). */
export function placeOf(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/iu, "");
  if (!isIPv6(plain)) return plain;
  const [head = "", tail] = (plain.split("%")[0] ?? "").split("::");
  const [before, after] = [head, tail ?? ""].map((part) => part.split(":").filter(Boolean));
  const gap = tail === undefined ? 0 : 8 - (before?.length ?? 0) - (after?.length ?? 0);
  const groups = [...(before ?? []), ...Array.from({ length: Math.max(gap, 0) }, () => "0"), ...(after ?? [])];
  return groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(":");
}

const MINUTE_MS = 60_000;

/** The connections of all doors of a gateway. */
export class Visits {
  readonly #limits: Pick<DoorLimits, "connections" | "perAddress" | "perMinute">;
  readonly #isTrusted: (address: string) => boolean;
  readonly #clock: () => number;
  readonly #open = new Map<string, number>();
  #total = 0;
  #minute = 0;
  /** Counted anew each minute, so that it never holds more than a minute's addresses. */
  #lately = new Map<string, number>();

  /** @param isTrusted addresses that only the limit in total holds. @param clock milliseconds, by a clock that nobody sets */
  constructor(
    limits: Pick<DoorLimits, "connections" | "perAddress" | "perMinute">,
    isTrusted: (address: string) => boolean,
    clock: () => number = () => performance.now(),
  ) {
    this.#limits = limits;
    this.#isTrusted = isTrusted;
    this.#clock = clock;
  }

  /** @returns what ends the visit, to be called once or more; undefined where there is no room */
  enter(address: string): (() => void) | undefined {
    const place = placeOf(address);
    const minute = Math.floor(this.#clock() / MINUTE_MS);
    if (minute !== this.#minute) [this.#minute, this.#lately] = [minute, new Map()];
    const [open, lately] = [this.#open.get(place) ?? 0, (this.#lately.get(place) ?? 0) + 1];
    this.#lately.set(place, lately);
    const { connections, perAddress, perMinute } = this.#limits;
    if (this.#total >= connections) return undefined;
    if (!this.#isTrusted(address) && (open >= perAddress || lately > perMinute)) return undefined;
    this.#total++;
    this.#open.set(place, open + 1);
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      this.#total--;
      const left = (this.#open.get(place) ?? 1) - 1;
      if (left > 0) this.#open.set(place, left);
      else this.#open.delete(place);
    };
  }
}
