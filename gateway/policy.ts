/** What happens to a recipient: sealed, passed on unsealed because a rule says so, or refused with words a person can act on. */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { BrokerClient } from "../broker/client.ts";
import type { GatewayConfig } from "../config/schema.ts";
import type { Mailbox } from "../mime/address.ts";
import { parseCertificate, type Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import type { KeyHold, SigningOrder } from "../mime/letter.ts";
import type { KeyTransport } from "../mime/seal.ts";

export type Decision = "seal" | "pass";

/** Finds out whether a mailbox is enrolled. */
export interface Directory {
  /** @throws Fault `unavailable` */
  isEnrolled(mailbox: Mailbox, signal: AbortSignal): Promise<boolean>;
}

/** How a letter is sealed for a recipient, and with what where the broker has no certificate of it. */
export interface Form {
  readonly hold: KeyHold;
  readonly signing: SigningOrder;
  readonly certificate: Certificate | undefined;
  /** For the enclosed form to an RSA certificate. */
  readonly transport: KeyTransport;
}

/** A rule that is really there: names such as "constructor" are on every object. */
function own<T>(rules: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(rules, name) ? rules[name] : undefined;
}

export class Policy {
  readonly #rules: GatewayConfig["policy"];
  readonly #directory: Directory;
  readonly #known: ReadonlyMap<string, Certificate>;
  readonly #enrolled = new Set<string>();

  /** @param known certificates of recipients who are not enrolled, by mailbox key */
  constructor(rules: GatewayConfig["policy"], directory: Directory, known: ReadonlyMap<string, Certificate> = new Map()) {
    this.#rules = rules;
    this.#directory = directory;
    this.#known = known;
  }

  /** The form for a recipient who is to be sealed to: an address counts before its domain. Who is not enrolled gets the enclosed form. */
  formFor(recipient: Mailbox): Form {
    const { forms, hold, signing } = this.#rules;
    const rule = { ...own(forms, recipient.domain), ...own(forms, recipient.key) };
    const certificate = this.#enrolled.has(recipient.key) ? undefined : this.#known.get(recipient.key);
    return {
      hold: certificate ? "enclosed" : (rule.hold ?? hold),
      signing: rule.signing ?? signing,
      certificate,
      transport: rule.transport ?? "oaep",
    };
  }

  /** @throws Fault `no-certificate`: to be refused; `unavailable`: the broker is away, nothing goes out in clear for that */
  async decide(recipient: Mailbox, signal: AbortSignal): Promise<Decision> {
    if (await this.#directory.isEnrolled(recipient, signal)) {
      this.#enrolled.add(recipient.key);
      return "seal";
    }
    this.#enrolled.delete(recipient.key);
    if (this.#known.has(recipient.key)) return "seal";
    const rule = own(this.#rules.domains, recipient.domain) ?? this.#rules.unenrolled;
    if (rule === "pass") return "pass";
    throw new Fault("no-certificate", "the recipient is not enrolled", {
      advice: `${recipient.address} is not enrolled for registered mail. Ask the recipient's administrator to enrol the address, or send the letter by ordinary mail.`,
    });
  }
}

/** The policy of a gateway: its rules, the broker's directory, and the folder of known certificates. */
export function openPolicy(rules: GatewayConfig["policy"], broker: BrokerClient, now: () => Date): Policy {
  const directory = remembering(async (mailbox, signal) => (await broker.lookUp(mailbox, signal)) !== undefined, now);
  return new Policy(rules, directory, rules.certificates === undefined ? new Map() : readCertificates(rules.certificates));
}

/** Reads a folder of PEM certificates, one a file, by the mailboxes they name. @throws Fault `malformed` with the file that cannot be read */
function readCertificates(folder: string): Map<string, Certificate> {
  const known = new Map<string, Certificate>();
  for (const name of readdirSync(folder).filter((one) => one.endsWith(".pem"))) {
    try {
      const certificate = parseCertificate(readFileSync(join(folder, name)));
      for (const mailbox of certificate.mailboxes) known.set(mailbox, certificate);
    } catch (cause) {
      throw new Fault("malformed", `${join(folder, name)} holds no certificate that can be used`, { cause });
    }
  }
  return known;
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
