/** Wires a gateway together from its configuration: the door, the outbound walk and the relay, a watcher for each mailbox; nothing is decided here. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Health, startHealth, type HealthPlace } from "../config/health.ts";
import { Lifecycle, pause, type Running } from "../config/lifecycle.ts";
import { lockFolder } from "../config/lock.ts";
import { overheard, reasonOf, type Log } from "../config/log.ts";
import { differences, sorted, type Reloading } from "../config/reload.ts";
import type { GatewayConfig, OwnMailbox } from "../config/schema.ts";
import { Fault } from "../mime/fault.ts";
import { autoconfig, listed, mobileconfig, muttrc } from "./client-formats.ts";
import { openDiscovery } from "./discovery.ts";
import { LIVE_KEYS, openDoors, pemAt, type Doors } from "./doors.ts";
import { LIVE_INBOUND_KEYS, openInboundDoors, type InboundDoors } from "./inbound-doors.ts";
import { checksOf } from "./health.ts";
import { Identities } from "./identities.ts";
import { openChannel } from "./identity.ts";
import { receive, type InboundParts } from "./inbound.ts";
import { Journal } from "./journal.ts";
import { Learned } from "./learned.ts";
import { Letters } from "./letters.ts";
import { Logins } from "./login.ts";
import { addGauges, Counted } from "./metrics.ts";
import type { Letterbox, Seen } from "./mailbox.ts";
import { Maildir } from "./maildir.ts";
import { restoreRegister } from "./power.ts";
import { receiveReceipt } from "./receipts.ts";
import { Renewal } from "./renewal.ts";
import { governing } from "./rules.ts";
import { Spool } from "./spool.ts";
import { Standing } from "./standing.ts";
import { FOLDERS } from "./status.ts";
import { watch, type WatcherParts } from "./watcher.ts";

/** Settings of a mail client in the formats that there are. */
export const CLIENT_FORMATS = { autoconfig, mobileconfig, listed, muttrc } as const;
export { settingsFor } from "./client-settings.ts";
export { examineGateway } from "./doctor.ts";
export { sendTest } from "./send-test.ts";
export { explainPolicy } from "./explain.ts";
export { openFilter, sealFilter } from "./filter.ts";
export { enrol, enrolledAs } from "./identity.ts";
export { Learned } from "./learned.ts";
export { readStatus, type Status } from "./status.ts";
export { askBroker, recallHere, recallWords } from "./commands.ts";
export { hashPassword } from "./users.ts";

/** Base64 in two layers, headers and a notice: what a letter of the largest size can grow to, and room. */
const GROWTH = 2.2;
const LARGEST_RECEIVED_OCTETS = 200 << 20;

export interface RunningGateway extends Running, Reloading<GatewayConfig> {
  /** Of the doors, in the order of the configuration. */
  readonly ports: readonly number[];
  readonly healthPort: number | undefined;
}

