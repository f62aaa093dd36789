/** What the broker cannot work without, looked at on demand: its table, its own certificates, and receipts that leave. */
import type { Check } from "../config/health.ts";
import type { Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import type { Outbox } from "./outbox.ts";
import type { Table } from "./table.ts";

export interface HealthParts {
  readonly table: Pick<Table, "ready">;
  readonly outbox: Pick<Outbox, "waiting">;
  /** Where the broker has several processes. */
  readonly workers?: { ready(): Promise<unknown>; readonly strength: { readonly wanted: number; readonly serving: number } } | undefined;
  /** The broker's own, by what they are for. */
  certificates(): Readonly<Record<string, Certificate>>;
  now(): Date;
}

/** A receipt that waits longer says that the mail server does not take them. */
const LONGEST_WAIT_MS = 60 * 60_000;

const DEPENDENCIES = ["table", "certificates", "outbox", "workers"] as const;

export function checksOf({ table, outbox, workers, certificates, now }: HealthParts): Check[] {
  const looks: Readonly<Record<(typeof DEPENDENCIES)[number], Check["look"]>> = {
    async table() {
      await Promise.all([table.ready(), workers?.ready()]);
      return "answers, and loses nothing that it acknowledged";
    },
    async certificates() {
      const at = now();
      return Object.entries(certificates()).map(([of, { notAfter }]) => ({
        of,
        ready: notAfter > at,
        reason: `${notAfter > at ? "valid until" : "ended at"} ${notAfter.toISOString()}`,
      }));
    },
    async outbox() {
      const { receipts, oldestMs, reason } = outbox.waiting;
      if (receipts === 0) return "no receipt waits";
      const words = `${receipts} receipts wait, the oldest for ${Math.round(oldestMs / 1_000)} s${reason === undefined ? "" : `: ${reason}`}`;
      if (oldestMs > LONGEST_WAIT_MS) throw new Fault("unavailable", words, { advice: words });
      return words;
    },
    async workers() {
      const { wanted, serving } = workers?.strength ?? { wanted: 1, serving: 1 };
      const words = `${serving} of ${wanted} answer gateways`;
      if (serving === 0) throw new Fault("unavailable", words, { advice: `${words}: worker.ended in the log says why` });
      return words;
    },
  };
  return DEPENDENCIES.filter((name) => name !== "workers" || workers).map((name) => ({ name, look: looks[name] }));
}
