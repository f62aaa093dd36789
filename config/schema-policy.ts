/** The policy of a gateway as an administrator writes it: defaults, and rules by domain, subdomains or address (docs/policy.md). */
import { z } from "zod";
import { parseDomain, parseMailbox } from "../mime/address.ts";
import { duration } from "./units.ts";
import { parsed, path, time } from "./parsed.ts";

/** `seal`: always, refused where that cannot be. `pass`: unsealed, unless the mail asks for more. `refuse`: no mail goes there. */
const action = z.enum(["seal", "pass", "refuse"]);
/** Where no `action` is named: what happens to a recipient without a certificate. */
const unenrolled = z.enum(["refuse", "pass"]);
/** `held`: the key is kept back by the broker. `enclosed`: it travels inside, for any S/MIME client. */
const hold = z.enum(["held", "enclosed"]);
/** `inner`: sign, then seal. `outer`: seal, then sign. `both`: triple wrap. */
const signing = z.enum(["inner", "outer", "both"]);
/** With a new session ID, or with the same again. */
const confirm = z.enum(["next-session", "same-session"]);
/** How an enclosed key travels to an RSA certificate; `pkcs1` only for clients that read nothing better. */
const transport = z.enum(["oaep", "pkcs1"]);
/** Of notices to the sender. */
const language = z.enum(["en", "ja"]);
/** While the broker cannot be reached: the client tries again, or the letter goes as plain S/MIME without receipt. */
const whenBrokerDown = z.enum(["wait", "enclosed"]);
const subject = z.string().min(1).max(200);

const rule = z.strictObject({
  action: action.optional(),
  unenrolled: unenrolled.optional(),
  hold: hold.optional(),
  signing: signing.optional(),
  confirm: confirm.optional(),
  expiry: parsed(duration).optional(),
  warn: parsed(duration).optional(),
  receipt: z.boolean().optional(),
  subject: subject.optional(),
  language: language.optional(),
  whenBrokerDown: whenBrokerDown.optional(),
  transport: transport.optional(),
});

/** The name of a rule in lower case. @throws Fault `malformed` */
function ruleName(name: string): string {
  if (name.startsWith("*.")) return `*.${parseDomain(name.slice(2))}`;
  return name.includes("@") ? parseMailbox(name).key : parseDomain(name);
}

const rules = z
  .record(z.string(), rule)
  .transform((given, context) => {
    const named = new Map<string, z.output<typeof rule>>();
    for (const [name, value] of Object.entries(given)) {
      const complain = (message: string): void => context.addIssue({ code: "custom", message, path: [name] });
      try {
        const key = ruleName(name);
        if (named.has(key)) complain(`a second rule for ${key}`);
        named.set(key, value);
      } catch {
        complain(`"${name}" is not a domain, *.domain or address`);
      }
    }
    return Object.fromEntries(named);
  })
  .prefault({});

export const policySchema = z.strictObject({
  /** What happens to recipients: without it they are sealed to where that can be, and otherwise `unenrolled` says. */
  action: action.optional(),
  unenrolled: unenrolled.default("refuse"),
  /** What stands outside instead of the Subject. */
  subject: subject.default("[...]"),
  /** How long a letter can be opened. */
  expiry: time("30d"),
  /** After so long without an opening the broker tells the sender; without it, it does not. */
  warn: parsed(duration).optional(),
  /** Whether the receipt is mailed to the sender. */
  receipt: z.boolean().default(true),
  hold: hold.default("held"),
  signing: signing.default("inner"),
  confirm: confirm.default("next-session"),
  transport: transport.default("oaep"),
  language: language.default("en"),
  whenBrokerDown: whenBrokerDown.default("wait"),
  /** By address, domain, or `*.domain` for the domains below one; the more exact name counts before the wider one, field by field. */
  rules,
  /** Folder of PEM files, one certificate each, of recipients who are not enrolled; they get the enclosed form. */
  certificates: path.optional(),
  /** The second layer, sealed to the recipient: without it the broker's key alone would open a letter. */
  dual: z.boolean().default(true),
});

export type PolicyConfig = z.output<typeof policySchema>;

/** The policy of a gateway whose configuration says nothing of it. */
export const standardPolicy = (given: z.input<typeof policySchema> = {}): PolicyConfig => policySchema.parse(given);
