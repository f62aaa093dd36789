/** What the policy would do with a mail, recipient by recipient, and why: the same decisions as at RCPT and DATA, and nothing is sent (docs/policy.md). */
import type { GatewayConfig } from "../config/schema.ts";
import type { Log } from "../config/log.ts";
import type { Mailbox } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import { accept } from "./accept.ts";
import { brokerDirectory, type Directory } from "./directory.ts";
import { openChannel } from "./identity.ts";
import { expiryOf, openPolicy, type Policy, type Ruling } from "./policy.ts";
import { replyFor } from "./reply.ts";

export interface Explained {
  readonly recipient: string;
  readonly action: "seal" | "pass" | "refuse";
  /** Where it is decided: `RCPT`: the rules alone; `DATA`: the mail has a say. */
  readonly at: "RCPT" | "DATA";
  readonly because: readonly string[];
  /** What a client is told, where it is refused. */
  readonly reply?: string;
  readonly hold?: string;
  readonly signing?: string;
  readonly confirm?: string;
  readonly expiresAt?: string;
  readonly warnAt?: string;
  readonly receipt?: boolean;
  readonly subject?: string;
  readonly language?: string;
  readonly whenBrokerDown?: string;
}

export interface Question {
  readonly message: Buffer;
  readonly sender: Mailbox;
  readonly recipients: readonly Mailbox[];
  /** As RCPT would have it (RFC 3461 §4.1). */
  readonly notify: readonly string[];
  /** Supposes this of every recipient instead of asking the broker. */
  readonly assume?: "enrolled" | "unenrolled" | "away" | undefined;
}

/** Opens the gateway's policy and asks it. @throws Fault `malformed`, `unavailable` */
export async function explainPolicy(config: GatewayConfig, question: Question, log: Log, signal: AbortSignal): Promise<Explained[]> {
  const now = () => new Date();
  const { assume } = question;
  if (assume !== undefined) return explain(openPolicy(config.policy, supposed(assume), now), question, config.name, now(), signal);
  const { broker } = await openChannel(config, log, now);
  try {
    return await explain(openPolicy(config.policy, brokerDirectory(config, broker, now), now), question, config.name, now(), signal);
  } finally {
    await broker.close();
  }
}

function supposed(assume: NonNullable<Question["assume"]>): Directory {
  return {
    isEnrolled: async () => {
      if (assume === "away") throw new Fault("unavailable", "the broker is supposed to be away");
      return assume === "enrolled";
    },
  };
}

/** @param host names the gateway */
export async function explain(policy: Policy, question: Question, host: string, now: Date, signal: AbortSignal): Promise<Explained[]> {
  const { sender, message, recipients } = question;
  const submitter = { name: sender.address, identities: [sender] };
  const envelope = { submitter, sender, recipients: [], envelopeId: undefined, returns: undefined, protocol: "local" };
  const explained: Explained[] = [];
  for (const mailbox of recipients) {
    let at: Explained["at"] = "RCPT";
    try {
      const admitted = await policy.decide(mailbox, signal);
      at = "DATA";
      const { wish, isSealed } = accept({ ...envelope, message }, host, now);
      const ruling: Ruling = isSealed
        ? { outcome: "pass", because: ["a registered letter already: it goes on as it is"] }
        : policy.settle({ mailbox, ...admitted, notify: question.notify }, wish);
      explained.push(inWords(mailbox, ruling, now));
    } catch (thrown) {
      const { code, text } = replyFor(thrown);
      const reason = Fault.from(thrown).message;
      explained.push({ recipient: mailbox.address, action: "refuse", at, because: [reason], reply: `${code} ${text}` });
    }
  }
  return explained;
}

function inWords(mailbox: Mailbox, ruling: Ruling, now: Date): Explained {
  const { because } = ruling;
  const head = { recipient: mailbox.address, at: "DATA" as const, because };
  if (ruling.outcome === "pass") return { ...head, action: "pass" };
  if (ruling.outcome === "fail") return { ...head, action: "refuse", reply: ruling.advice };
  const { hold, signing, confirm, warn, receipt, subject, language, mayGoWithout } = ruling.form;
  return {
    ...head,
    action: "seal",
    hold,
    signing,
    confirm,
    expiresAt: expiryOf(ruling.form, now).toISOString(),
    ...(warn !== undefined && { warnAt: new Date(now.getTime() + warn).toISOString() }),
    receipt,
    subject,
    language,
    whenBrokerDown: mayGoWithout ? "enclosed" : "wait",
  };
}
