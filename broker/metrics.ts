/** What a broker counts: the steps of letters, keys given out and refused, receipts, out of its log's lines; and gauges of table, outbox and certificates. */
import { readings, type Health } from "../config/health.ts";
import type { Facts } from "../config/log.ts";
import { Metrics } from "../config/metrics.ts";
import type { Certificate } from "../mime/certificate.ts";
import type { Outbox } from "./outbox.ts";

const STEPS = ["declared", "released", "confirmed", "withdrawn", "recalled"] as const;
const REFUSALS = [
  "session-gone",
  "recalled",
  "forbidden",
  "unauthenticated",
  "signature-invalid",
  "malformed",
  "unavailable",
  "internal",
] as const;
const PRESENT = "/v1/present";

const STEP_BY: Readonly<Record<string, (typeof STEPS)[number]>> = {
  "session.declared": "declared",
  "session.released": "released",
  "session.confirmed": "confirmed",
  "session.withdrawn": "withdrawn",
};

/** Counts out of log lines. */
export class Counted {
  readonly metrics = new Metrics();
  readonly #steps = this.metrics.counter("kakitome_sessions_total", "Letters by the steps they took here.", { step: STEPS });
  readonly #released = this.metrics.counter("kakitome_key_releases_total", "Keys that were given out, by whether they had been before.", {
    again: ["no", "yes"],
  });
  readonly #refused = this.metrics.counter("kakitome_key_refusals_total", "Presentations that got no key, by reason.", {
    reason: REFUSALS,
  });
  readonly #requests = this.metrics.counter("kakitome_requests_refused_total", "Requests of every kind that were refused, by reason.", {
    reason: REFUSALS,
  });
  readonly #receipts = this.metrics.counter("kakitome_receipts_total", "Attempts to mail receipts and reports, by outcome.", {
    outcome: ["sent", "waits", "refused"],
  });
  readonly #swept = this.metrics.counter("kakitome_swept_rows_total", "Rows that time changed: expired, delayed, vanished, forgotten.", {});
  readonly #wentBack = this.metrics.counter(
    "kakitome_table_went_back_total",
    "Times the table was found to lack steps it had acknowledged.",
    {},
  );

  readonly #workersEnded = this.metrics.counter("kakitome_workers_ended_total", "Worker processes that ended without being asked to.", {});

  hear(facts: Facts): void {
    const { event } = facts;
    const step = STEP_BY[event];
    if (step) this.#steps({ step });
    if (event === "session.released") this.#released({ again: facts["isFirst"] === true ? "no" : "yes" });
    if (event === "session.recall" && facts["outcome"] === "recalled") this.#steps({ step: "recalled" });
    if (event === "request.refused") {
      const reason = String(facts["fault"]); // one of the fault's words
      this.#requests({ reason });
      if (facts["path"] === PRESENT) this.#refused({ reason });
    }
    const outcome = /^receipt\.(sent|waits|refused)$/u.exec(event)?.[1];
    if (outcome !== undefined) this.#receipts({ outcome });
    if (event === "table.swept") this.#swept({}, Number(facts["rows"]));
    if (event === "table.went-back") this.#wentBack({});
    if (event === "worker.ended") this.#workersEnded({});
  }
}

export interface Gauged {
  readonly health: Health;
  readonly outbox: Pick<Outbox, "waiting">;
  certificates(): Readonly<Record<string, Certificate>>;
  now(): Date;
}

/** Adds what is read at each scrape. */
export function addGauges(metrics: Metrics, { health, outbox, certificates, now }: Gauged): void {
  metrics.gauge("kakitome_dependency_ready", "1 where everything of this kind is ready, as /readyz tells.", ["dependency"], async () =>
    readings(await health.readiness()),
  );
  metrics.gauge("kakitome_outbox_receipts", "Receipts and reports that wait to be mailed.", [], async () => [
    { labels: {}, value: outbox.waiting.receipts },
  ]);
  metrics.gauge("kakitome_outbox_oldest_seconds", "How long the oldest of them waits, as far as this process knows.", [], async () => [
    { labels: {}, value: outbox.waiting.oldestMs / 1_000 },
  ]);
  metrics.gauge("kakitome_certificate_left_seconds", "Time until the certificate ends; negative afterwards.", ["certificate"], async () =>
    Object.entries(certificates()).map(([certificate, { notAfter }]) => ({
      labels: { certificate },
      value: (notAfter.getTime() - now().getTime()) / 1_000,
    })),
  );
  metrics.gauge("kakitome_certificate_lifetime_seconds", "From the certificate's beginning to its end.", ["certificate"], async () =>
    Object.entries(certificates()).map(([certificate, { notBefore, notAfter }]) => ({
      labels: { certificate },
      value: (notAfter.getTime() - notBefore.getTime()) / 1_000,
    })),
  );
}
