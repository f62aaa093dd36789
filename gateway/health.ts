/** What the gateway cannot work without, looked at on demand: broker, mailboxes, certificates, spool, next hop and delivery server. */
import type { BrokerClient } from "../broker/client.ts";
import type { Check, Dependency } from "../config/health.ts";
import type { Mailbox } from "../mime/address.ts";
import type { Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import type { Delivery } from "./delivery.ts";
import type { Identities } from "./identities.ts";
import type { Relay } from "./relay.ts";
import type { Spool } from "./spool.ts";
import type { Standing } from "./standing.ts";

export interface HealthParts {
  readonly broker: Pick<BrokerClient, "ready" | "lookUp">;
  readonly brokerUrl: string;
  readonly channel: () => Certificate;
  /** One of our own, to ask the broker for. */
  readonly mailbox: Mailbox;
  readonly identities: Pick<Identities, "all">;
  readonly spool: Pick<Spool, "probe">;
  /** What waits in the spool; undefined where the gateway only receives. */
  waiting(): Promise<Relay["waiting"] | undefined>;
  /** How many workers there are to be, and how many of them serve; absent where there are none. */
  readonly strength: (() => { readonly wanted: number; readonly serving: number }) | undefined;
  /** Absent where no mail comes in by us. */
  readonly delivery: Pick<Delivery, "look"> | undefined;
  readonly standing: Standing;
  now(): Date;
}

/** Less than this is no room for a letter of the usual largest size. */
const LEAST_FREE_OCTETS = 128 << 20;

/** In the order in which a letter needs them. */
const DEPENDENCIES = ["broker", "identities", "spool", "next-hop", "imap", "delivery", "workers"] as const;

export function checksOf(parts: HealthParts): Check[] {
  const looks: Readonly<Record<(typeof DEPENDENCIES)[number], Check["look"]>> = {
    broker: (signal) => lookAtBroker(parts, signal),
    identities: async () => lookAtIdentities(parts),
    spool: () => lookAtSpool(parts),
    "next-hop": async () => [await lookAtNextHop(parts)],
    delivery: async (signal) => parts.delivery?.look(signal) ?? [],
    imap: async () => [...parts.standing.watchers].map(([of, { ready, reason }]) => ({ of, ready, reason })),
    workers: async () => lookAtWorkers(parts),
  };
  return DEPENDENCIES.filter((name) => name !== "workers" || parts.strength).map((name) => ({ name, look: looks[name] }));
}

/** That it can serve, and that it serves us. */
async function lookAtBroker({ broker, brokerUrl, mailbox }: HealthParts, signal: AbortSignal): Promise<string> {
  await broker.ready(signal);
  await broker.lookUp(mailbox, signal);
  return `${brokerUrl} answers`;
}

function lookAtIdentities({ identities, channel, now }: HealthParts): Omit<Dependency, "name">[] {
  const at = now();
  const own = identities.all().map(({ address: of, certificates }) => ({ of, ...standingOf(certificates, at) }));
  return [{ of: "gateway", ...standingOf([channel()], at) }, ...own];
}

function standingOf(certificates: readonly Certificate[] | undefined, at: Date): Pick<Dependency, "ready" | "reason"> {
  if (!certificates) return { ready: false, reason: 'has no certificates yet; the log says why at "mailbox.not-enrolled"' };
  const ends = Math.min(...certificates.map(({ notAfter }) => notAfter.getTime()));
  const until = new Date(ends).toISOString();
  return ends < at.getTime()
    ? { ready: false, reason: `a certificate ended at ${until}` }
    : { ready: true, reason: `valid until ${until}` };
}

async function lookAtSpool({ spool }: HealthParts): Promise<string> {
  const free = await spool.probe();
  if (free < LEAST_FREE_OCTETS) {
    throw new Fault("storage-full", "little room", { advice: `only ${free >> 20} MiB are free where the spool is; make room` });
  }
  return `writable, ${Math.floor(free / (1 << 20))} MiB free`;
}

/** Each has mailboxes of its own, so that none may be missing. */
function lookAtWorkers({ strength }: HealthParts): string {
  const { wanted, serving } = strength?.() ?? { wanted: 0, serving: 0 };
  const words = `${serving} of ${wanted} serve`;
  if (serving < wanted) throw new Fault("unavailable", words, { advice: `${words}: worker.ended in the log says why` });
  return words;
}

/** A failure counts while something waits for it to be mended. */
async function lookAtNextHop({ waiting, standing: { nextHop } }: HealthParts): Promise<Omit<Dependency, "name">> {
  const { letters: waits } = (await waiting()) ?? {};
  if (waits === undefined) return { ready: true, reason: "none: this gateway only receives" };
  if (!nextHop) return { ready: true, reason: "nothing was sent yet" };
  return { ready: nextHop.ready || waits === 0, reason: `${nextHop.reason}${waits === 0 ? "" : `; ${waits} letters wait`}` };
}
