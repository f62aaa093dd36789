/** Which rules of the policy speak of a recipient, and what they say together: field by field, the more exact name before the wider one (docs/policy.md). */
import type { PolicyConfig } from "../config/schema-policy.ts";
import type { Mailbox } from "../mime/address.ts";

/** What can be said of a recipient; the fields that a default fills are always there. */
export type Terms = Omit<PolicyConfig, "rules" | "certificates" | "dual">;

export interface Governing {
  readonly terms: Terms;
  /** The rules that speak of the recipient, the widest first. */
  readonly names: readonly string[];
  /** Which rule said what; a field that is not here comes from the defaults. */
  readonly from: Readonly<Partial<Record<keyof Terms, string>>>;
}

/** default < `*.example` < `*.b.example` < `mail.b.example` < `x@mail.b.example`. */
export function governing(policy: PolicyConfig, { domain, key }: Mailbox): Governing {
  const labels = domain.split(".");
  const above = labels.slice(1).map((_, at) => `*.${labels.slice(at + 1).join(".")}`);
  const names = [...above.toReversed(), domain, key].filter((name) => Object.hasOwn(policy.rules, name)); // "constructor" is on every object
  const { action, unenrolled, hold, signing, confirm, expiry, warn, receipt, subject, language, whenBrokerDown, transport } = policy;
  const defaults = { action, unenrolled, hold, signing, confirm, expiry, warn, receipt, subject, language, whenBrokerDown, transport };
  const from: Partial<Record<keyof Terms, string>> = {};
  let terms: Terms = defaults;
  for (const name of names) {
    const said = Object.entries(policy.rules[name] ?? {}).filter(([, value]) => value !== undefined);
    terms = { ...terms, ...Object.fromEntries(said) };
    for (const [field] of said) from[field as keyof Terms] = name;
  }
  return { terms, names, from };
}
