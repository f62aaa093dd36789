/** What happens to a recipient: at RCPT what the rules alone decide, at DATA what they and the mail's own wishes decide together (docs/policy.md). */
import type { PolicyConfig } from "../config/schema-policy.ts";
import type { Mailbox } from "../mime/address.ts";
import type { Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import type { KeyHold } from "../mime/letter.ts";
import { KnownCertificates, type Directory } from "./directory.ts";
import { governing, type Governing, type Terms } from "./rules.ts";
import type { Wish } from "./triggers.ts";

type Decision = "seal" | "pass";

/**
 * What is known of a recipient. `enrolled`: the broker has its certificate. `known`: we have it. `cached`: the broker is away and had
 * it before. `none`: nobody has. `unknown`: the broker is away, and the rules did not need it.
 */
export type Standing = "enrolled" | "known" | "cached" | "none" | "unknown";

/** A recipient as RCPT TO left it. */
export interface Admitted {
  readonly decision: Decision;
  readonly standing: Standing;
}

/** How a letter is sealed for a recipient, and with what where the broker has no certificate of it. */
export interface Form extends Pick<
  Terms,
  "hold" | "signing" | "transport" | "confirm" | "expiry" | "warn" | "receipt" | "subject" | "language"
> {
  readonly certificate: Certificate | undefined;
  /** When it ends, where the mail says so; `expiry` counts beside it where it comes from a rule. */
  readonly expires: Date | undefined;
  readonly isExpiryRuled: boolean;
  /** Whether it may go as plain S/MIME while the broker is away. */
  readonly mayGoWithout: boolean;
}

/** What became of a recipient, and why: one sentence a reason. */
export type Ruling = { readonly because: readonly string[] } & (
  | { readonly outcome: "seal"; readonly form: Form }
  | { readonly outcome: "pass" }
  | { readonly outcome: "fail"; readonly advice: string }
);

/** What a ruling is made for. */
export interface Asking extends Admitted {
  readonly mailbox: Mailbox;
  /** Conditions for notices (RFC 3461 §4.1): SUCCESS asks for the receipt. */
  readonly notify: readonly string[];
}

export class Policy {
  readonly #policy: PolicyConfig;
  readonly #directory: Directory;
  readonly #known: Pick<KnownCertificates, "get">;

  /** @param known certificates of recipients who are not enrolled, by mailbox key */
  constructor(policy: PolicyConfig, directory: Directory, known: Pick<KnownCertificates, "get"> = new Map()) {
    this.#policy = policy;
    this.#directory = directory;
    this.#known = known;
  }

  /** The language of notices about a recipient. */
  languageFor(mailbox: Mailbox): Terms["language"] {
    return governing(this.#policy, mailbox).terms.language;
  }

  /**
   * RCPT TO: refuses whom no wish of the mail could help.
   * @throws Fault `forbidden`, `no-certificate`: to be refused; `unavailable`: the broker is away, nothing goes out in clear for that
   */
  async decide(mailbox: Mailbox, signal: AbortSignal): Promise<Admitted> {
    const { terms } = governing(this.#policy, mailbox);
    if (terms.action === "refuse") {
      throw new Fault("forbidden", "the policy refuses the recipient", {
        advice: `The policy of this gateway sends no mail to ${mailbox.address}.`,
      });
    }
    const standing = await this.#standingOf(mailbox, terms, signal);
    if (terms.action === "pass") return { decision: "pass", standing };
    if (standing !== "none") return { decision: "seal", standing };
    if (terms.action === undefined && terms.unenrolled === "pass") return { decision: "pass", standing };
    throw new Fault("no-certificate", "the recipient is not enrolled", { advice: notEnrolled(mailbox) });
  }

  /** DATA: the rules and the wishes together. @throws Fault `unavailable`: it depends on the broker, which is away */
  settle(asking: Asking, wish: Wish): Ruling {
    const { mailbox, decision, standing } = asking;
    const { terms, names, from } = governing(this.#policy, mailbox);
    const because = [names.length === 0 ? "no rule speaks of the recipient" : `rules: ${names.join(" < ")}`];
    if (decision === "pass" && !wish.seal) {
      because.push(terms.action === "pass" ? `action: pass (${from.action ?? "default"})` : "not enrolled, unenrolled: pass");
      return { outcome: "pass", because };
    }
    if (decision === "pass") because.push("the mail asks to be sealed");
    if (standing === "unknown") throw new Fault("unavailable", "the broker is away, and the mail asks to be sealed");
    if (standing === "none") return { outcome: "fail", because: [...because, "no certificate"], advice: notEnrolled(mailbox) };
    const asked = strengthened({ terms, names, from }, wish, asking.notify);
    because.push(...asked.because);
    const certificate = standing === "known" ? this.#known.get(mailbox.key) : undefined;
    if (certificate && wish.hold === "held") {
      const advice = `${mailbox.address} is not enrolled, so its key cannot be held by the broker, as the mail asks. Send it without [registered].`;
      return { outcome: "fail", because: [...because, "held by wish, but not enrolled"], advice };
    }
    if (certificate) because.push("not enrolled: enclosed, to the certificate that is known here");
    return {
      outcome: "seal",
      because,
      form: {
        ...asked.terms,
        hold: certificate ? "enclosed" : asked.terms.hold,
        certificate,
        expires: wish.expires,
        isExpiryRuled: from.expiry !== undefined,
        mayGoWithout: terms.whenBrokerDown === "enclosed" && wish.hold !== "held",
      },
    };
  }

  async #standingOf(mailbox: Mailbox, terms: Terms, signal: AbortSignal): Promise<Standing> {
    try {
      if (await this.#directory.isEnrolled(mailbox, signal)) return "enrolled";
      return this.#known.get(mailbox.key) ? "known" : "none";
    } catch (thrown) {
      if (Fault.from(thrown).code !== "unavailable") throw thrown;
      if (terms.whenBrokerDown === "enclosed" && (await this.#directory.cached?.(mailbox))) return "cached";
      if (terms.action === "pass") return "unknown";
      throw thrown;
    }
  }
}

/** A wish goes before a default; a rule it can only make stronger: held rather than enclosed, earlier, with a receipt. */
function strengthened({ terms, from }: Governing, wish: Wish, notify: readonly string[]) {
  const because: string[] = [];
  const settleOn = <T>(field: keyof Terms, ruled: T, wished: T | undefined, isStronger: (wished: T) => boolean): T => {
    if (wished === undefined || wished === ruled) return ruled;
    const rule = from[field];
    if (rule !== undefined && !isStronger(wished)) {
      because.push(`${field}: the rule ${rule} is stronger than the mail's wish`);
      return ruled;
    }
    because.push(`${field}: the mail asks for it`);
    return wished;
  };
  const wantsReceipt = notify.includes("SUCCESS") ? true : wish.receipt; // RFC 3461 §4.1
  const hold = settleOn<KeyHold>("hold", terms.hold, wish.hold, (wished) => wished === "held");
  const receipt = settleOn("receipt", terms.receipt, wantsReceipt, Boolean);
  const subject = settleOn("subject", terms.subject, wish.subject, () => false);
  if (wish.expires)
    because.push(from.expiry === undefined ? "expiry: the mail asks for it" : "expiry: the earlier of the rule's and the mail's");
  return { terms: { ...terms, hold, receipt, subject }, because };
}

const notEnrolled = ({ address }: Mailbox): string =>
  `${address} is not enrolled for registered mail. Ask the recipient's administrator to enrol the address, or send the letter by ordinary mail.`;

/** When a letter of this form ends: what the mail says, but not later than a rule says. */
export function expiryOf({ expires, expiry, isExpiryRuled }: Pick<Form, "expires" | "expiry" | "isExpiryRuled">, now: Date): Date {
  const ruled = new Date(now.getTime() + expiry);
  return expires && (!isExpiryRuled || expires < ruled) ? expires : ruled;
}

/** The policy of a gateway: its rules, the broker's directory, and the folder of known certificates. */
export function openPolicy(config: PolicyConfig, directory: Directory, now: () => Date): Policy {
  return new Policy(config, directory, new KnownCertificates(config.certificates, now));
}
