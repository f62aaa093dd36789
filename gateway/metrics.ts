/** What a gateway counts: letters by what became of them, out of its log's lines; and gauges of its stores, lines and certificates. */
import type { Facts } from "../config/log.ts";
import { Metrics } from "../config/metrics.ts";
import { readings, type Health } from "../config/health.ts";
import type { Certificate } from "../mime/certificate.ts";
import type { Identities } from "./identities.ts";
import type { Relay } from "./relay.ts";
import type { Spool } from "./spool.ts";
import type { Standing } from "./standing.ts";

const SENT = ["accepted", "passed", "without-broker", "relayed", "given-up", "opened", "delayed", "expired", "recalled"] as const;
const RECEIVED = ["presented", "filed", "confirmed", "not-opened", "recalled"] as const;
/** `put-off` stays in the queue of whoever brought it. */
const ARRIVED = ["opened", "as-it-came", "put-off", "refused"] as const;

/** Which state a line reports of a copy that was sent. */
const SENT_BY: Readonly<Record<string, (typeof SENT)[number]>> = {
  "letter.relayed": "relayed",
  "letter.given-up": "given-up",
  "receipt.verified": "opened",
  "receipt.delayed": "delayed",
  "receipt.expired": "expired",
  "receipt.recalled": "recalled",
};
const RECEIVED_BY: Readonly<Record<string, (typeof RECEIVED)[number]>> = {
  "letter.presented": "presented",
  "letter.filed": "filed",
  "letter.confirmed": "confirmed",
  "letter.not-opened": "not-opened",
  "letter.recalled": "recalled",
};

/** Counts out of log lines. */
export class Counted {
  readonly metrics = new Metrics();
  readonly #sent = this.metrics.counter("kakitome_letters_sent_total", "Copies of letters that were sent here, by what became of them.", {
    state: SENT,
  });
  readonly #received = this.metrics.counter("kakitome_letters_received_total", "Letters that came in, by how far they came.", {
    state: RECEIVED,
  });
  readonly #opened = this.metrics.times(
    "kakitome_letter_opened_seconds",
    "From the 250 to the opening by the broker's clock, of each copy whose receipt came.",
  );
  readonly #receipt = this.metrics.times("kakitome_letter_receipt_seconds", "From the 250 to the verified receipt, of each copy.");
  readonly #lag = this.metrics.times(
    "kakitome_watcher_lag_seconds",
    "From a sealed letter's arrival in the mailbox to its opened copy there.",
  );
  readonly #connects = this.metrics.counter("kakitome_watcher_connects_total", "Connections to mailboxes that were opened.", {});
  readonly #breaks = this.metrics.counter("kakitome_watcher_breaks_total", "Connections to mailboxes that broke or were refused.", {});
  readonly #refused = this.metrics.counter("kakitome_submissions_refused_total", "Answers to clients that were no success, by class.", {
    class: ["4", "5"],
  });
  readonly #arrivals = this.metrics.counter("kakitome_arrivals_total", "Mails at the inbound doors, by what became of them.", {
    outcome: ARRIVED,
  });
  readonly #workersEnded = this.metrics.counter("kakitome_workers_ended_total", "Worker processes that ended without being asked to.", {});
  readonly #logins = this.metrics.counter("kakitome_logins_failed_total", "Wrong passwords at the door.", {});

  hear(facts: Facts): void {
    const { event } = facts;
    const sent = SENT_BY[event];
    if (sent) this.#sent({ state: sent });
    if (event === "letter.accepted") {
      this.#sent({ state: "accepted" }, Number(facts["sealed"] ?? 0));
      this.#sent({ state: "passed" }, Number(facts["passed"] ?? 0));
    }
    if (event === "letter.without-broker") this.#sent({ state: "without-broker" }, Number(facts["recipients"] ?? 0));
    const received = RECEIVED_BY[event];
    if (received && (event !== "letter.recalled" || "mailbox" in facts)) this.#received({ state: received }); // without one it is the sender's
    if (event === "receipt.verified") {
      this.#opened(Number(facts["openedAfterMs"]));
      this.#receipt(Number(facts["afterMs"]));
    }
    if (event === "letter.filed" && typeof facts["lagMs"] === "number") this.#lag(facts["lagMs"]);
    if (event === "mailbox.watched") this.#connects({});
    if (event === "mailbox.waits") this.#breaks({});
    if (event === "submission.refused") this.#refused({ class: String(facts["code"]).slice(0, 1) });
    if (event === "arrival.handed-on") this.#arrivals({ outcome: facts["opened"] === true ? "opened" : "as-it-came" });
    if (event === "inbound.refused" && facts["phase"] === "DATA")
      this.#arrivals({ outcome: Number(facts["code"]) < 500 ? "put-off" : "refused" });
    if (event === "submission.authentication-failed") this.#logins({});
    if (event === "worker.ended") this.#workersEnded({});
  }
}

