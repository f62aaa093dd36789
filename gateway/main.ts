/** Wires a gateway together from its configuration: the channel to the broker, identities, the desk or its workers; nothing is decided here. */
import { mkdirSync } from "node:fs";
import { Health, startHealth, type HealthPlace } from "../config/health.ts";
import { Lifecycle, pause, type Running } from "../config/lifecycle.ts";
import { awaitFormerWorkers, lockFolder } from "../config/lock.ts";
import { overheard, reasonOf, type Facts, type Log } from "../config/log.ts";
import { differences, sorted, type Reloading } from "../config/reload.ts";
import type { GatewayConfig } from "../config/schema.ts";
import type { Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { autoconfig, listed, mobileconfig, muttrc } from "./client-formats.ts";
import { Desk } from "./desk.ts";
import { openDiscovery } from "./discovery.ts";
import { LIVE_KEYS } from "./doors.ts";
import { Crew, openAlone, type Front } from "./front.ts";
import { checksOf } from "./health.ts";
import { Identities } from "./identities.ts";
import { openChannel } from "./identity.ts";
import { LIVE_INBOUND_KEYS, openInboundDoors } from "./inbound-doors.ts";
import type { Journal } from "./journal.ts";
import { addGauges, Counted } from "./metrics.ts";
import { restoreRegister } from "./power.ts";
import { Renewal } from "./renewal.ts";
import type { Spool } from "./spool.ts";
import { Standing } from "./standing.ts";

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
export { replaceDurably, writeDurably } from "./durable.ts";
export { runWorker } from "./worker.ts";

export interface RunningGateway extends Running, Reloading<GatewayConfig> {
  /** Of the doors, in the order of the configuration. */
  readonly ports: readonly number[];
  readonly healthPort: number | undefined;
}

/** Starts the gateway. @returns when its doors listen */
export async function startGateway(config: GatewayConfig, writtenTo: Log, now: () => Date = () => new Date()): Promise<RunningGateway> {
  const running = new Lifecycle();
  let front: Front | undefined;
  const counted = new Counted();
  const watched = config.mailboxes.filter(({ imap }) => imap).map(({ address }) => address.address);
  const standing = new Standing(watched, now);
  const heard = (facts: Facts): void => {
    counted.hear(facts);
    standing.hear(facts);
  };
  const log = overheard(writtenTo, heard);
  try {
    mkdirSync(config.data, { recursive: true, mode: 0o700 });
    running.onStop(lockFolder(config.data));
    awaitFormerWorkers(config.data);
    const opened = await openChannel(config, log, now);
    const { broker, revocations, channel } = opened;
    running.onStop(() => broker.close());
    const refreshing = revocations.keepFresh(broker, config.broker.revocations, running.signal);
    running.onStop(() => refreshing);
    const crew = config.workers === 1 ? undefined : new Crew(config, { log, config: () => desk.config, heard });
    const identities = new Identities(config, log, (address) => crew?.renewed({ mailboxes: [address], channel: false }));
    const desk = new Desk(config, { broker, identities, neighbours: crew?.neighbours, log, now });
    const { spool, journal, letters } = desk;
    await desk.prepare();
    await restoreRegister(config.data, { spool, letters, log });
    const tidying = tidy({ spool, journal, log, retention: config.retention, now }, running.signal);
    running.onStop(() => tidying);
    const preparing = identities.prepare(broker, running.signal);
    const renewal = new Renewal({ channel: { ...opened, renew: renewChannel }, broker, identities, log, now });
    const renewing = renewal.keep(running.signal, certificateOfDoor);
    running.onStop(async () => void (await Promise.all([preparing, renewing])));

    const open = (front = await (crew ? crew.open(desk, running) : openAlone(desk, running)));
    const { onReport, onSigned, walkOf } = desk;
    const inboundDoors = await openInboundDoors(config, { walkOf, onReport, onSigned, log, now }, running);
    if (!crew) desk.watch(running);
    const healthPort = config.health && (await openHealth(config.health));
    if (config.clients.listen) {
      const discovery = await openDiscovery(config, config.clients.listen, log);
      running.onStop(() => discovery.stop());
    }
    log.info({ event: "gateway.started", name: config.name, mailboxes: config.mailboxes.length, workers: config.workers });
    return {
      ports: open.ports,
      healthPort,
      stop: () => running.stop(),
      async reload(next) {
        const found = sorted(differences(desk.config, next), [...LIVE_KEYS, ...LIVE_INBOUND_KEYS]);
        const before = open.certificate()?.fingerprint;
        await open.take(next);
        inboundDoors?.renew(next);
        renewal.lookNow();
        const isRenewed = open.certificate()?.fingerprint !== before;
        return { ...found, changed: [...found.changed, ...(isRenewed ? ["the door's certificate"] : [])] };
      },
    };

    async function renewChannel(signal: AbortSignal): Promise<void> {
      await opened.renew(signal);
      crew?.renewed({ mailboxes: [], channel: true });
    }

    function certificateOfDoor(): { readonly door?: Certificate } {
      const door = front?.certificate();
      return door ? { door } : {};
    }

    async function openHealth(place: HealthPlace): Promise<number> {
      const [mailbox] = config.mailboxes;
      if (!mailbox) throw new Fault("internal", "a gateway without mailboxes");
      const { delivery } = inboundDoors ?? {};
      const { waiting, strength } = open;
      const brokerUrl = config.broker.url;
      const parts = { broker, brokerUrl, mailbox: mailbox.address, identities, spool, waiting, strength, delivery, standing, channel, now };
      const health = new Health(checksOf(parts), now);
      const newestRoot = () => broker.trust.roots.toSorted((a, b) => b.notAfter.getTime() - a.notAfter.getTime()).slice(0, 1);
      const certificates = () => ({ channel: [channel()], root: newestRoot(), door: Object.values(certificateOfDoor()) });
      addGauges(counted.metrics, { health, standing, spool, waiting, identities, certificates, now });
      counted.metrics.addOthers(open.figures);
      const listener = await startHealth(place, { health, metrics: counted.metrics, log });
      running.onStop(() => listener.stop());
      return listener.port;
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
