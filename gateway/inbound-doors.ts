/** The inbound doors of a gateway with the delivery server behind them, and what of it a reload changes. */
import type { Lifecycle } from "../config/lifecycle.ts";
import type { Log } from "../config/log.ts";
import type { GatewayConfig, InboundConfig } from "../config/schema.ts";
import { parseMailbox } from "../mime/address.ts";
import { takeIn, type ArrivalParts } from "./arrival.ts";
import { Delivery, type DeliveryServer } from "./delivery.ts";
import { pemAt } from "./doors.ts";
import { openInboundDoor, type OpenInboundDoor } from "./inbound-door.ts";
import type { InboundParts } from "./inbound.ts";
import { HandedOn } from "./passage.ts";
import { Visits, networksOf } from "./visits.ts";

export interface InboundDoorsParts extends Pick<ArrivalParts, "onReport" | "onSigned" | "now"> {
  readonly log: Log;
  walkOf(own: GatewayConfig["mailboxes"][number]): InboundParts;
}

export interface InboundDoors {
  readonly delivery: Delivery;
  /** Takes what a new configuration says; connections stay. */
  renew(next: GatewayConfig): void;
}

/** Keys of the configuration that these doors take without a restart. */
export const LIVE_INBOUND_KEYS = ["largest", "trustedNetworks", "limits"].map((key) => `inbound.${key}`);

/** A delivery server that says nothing does not hold up the start. */
const LONGEST_LOOK_MS = 5_000;

export function deliveryServerOf({ deliver }: InboundConfig, name: string): DeliveryServer {
  return { ...deliver, name, ca: pemAt(deliver.ca) };
}

/** Opens every door; undefined where the gateway has none. */
export async function openInboundDoors(
  config: GatewayConfig,
  parts: InboundDoorsParts,
  running: Lifecycle,
): Promise<InboundDoors | undefined> {
  const { inbound, name } = config;
  if (!inbound) return undefined;
  const { log, now, onReport, onSigned } = parts;
  const limits = limitsOf(inbound); // one object for doors and visits; a reload fills it anew
  let isTrusted = networksOf(inbound.trustedNetworks);
  const trusted = (address: string): boolean => isTrusted(address);
  const delivery = new Delivery(deliveryServerOf(inbound, name));
  const patience = AbortSignal.any([running.signal, AbortSignal.timeout(LONGEST_LOOK_MS)]);
  await delivery.look(patience).catch(() => undefined); // what it offers; where it is away, the first mail will tell
  const walks = walksOf(config, parts);
  const walkFor = (recipient: string): InboundParts | undefined => walks.get(keyOf(recipient));
  const arrivals: ArrivalParts = { name, delivery, handedOn: new HandedOn(), log, now, walkFor, onReport, onSigned };
  const doorParts = {
    visits: new Visits(limits, trusted),
    log,
    trusted,
    offersDsn: () => delivery.offersDsn,
    takeIn: takeIn.bind(undefined, arrivals),
  };
  const doors: OpenInboundDoor[] = [];
  for (const { address: listen, protocol } of inbound.listen) {
    const door = await openInboundDoor({ name, listen, protocol, largest: inbound.largest, limits }, doorParts);
    running.onStop(() => door.stop());
    doors.push(door);
  }
  return {
    delivery,
    renew({ inbound: next }) {
      if (!next) return;
      Object.assign(limits, limitsOf(next));
      isTrusted = networksOf(next.trustedNetworks);
      for (const door of doors) door.renew(next);
    },
  };
}

/** Nobody logs in: the time before AUTH is that between two mails. */
const limitsOf = ({ limits }: InboundConfig) => ({ ...limits, authenticate: limits.idle });

/** By address and alias. A mailbox that is watched is its watcher's. */
function walksOf({ mailboxes }: GatewayConfig, { walkOf }: InboundDoorsParts): ReadonlyMap<string, InboundParts> {
  const walks = new Map<string, InboundParts>();
  for (const own of mailboxes) {
    if (own.imap || own.maildir) continue;
    const walk = walkOf(own);
    for (const { key } of [own.address, ...own.aliases]) walks.set(key, walk);
  }
  return walks;
}

/** An address that cannot be read is none of ours. */
function keyOf(address: string): string {
  try {
    return parseMailbox(address).key;
  } catch {
    return address;
  }
}