export interface Gauged {
  readonly health: Health;
  readonly standing: Standing;
  readonly spool: Pick<Spool, "probe">;
  /** What waits in the spool; undefined where the gateway only receives. */
  waiting(): Promise<Relay["waiting"] | undefined>;
  readonly identities: Pick<Identities, "all">;
  /** The channel's, the broker's root, and those of the door, by their kind. */
  certificates(): Readonly<Record<string, readonly Certificate[]>>;
  now(): Date;
}

/** Adds what is read at each scrape. */
export function addGauges(metrics: Metrics, parts: Gauged): void {
  const { health, standing, spool, waiting, identities, now } = parts;
  const one = (name: string, help: string, read: () => number | Promise<number>): void =>
    metrics.gauge(name, help, [], async () => [{ labels: {}, value: await read() }]);
  metrics.gauge("kakitome_dependency_ready", "1 where everything of this kind is ready, as /readyz tells.", ["dependency"], async () =>
    readings(await health.readiness()),
  );
  one("kakitome_spool_letters", "Submissions in the spool that are not finished.", async () => (await waiting())?.letters ?? 0);
  one("kakitome_spool_oldest_seconds", "Age of the oldest of them; 0 where there is none.", async () => {
    const oldest = (await waiting())?.oldest;
    return oldest === undefined ? 0 : Math.max(0, (now().getTime() - oldest) / 1_000);
  });
  one("kakitome_spool_free_bytes", "Room where the spool is.", () => spool.probe());
  metrics.gauge("kakitome_watchers", "Mailboxes, by whether their watcher is connected.", ["state"], async () => {
    const connected = [...standing.watchers.values()].filter(({ ready }) => ready).length;
    return [
      { labels: { state: "connected" }, value: connected },
      { labels: { state: "waiting" }, value: standing.watchers.size - connected },
    ];
  });
  one("kakitome_watcher_disconnected_seconds", "How long the mailbox that is disconnected longest is so; 0 where none is.", () => {
    let first = Number.POSITIVE_INFINITY;
    for (const { ready, since } of standing.watchers.values()) if (!ready) first = Math.min(first, since);
    return Math.max(0, (now().getTime() - first) / 1_000);
  });
  const ending = (name: string, help: string, value: (certificate: Certificate) => number): void =>
    metrics.gauge(name, help, ["certificate"], async () => {
      const mailboxes = identities.all().flatMap(({ certificates }) => certificates ?? []);
      return Object.entries({ ...parts.certificates(), mailbox: mailboxes }).flatMap(([certificate, some]) => {
        const [first] = some.toSorted((a, b) => a.notAfter.getTime() - b.notAfter.getTime());
        return first ? [{ labels: { certificate }, value: value(first) / 1_000 }] : [];
      });
    });
  ending(
    "kakitome_certificate_left_seconds",
    "Time until the first certificate of a kind ends; negative afterwards.",
    ({ notAfter }) => notAfter.getTime() - now().getTime(),
  );
  ending(
    "kakitome_certificate_lifetime_seconds",
    "From the beginning of that certificate to its end.",
    ({ notBefore, notAfter }) => notAfter.getTime() - notBefore.getTime(),
  );
}
