/** Wires a gateway together from its configuration: the door, the outbound walk and the relay, a watcher for each mailbox; nothing is decided here. */
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Lifecycle, pause, type Running } from "../config/lifecycle.ts";
import { lockFolder } from "../config/lock.ts";
import { reasonOf, type Log } from "../config/log.ts";
import type { GatewayConfig, ImapConfig, OwnMailbox } from "../config/schema.ts";
import { readSecret } from "../config/secrets.ts";
import { parseMailbox, type Mailbox } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import { Attempts } from "./attempts.ts";
import { autoconfig, listed, mobileconfig, muttrc } from "./client-formats.ts";
import { command, isCommand } from "./control.ts";
import { Identities, openChannel } from "./identity.ts";
import { receive, type InboundParts } from "./inbound.ts";
import { Journal } from "./journal.ts";
import { Learned } from "./learned.ts";
import { Letters } from "./letters.ts";
import { openDiscovery } from "./discovery.ts";
import { brokerDirectory } from "./directory.ts";
import type { Login } from "./login.ts";
import { TokenSources } from "./oauth.ts";
import { Maildir } from "./maildir.ts";
import { consign } from "./outbound.ts";
import { openPolicy } from "./policy.ts";
import { receiveReceipt } from "./receipts.ts";
import { Relay } from "./relay.ts";
import { governing } from "./rules.ts";
import { sealingParts } from "./sealing.ts";
import { Spool } from "./spool.ts";
import { FOLDERS } from "./status.ts";
import { openDoor, type Submission } from "./submission.ts";
import { UNASKED, passThrough, type Transit } from "./transit.ts";
import { Users } from "./users.ts";
import { Visits, networksOf } from "./visits.ts";
import { watch, type WatcherParts } from "./watcher.ts";

/** Settings of a mail client in the formats that there are. */
export const CLIENT_FORMATS = { autoconfig, mobileconfig, listed, muttrc } as const;
export { settingsFor } from "./client-settings.ts";
export { explainPolicy } from "./explain.ts";
export { openFilter, sealFilter } from "./filter.ts";
export { enrol } from "./identity.ts";
export { Learned } from "./learned.ts";
export { readStatus, type Status } from "./status.ts";
export { askBroker, recallHere, recallWords } from "./commands.ts";
export { hashPassword } from "./users.ts";

/** Base64 in two layers, headers and a notice: what a letter of the largest size can grow to, and room. */
const GROWTH = 2.2;
const LARGEST_RECEIVED_OCTETS = 200 << 20;

function pemAt(path: string | undefined): string | undefined {
  try {
    return path === undefined ? undefined : readFileSync(path, "utf8");
  } catch (cause) {
    throw new Fault("malformed", `${path} cannot be read`, { cause });
  }
}