/** Starts the gateway. @returns when its doors listen */
export async function startGateway(config: GatewayConfig, writtenTo: Log, now: () => Date = () => new Date()): Promise<RunningGateway> {
  const running = new Lifecycle();
  let current = config;
  let doors: Doors | undefined;
  let inboundDoors: InboundDoors | undefined;
  const counted = new Counted();
  const watched = config.mailboxes.filter(({ imap }) => imap).map(({ address }) => address.address);
  const standing = new Standing(watched, now);
  const log = overheard(writtenTo, (facts) => {
    counted.hear(facts);
    standing.hear(facts);
  });
  try {
    mkdirSync(config.data, { recursive: true, mode: 0o700 });
    running.onStop(lockFolder(config.data));
    const opened = await openChannel(config, log, now);
    const { broker, revocations, channel } = opened;
    running.onStop(() => broker.close());
    const refreshing = revocations.keepFresh(broker, config.broker.revocations, running.signal);
    running.onStop(() => refreshing);
    const [spool, journal, letters] = [
      new Spool(join(config.data, FOLDERS.spool)),
      new Journal(join(config.data, FOLDERS.journal)),
      new Letters(join(config.data, FOLDERS.letters)),
    ];
    await Promise.all([spool.prepare(), journal.prepare(), letters.prepare()]);
    await restoreRegister(config.data, { spool, letters, log });
    const tidying = tidy({ spool, journal, log, retention: config.retention, now }, running.signal);
    running.onStop(() => tidying);
    const identities = new Identities(config, log);
    const preparing = identities.prepare(broker, running.signal);
    const renewal = new Renewal({ channel: opened, broker, identities, log, now });
    const renewing = renewal.keep(running.signal, () => (doors ? { door: doors.certificate() } : {}));
    running.onStop(async () => void (await Promise.all([preparing, renewing])));

    const logins = new Logins(now);
    doors = await openDoors(config, { broker, identities, spool, letters, logins, log, now }, running);
    const onReport = (letterbox: Pick<Letterbox, "fetch">, seen: Seen) => receiveReceipt({ broker, letters, log, now }, letterbox, seen);
    const onSigned = (letterbox: Pick<Letterbox, "fetch">, seen: Seen) => new Learned(current, log).receive(letterbox, seen);
    inboundDoors = await openInboundDoors(config, { walkOf, onReport, onSigned, log, now }, running);
    const watchers = config.mailboxes.map((own) => watchMailbox(own));
    running.onStop(async () => void (await Promise.all(watchers)));
    const healthPort = config.health && (await openHealth(config.health));
    if (config.clients.listen) {
      const discovery = await openDiscovery(config, config.clients.listen, log);
      running.onStop(() => discovery.stop());
    }
    log.info({ event: "gateway.started", name: config.name, mailboxes: config.mailboxes.length });
    return {
      ports: doors?.ports ?? [],
      healthPort,
      stop: () => running.stop(),
      async reload(next) {
        const found = sorted(differences(current, next), [...LIVE_KEYS, ...LIVE_INBOUND_KEYS]);
        const before = doors?.certificate().fingerprint;
        doors?.prepare(next)(); // throws before anything changed
        inboundDoors?.renew(next);
        current = withLive(current, next);
        renewal.lookNow();
        const isRenewed = doors?.certificate().fingerprint !== before;
        return { ...found, changed: [...found.changed, ...(isRenewed ? ["the door's certificate"] : [])] };
      },
    };

    async function openHealth(place: HealthPlace): Promise<number> {
      const [mailbox] = config.mailboxes;
      if (!mailbox) throw new Fault("internal", "a gateway without mailboxes");
      const { relay } = doors ?? {};
      const { delivery } = inboundDoors ?? {};
      const parts = {
        broker,
        brokerUrl: config.broker.url,
        mailbox: mailbox.address,
        identities,
        spool,
        relay,
        delivery,
        standing,
        channel,
        now,
      };
      const health = new Health(checksOf(parts), now);
      const newestRoot = () => broker.trust.roots.toSorted((a, b) => b.notAfter.getTime() - a.notAfter.getTime()).slice(0, 1);
      const certificates = () => ({ channel: [channel()], root: newestRoot(), door: doors ? [doors.certificate()] : [] });
      addGauges(counted.metrics, { health, standing, spool, relay, identities, certificates, now });
      const opened = await startHealth(place, { health, metrics: counted.metrics, log });
      running.onStop(() => opened.stop());
      return opened.port;
    }

    function accessOf({ imap, maildir }: OwnMailbox): WatcherParts["access"] | undefined {
      if (maildir) return { config: maildir, open: (changed) => Maildir.open(maildir, changed) };
      return imap && { config: imap, login: logins.of(imap), ca: pemAt(imap.ca) };
    }

    async function watchMailbox(own: OwnMailbox): Promise<void> {
      const access = accessOf(own);
      if (!access) return;
      const inbound = walkOf(own);
      await watch(
        {
          access,
          address: own.address.address,
          journal,
          log,
          largest: Math.max(LARGEST_RECEIVED_OCTETS, (config.submission?.largest ?? 0) * GROWTH),
          onSealed: (mailbox, seen, signal) => receive(inbound, mailbox, seen, signal),
          onReport,
          onSigned,
        },
        running.signal,
      );
    }

    function walkOf(own: OwnMailbox): InboundParts {
      return {
        broker,
        brokerUrl: config.broker.url,
        journal,
        log,
        get language() {
          return governing(current.policy, own.address).terms.language;
        },
        name: config.name,
        own,
        identity: () => identities.of(own.address),
        now,
      };
    }
  } catch (thrown) {
    await running.stop();
    throw thrown;
  }
}

/** The running configuration with what a reload changes of it; the rest stays as it runs, and is named at every reload until the restart. */
function withLive(current: GatewayConfig, next: GatewayConfig): GatewayConfig {
  const { users, policy, submission, inbound } = next;
  const { listen, control } = current.submission ?? {};
  const renewed = submission && current.submission && { ...submission, listen: listen ?? submission.listen, control };
  const { listen: inboundListen, deliver } = current.inbound ?? {};
  const renewedInbound = inbound && inboundListen && deliver && { ...inbound, listen: inboundListen, deliver };
  return { ...current, users, policy, submission: renewed ?? current.submission, inbound: renewedInbound ?? current.inbound };
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
