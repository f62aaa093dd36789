/** When an end is near enough to speak of, and the warnings in the log of certificates that do not renew by themselves: once a day each. */
import type { Certificate } from "../mime/certificate.ts";
import type { Log } from "./log.ts";

const DAY_MS = 86_400_000;
const MOST_NOTICE_MS = 21 * DAY_MS;
const URGENT_MS = 3 * DAY_MS;

/**
 * How long before its end a certificate is spoken of: 21 days, and a quarter of its time where that is less, for what renews by itself does so
 * with a third left; a root a tenth of its time, for whoever issues under it needs as long as it issues for. config/alerts.yml says the same.
 */
export function noticeOf({ notBefore, notAfter, isRoot }: { notBefore: Date; notAfter: Date; isRoot: boolean }): number {
  const lifetime = notAfter.getTime() - notBefore.getTime();
  return Math.max(Math.min(MOST_NOTICE_MS, lifetime / 4), isRoot ? lifetime / 10 : 0);
}

export class Endings {
  readonly #log: Log;
  readonly #warned = new Map<string, number>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** @param certificates by what they are for */
  look(certificates: Readonly<Record<string, Certificate>>, now: Date): void {
    for (const [certificate, { notBefore, notAfter }] of Object.entries(certificates)) {
      const left = notAfter.getTime() - now.getTime();
      const today = Math.floor(now.getTime() / DAY_MS);
      const notice = noticeOf({ notBefore, notAfter, isRoot: certificate === "root" });
      if (left >= notice || this.#warned.get(certificate) === today) continue;
      this.#warned.set(certificate, today);
      const facts = { event: "certificate.ends", certificate, days: Math.floor(left / DAY_MS), until: notAfter.toISOString() };
      if (left < Math.min(URGENT_MS, notice / 2)) this.#log.error(facts);
      else this.#log.warn(facts);
    }
  }
}
