/** What happens to a recipient: sealed, passed on unsealed because a rule says so, or refused with words a person can act on. */
import type { GatewayConfig } from "../config/schema.ts";
import type { Mailbox } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";

export type Decision = "seal" | "pass";

/** Finds out whether a mailbox is enrolled. */
export interface Directory {
  /** @throws Fault `unavailable` */
  isEnrolled(mailbox: Mailbox, signal: AbortSignal): Promise<boolean>;
}

export class Policy {
  readonly #rules: GatewayConfig["policy"];
  readonly #directory: Directory;

  constructor(rules: GatewayConfig["policy"], directory: Directory) {
    this.#rules = rules;
    this.#directory = directory;
  }

  /** @throws Fault `no-certificate`: to be refused; `unavailable`: the broker is away, nothing goes out in clear for that */
  async decide(recipient: Mailbox, signal: AbortSignal): Promise<Decision> {
    if (await this.#directory.isEnrolled(recipient, signal)) return "seal";
    const rule = this.#rules.domains[recipient.domain] ?? this.#rules.unenrolled;
    if (rule === "pass") return "pass";
    throw new Fault("no-certificate", "the recipient is not enrolled", {
      advice: `${recipient.address} is not enrolled for registered mail. Ask the recipient's administrator to enrol the address, or send the letter by ordinary mail.`,
    });
  }
}

const REMEMBERED_MS = 60_000;
const MOST_REMEMBERED = 10_000;

/** Remembers for a minute who is enrolled; an absence is never remembered, so that an enrolment counts at once. */
export function remembering(isEnrolled: Directory["isEnrolled"], now: () => Date): Directory {
  const known = new Map<string, number>();
  return {
    async isEnrolled(mailbox, signal) {
      const time = now().getTime();
      if ((known.get(mailbox.key) ?? 0) > time) return true;
      const enrolled = await isEnrolled(mailbox, signal);
      if (known.size >= MOST_REMEMBERED) known.clear();
      if (enrolled) known.set(mailbox.key, time + REMEMBERED_MS);
      return enrolled;
    },
  };
}
