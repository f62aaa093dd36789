/** The doors of a gateway with what stands behind them: users, policy, the outbound walk, the relay; and what of it a reload changes. */
import { createSecureContext } from "node:tls";
import { readFileSync } from "node:fs";
import type { BrokerClient } from "../broker/client.ts";
import type { Lifecycle } from "../config/lifecycle.ts";
import type { Log } from "../config/log.ts";
import type { DoorLimits, GatewayConfig } from "../config/schema.ts";
import { readSecret } from "../config/secrets.ts";
import { parseMailbox, type Mailbox } from "../mime/address.ts";
import { parseCertificate, type Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { Attempts } from "./attempts.ts";
import { command, isCommand } from "./control.ts";
import { brokerDirectory } from "./directory.ts";
import type { Identities } from "./identities.ts";
import type { Letters } from "./letters.ts";
import type { Logins } from "./login.ts";
import { senderOf, type Neighbours, type Senders } from "./neighbours.ts";
import type { NextHop } from "./next-hop.ts";
import { consign } from "./outbound.ts";
import { openPolicy, type Policy } from "./policy.ts";
import { Relay } from "./relay.ts";
import { sealingParts } from "./sealing.ts";
import type { Spool } from "./spool.ts";
import { openDoor, type Door, type OpenDoor, type Submission } from "./submission.ts";
import { UNASKED, passThrough, type Transit } from "./transit.ts";
import { Users, type Submitter } from "./users.ts";
import { Visits, networksOf } from "./visits.ts";

export interface DoorsParts {
  readonly broker: BrokerClient;
  readonly identities: Identities;
  readonly spool: Spool;
  readonly letters: Letters;
  readonly logins: Logins;
  /** Absent where there is one process. */
  readonly neighbours?: Neighbours | undefined;
  readonly log: Log;
  now(): Date;
}

export interface Doors {
  readonly relay: Relay;
  readonly ports: readonly number[];
  /** What clients are shown. */
  readonly certificate: () => Certificate;
  /** For senders that belong to this process, whichever process their client came to. */
  readonly here: Pick<Senders, "consign" | "passOn">;
  /** Refuses new connections, sends idle clients away and lets letters that are coming in be accepted. */
  close(): Promise<void>;
  /**
   * Prepares what a new configuration says, and changes nothing yet.
   * @returns what takes it: from the next command, recipient or connection on; connections stay
   * @throws Fault `malformed`: key and certificate do not fit, or a file cannot be read
   */
  prepare(next: GatewayConfig): () => void;
}

/** Keys of the configuration that the doors take without a restart. */
export const LIVE_KEYS = [
  "users",
  "policy",
  ...["certificate", "key", "largest", "mostRecipients", "trustedNetworks", "limits"].map((key) => `submission.${key}`),
] as const;

export type Configured = GatewayConfig & { readonly submission: NonNullable<GatewayConfig["submission"]> };
type Pair = Pick<Door, "key" | "certificate">;

/** The door's key and certificate. @throws Fault `malformed` */
export function pairAt({ submission: { key: keyPath, certificate: path } }: Configured): Pair {
  const pair = { key: readSecret(keyPath).reveal(), certificate: pemAt(path) ?? "" };
  try {
    createSecureContext({ key: pair.key, cert: pair.certificate });
    return pair;
  } catch (cause) {
    throw new Fault("malformed", `${path} and ${keyPath} are no pair of certificate and key: put files there that belong together`, {
      cause,
    });
  }
}

export function pemAt(path: string | undefined): string | undefined {
  try {
    return path === undefined ? undefined : readFileSync(path, "utf8");
  } catch (cause) {
    throw new Fault("malformed", `${path} cannot be read`, { cause });
  }
}

/** What counts now; each is replaced as a whole. */
interface Live {
  users: Users;
  policy: Policy;
  rules: GatewayConfig["policy"];
  isTrusted: (address: string) => boolean;
}

/** The account at the next hop. */
export function nextHopOf({ relay: hop, name }: GatewayConfig, logins: Logins): NextHop | undefined {
  if (!hop) return undefined;
  const { host, port, tls, user } = hop;
  return { host, port, tls, name, ca: pemAt(hop.ca), auth: user === undefined ? undefined : { user, login: logins.of(hop) } };
}

/** Opens every door; undefined where the gateway has none. */
export async function openDoors(config: GatewayConfig, parts: DoorsParts, running: Lifecycle): Promise<Doors | undefined> {
  const nextHop = nextHopOf(config, parts.logins);
  const configured = withSubmission(config);
  if (!nextHop || !configured) return undefined;
  const { submission, name } = configured;
  const { broker, identities, spool, letters, neighbours, log, now } = parts;
  const directory = brokerDirectory(config, broker, now);
  const read = (from: Configured): Live => ({
    users: new Users(from.users),
    policy: openPolicy(from.policy, directory, now),
    rules: from.policy,
    isTrusted: networksOf(from.submission.trustedNetworks),
  });
  const live = read(configured);
  const limits = shareOf(submission.limits, neighbours?.count); // one object for doors, visits and attempts; a reload fills it anew
  const policy: Pick<Policy, "settle" | "decide" | "languageFor"> = {
    settle: (asking, wish) => live.policy.settle(asking, wish),
    decide: (mailbox, signal) => live.policy.decide(mailbox, signal),
    languageFor: (mailbox) => live.policy.languageFor(mailbox),
  };
  const languageFor = (recipient: string) => policy.languageFor(parseMailbox(recipient));
  const isOurs = (address: string): boolean => neighbours?.isOurs(address) ?? true;
  const relayParts = { nextHop, retry: config.retry, spool, letters, broker, languageFor, log, now };
  const relay = new Relay({ ...relayParts, isOurs: (entry) => isOurs(senderOf(entry)) }, running.signal);
  running.onStop(() => relay.close());
  await relay.resume();
  const desk = { config, broker, policy, directory, identities, log, now };
  const outbound = () => ({ ...sealingParts({ ...desk, rules: live.rules }), spool, relay });
  const identityOf = identities.of.bind(identities);
  const holdBack = (sessions: ReadonlySet<string>) => relay.holdBack(sessions);
  const { control: address } = submission;
  const control = () =>
    address && { address, language: live.rules.language, hand: broker, letters, holdBack, log, identityOf, now, spool, relay, name };
  const consignHere = async (order: Submission, signal: AbortSignal): Promise<string> => {
    const hand = control();
    return hand && isCommand(order, address) ? command(hand, order, signal) : consign(outbound(), order, signal);
  };
  const passHere = (transit: Transit): Promise<string> => passThrough({ now, name, relay }, transit);
  const elsewhere = (sender: string): Neighbours | undefined => (isOurs(sender) ? undefined : neighbours);
  const household = { name: "the network", identities: config.mailboxes.flatMap(({ address, aliases }) => [address, ...aliases]) };
  const doorParts = {
    users: {
      authenticate: (user: string, password: string) => live.users.authenticate(user, password),
      current: (submitter: Submitter) => live.users.current(submitter),
    },
    visits: new Visits(limits, (address) => live.isTrusted(address)),
    attempts: new Attempts(limits),
    trusted: (address: string) => (live.isTrusted(address) ? household : undefined),
    passOn:
      submission.others === "pass"
        ? async (transit: Transit) => elsewhere(transit.sender)?.passOn(transit) ?? passHere(transit)
        : undefined,
    policy: {
      decide: async (mailbox: Mailbox, signal: AbortSignal) => (mailbox.key === address?.key ? UNASKED : policy.decide(mailbox, signal)),
    },
    log,
    demandSigner: (mailbox: Mailbox) => void identities.of(mailbox),
    consign: async (order: Submission, signal: AbortSignal) =>
      elsewhere(order.sender.address)?.consign(order) ?? consignHere(order, signal),
  };
  let pair = pairAt(configured);
  const { largest, mostRecipients } = submission;
  const doors: OpenDoor[] = [];
  let closed: Promise<void> | undefined;
  const close = (): Promise<void> => (closed ??= Promise.all(doors.map((door) => door.stop())).then(() => undefined));
  running.onStop(close);
  for (const { address: listen, tls } of submission.listen) {
    doors.push(await openDoor({ ...pair, name, listen, tls, largest, mostRecipients, limits }, doorParts));
  }
  return {
    relay,
    ports: doors.map(({ port }) => port),
    certificate: () => parseCertificate(pair.certificate),
    here: { consign: (order) => consignHere(order, running.signal), passOn: passHere },
    close,
    prepare(next) {
      const wanted = withSubmission(next);
      if (!wanted) return () => undefined;
      const [nextPair, nextLive] = [pairAt(wanted), read(wanted)];
      return () => {
        pair = nextPair;
        Object.assign(live, nextLive);
        Object.assign(limits, shareOf(wanted.submission.limits, neighbours?.count));
        for (const door of doors)
          door.renew({ ...pair, largest: wanted.submission.largest, mostRecipients: wanted.submission.mostRecipients });
      };
    },
  };
}

/** What its doors show. @returns undefined where it has none @throws Fault `malformed` as `pairAt` */
export function certificateAt(config: GatewayConfig): Certificate | undefined {
  const configured = withSubmission(config);
  return configured && parseCertificate(pairAt(configured).certificate);
}

/** What one of several processes allows, so that all of them together allow what is configured; rounded up. */
function shareOf(limits: DoorLimits, processes = 1): DoorLimits {
  const part = (whole: number): number => Math.ceil(whole / processes);
  const { connections, perAddress, perMinute, failures, userFailures } = limits;
  return {
    ...limits,
    connections: part(connections),
    perAddress: part(perAddress),
    perMinute: part(perMinute),
    failures: part(failures),
    userFailures: part(userFailures),
  };
}

function withSubmission(config: GatewayConfig): Configured | undefined {
  const { submission } = config;
  return submission && { ...config, submission };
}