/** Starts the gateway. @returns when its doors listen; `ports` are theirs, in the order of the configuration */
export async function startGateway(
  config: GatewayConfig,
  log: Log,
  now: () => Date = () => new Date(),
): Promise<Running & { readonly ports: readonly number[] }> {
  const running = new Lifecycle();
  try {
    mkdirSync(config.data, { recursive: true, mode: 0o700 });
    running.onStop(lockFolder(config.data));
    const { broker, revocations } = await openChannel(config, log, now);
    running.onStop(() => broker.close());
    const refreshing = revocations.keepFresh(broker, config.broker.revocations, running.signal);
    running.onStop(() => refreshing);
    const [spool, journal, letters] = [
      new Spool(join(config.data, FOLDERS.spool)),
      new Journal(join(config.data, FOLDERS.journal)),
      new Letters(join(config.data, FOLDERS.letters)),
    ];
    await Promise.all([spool.prepare(), journal.prepare(), letters.prepare()]);
    const tidying = tidy({ spool, journal, log, retention: config.retention, now }, running.signal);
    running.onStop(() => tidying);
    const learned = new Learned(config, log);
    const identities = new Identities(config, log);
    const preparing = identities.prepare(broker, running.signal);
    running.onStop(() => preparing);

    const tokens = new TokenSources(now);
    const loginOf = ({ user = "", passwordFile = "", oauth }: Pick<ImapConfig, "user" | "passwordFile" | "oauth">): Login =>
      oauth ? { tokens: tokens.of(oauth, user) } : { pass: readSecret(passwordFile).reveal() };

    const ports = config.submission && config.relay ? await openSubmission() : [];
    const watchers = config.mailboxes.map((own) => watchMailbox(own));
    running.onStop(async () => void (await Promise.all(watchers)));
    if (config.clients.listen) {
      const discovery = await openDiscovery(config, config.clients.listen, log);
      running.onStop(() => discovery.stop());
    }
    log.info({ event: "gateway.started", name: config.name, mailboxes: config.mailboxes.length });
    return { ports, stop: () => running.stop() };

    async function openSubmission(): Promise<number[]> {
      const { submission, relay: hop } = config;
      if (!submission || !hop) return [];
      const nextHop = {
        ...hop,
        name: config.name,
        ca: pemAt(hop.ca),
        auth: hop.user === undefined ? undefined : { user: hop.user, login: loginOf(hop) },
      };
      const directory = brokerDirectory(config, broker, now);
      const policy = openPolicy(config.policy, directory);
      const languageFor = (recipient: string) => policy.languageFor(parseMailbox(recipient));
      const relay = new Relay({ nextHop, retry: config.retry, spool, letters, broker, languageFor, log, now }, running.signal);
      running.onStop(() => relay.close());
      await relay.resume();
      const outbound = { ...sealingParts({ config, broker, policy, directory, identities, log, now }), spool, relay };
      const identityOf = identities.of.bind(identities);
      const { control: address } = submission;
      const { name } = config;
      const { language } = config.policy;
      const holdBack = (sessions: ReadonlySet<string>) => relay.holdBack(sessions);
      const control = address && { address, language, hand: broker, letters, holdBack, log, identityOf, now, spool, relay, name };
      const isTrusted = networksOf(submission.trustedNetworks);
      const household = { name: "the network", identities: config.mailboxes.map(({ address }) => address) };
      const parts = {
        users: new Users(config.users),
        visits: new Visits(submission.limits, isTrusted),
        attempts: new Attempts(submission.limits),
        trusted: (address: string) => (isTrusted(address) ? household : undefined),
        passOn: submission.others === "pass" ? (transit: Transit) => passThrough({ now, name, relay }, transit) : undefined,
        policy: {
          decide: async (mailbox: Mailbox, signal: AbortSignal) =>
            mailbox.key === submission.control?.key ? UNASKED : policy.decide(mailbox, signal),
        },
        log,
        demandSigner: (mailbox: OwnMailbox["address"]) => void identities.of(mailbox),
        consign: async (order: Submission, signal: AbortSignal) =>
          control && isCommand(order, submission.control) ? command(control, order, signal) : consign(outbound, order, signal),
      };
      const bound: number[] = [];
      for (const { address, tls } of submission.listen) {
        const door = {
          ...submission,
          name: config.name,
          listen: address,
          tls,
          key: readSecret(submission.key).reveal(),
          certificate: pemAt(submission.certificate) ?? "",
        };
        const opened = await openDoor(door, parts);
        running.onStop(() => opened.stop());
        bound.push(opened.port);
      }
      return bound;
    }

    function accessOf({ imap, maildir }: OwnMailbox): WatcherParts["access"] | undefined {
      if (maildir) return { config: maildir, open: (changed) => Maildir.open(maildir, changed) };
      return imap && { config: imap, login: loginOf(imap), ca: pemAt(imap.ca) };
    }

    async function watchMailbox(own: OwnMailbox): Promise<void> {
      const access = accessOf(own);
      if (!access) return;
      const inbound: InboundParts = {
        broker,
        brokerUrl: config.broker.url,
        journal,
        log,
        language: governing(config.policy, own.address).terms.language,
        name: config.name,
        own,
        identity: () => identities.of(own.address),
        now,
      };
      await watch(
        {
          access,
          address: own.address.address,
          journal,
          log,
          largest: Math.max(LARGEST_RECEIVED_OCTETS, (config.submission?.largest ?? 0) * GROWTH),
          onSealed: (mailbox, seen, signal) => receive(inbound, mailbox, seen, signal),
          onReport: (mailbox, seen) => receiveReceipt({ broker, letters, log }, mailbox, seen),
          onSigned: (mailbox, seen) => learned.receive(mailbox, seen),
        },
        running.signal,
      );
    }
  } catch (thrown) {
    await running.stop();
    throw thrown;
  }
}

const TIDY_EVERY_MS = 60 * 60_000;
/** How long a repeated submission is known (docs/durability.md, section 2). */
const REPEATED_WITHIN_MS = 24 * 60 * 60_000;

/** Forgets what is no longer needed, until the signal aborts. */
async function tidy(
  parts: { spool: Spool; journal: Journal; log: Log; retention: number; now(): Date },
  signal: AbortSignal,
): Promise<void> {
  const { spool, journal, log, retention, now } = parts;
  do {
    try {
      await spool.forget(now().getTime() - REPEATED_WITHIN_MS);
      await journal.forget(new Date(now().getTime() - retention).toISOString());
    } catch (thrown) {
      log.warn({ event: "gateway.tidying-waits", reason: reasonOf(thrown) });
    }
  } while (await pause(TIDY_EVERY_MS, signal));
}
