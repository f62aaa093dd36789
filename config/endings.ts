/** Warnings in the log of certificates that end and do not renew by themselves: once a day each. */
import type { Certificate } from "../mime/certificate.ts";
import type { Log } from "./log.ts";

const DAY_MS = 86_400_000;
const WARN_DAYS = 21;

export class Endings {
  readonly #log: Log;
  readonly #warned = new Map<string, number>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** @param certificates by what they are for */
  look(certificates: Readonly<Record<string, Certificate>>, now: Date): void {
    for (const [certificate, { notAfter }] of Object.entries(certificates)) {
      const days = Math.floor((notAfter.getTime() - now.getTime()) / DAY_MS);
      const today = Math.floor(now.getTime() / DAY_MS);
      if (days >= WARN_DAYS || this.#warned.get(certificate) === today) continue;
      this.#warned.set(certificate, today);
      const facts = { event: "certificate.ends", certificate, days, until: notAfter.toISOString() };
      if (days < 3) this.#log.error(facts);
      else this.#log.warn(facts);
    }
  }
}
