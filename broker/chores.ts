/** What is done once for a broker, in however many processes it answers: receipts are mailed, time takes its effect, what was erased is made unrecoverable. */
import { Endings } from "../config/endings.ts";
import { holderOf } from "../config/holder.ts";
import type { Instance } from "./instance.ts";
import { mailerOf } from "./open.ts";
import { Outbox } from "./outbox.ts";
import { forgetSessionKeys } from "./session-keys.ts";
import { retire } from "./succession.ts";
import { sweep } from "./sweep.ts";
import type { Witness } from "./witness.ts";
import type { Forgotten } from "./worker-talk.ts";

const SWEEP_EVERY_MS = 60_000;
/** Its settings are looked at again, and whether it lost steps. */
const EXAMINE_EVERY_MS = 60_000;
/** What was erased is made unrecoverable. */
const FORGET_EVERY_MS = 60 * 60_000;
/** What is not written down yet is noticed as lost only while this process lives. */
const WARN_EVERY_MS = 60 * 60_000;
const WITNESS_EVERY_MS = 5_000;

/** Mails receipts over the mail server of the configuration; `close` ends its connections. */
export function outboxOf(instance: Instance): { readonly outbox: Outbox; close(): void } {
  const mailer = mailerOf(instance.config);
  const times = {
    get retryFirst() {
      return instance.config.receipts.retryFirst;
    },
    get retryLongest() {
      return instance.config.receipts.retryLongest;
    },
  };
  return { outbox: new Outbox(instance.broker, mailer, times, holderOf(instance.config.data)), close: () => mailer.close() };
}

interface ChoreParts {
  readonly outbox: Outbox;
  readonly witness: Witness;
  /** Told after each destruction: every process that answers gateways is to let go of it. */
  forgotten(what: Forgotten): Promise<void>;
}

/** Does them until the signal aborts. */
export async function doChores(instance: Instance, { outbox, witness, forgotten }: ChoreParts, signal: AbortSignal): Promise<void> {
  const { broker } = instance;
  const endings = new Endings(broker.log);
  await Promise.all([
    outbox.run(signal),
    instance.every(SWEEP_EVERY_MS, "table.sweep-waits", signal, () => sweep(broker)),
    instance.every(FORGET_EVERY_MS, "keys.waiting", signal, async () => forgotten(await forgetKeys(instance))),
    instance.every(EXAMINE_EVERY_MS, "table.not-fit", signal, () => broker.table.ready()),
    instance.every(WARN_EVERY_MS, "certificates.waiting", signal, async () => endings.look(instance.certificates(), broker.now())),
    instance.every(WITNESS_EVERY_MS, "witness.waits", signal, async () => witness.keep()),
  ]);
}

/**
 * Takes over a rotated master key; and "erased" is to mean erased: the keys of days on which no letter waits, and what the table's home
 * still has of deleted rows. Former keys of tickets go with their last session, and former roots with the last certificate under them.
 */
async function forgetKeys(instance: Instance): Promise<Forgotten> {
  const { broker, config } = instance;
  const { table, masterKey, now, log } = broker;
  masterKey.renew();
  const used = await table.daysInUse();
  const destroyed = masterKey.destroy(used, now().getTime());
  if (destroyed.length > 0) log.info({ event: "keys.destroyed", days: destroyed.length });
  const forgotten = forgetSessionKeys(config.data, { longest: config.expiry.longest + config.retention, used, now: now() });
  const { retired } = await retire(config, table, now());
  if (forgotten.length > 0 || retired.length > 0) instance.take(instance.read());
  for (const key of forgotten) log.info({ event: "session-key.destroyed", key });
  for (const { fingerprint } of retired) log.info({ event: "root.retired", fingerprint });
  await table.compact();
  return { days: used, files: forgotten.length > 0 || retired.length > 0 };
}
