/** `kakitome seal` and `kakitome open`: the two walks for one message on standard input, for scripts and content filters. */
import { join } from "node:path";
import { ticketHash, type BrokerClient } from "../broker/client.ts";
import type { Log } from "../config/log.ts";
import type { GatewayConfig } from "../config/schema.ts";
import { leastQuoted, type Mailbox } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import { joinMessage } from "../mime/headers.ts";
import { readSealed } from "../mime/message.ts";
import { NOT_FOR_RECIPIENTS } from "../mime/payload.ts";
import { whole } from "../mime/pieces.ts";
import { accept } from "./accept.ts";
import { Elsewhere } from "./elsewhere.ts";
import { Identities, hasAddress } from "./identities.ts";
import { openChannel } from "./identity.ts";
import { Letters } from "./letters.ts";
import { open } from "./opening.ts";
import { brokerDirectory } from "./directory.ts";
import { received } from "./outbound.ts";
import { openPolicy } from "./policy.ts";
import { recordOf, sealFor, sealingParts } from "./sealing.ts";
import { settle } from "./settle.ts";
import { FOLDERS } from "./status.ts";

/** A gateway's identity at the broker for the time of one command. */
interface Desk {
  readonly broker: BrokerClient;
  readonly identities: Identities;
}

/** Works as the gateway for the time of one command, which takes the mailboxes' keys as they are: to enrol and renew them is the running gateway's. */
export async function atDesk<T>(config: GatewayConfig, log: Log, signal: AbortSignal, work: (desk: Desk) => Promise<T>): Promise<T> {
  const { broker, revocations } = await openChannel(config, log, () => new Date());
  try {
    await revocations.refresh(broker, signal);
    const identities = new Identities(config, log);
    await identities.follow();
    return await work({ broker, identities });
  } finally {
    await broker.close();
  }
}

/**
 * Seals a message for one recipient (S1-S4) and reports it as dispatched once `handOver` has taken it.
 * @throws Fault; the recipient's row at the broker then vanishes unseen
 */
export async function sealFilter(
  config: GatewayConfig,
  order: { message: Buffer; sender: Mailbox; recipient: Mailbox; handOver: (mail: Buffer) => Promise<void> },
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  await atDesk(config, log, signal, async ({ broker, identities }) => {
    const now = () => new Date();
    const directory = brokerDirectory(config, broker, now);
    const policy = openPolicy(config.policy, directory, now);
    const own = config.mailboxes.find((one) => hasAddress(one, order.sender));
    const mailbox = leastQuoted(order.recipient);
    const admitted = await policy.decide(mailbox, signal);
    const submission = {
      submitter: { name: "seal", identities: own ? [own.address, ...own.aliases] : [order.sender] },
      sender: order.sender,
      recipients: [{ mailbox, ...admitted, notify: [], originalRecipient: undefined }],
      envelopeId: undefined,
      returns: undefined,
      message: order.message,
      protocol: "local",
    };
    const parts = sealingParts({ config, broker, policy, directory, identities, log, now });
    const accepted = accept(submission, parts.name, parts.now());
    const settled = settle(policy, submission, accepted);
    const { message } = accepted;
    if (accepted.isSealed) return order.handOver(order.message); // never twice
    if (settled.sealed.length === 0) {
      const fields = message.fields.filter(({ name }) => !NOT_FOR_RECIPIENTS.includes(name));
      return order.handOver(joinMessage(fields, message.body));
    }
    const sealed = await sealFor(parts, accepted, settled.sealed, received(parts, submission, "filter"), "filter", signal);
    const [copy] = sealed.copies;
    if (!copy) throw new Fault("internal", "no copy was sealed");
    const letters = new Letters(join(config.data, FOLDERS.letters)); // the running gateway matches the receipt with it
    await letters.add(recordOf(parts, sealed));
    await order.handOver(whole(copy.mail));
    if (copy.ticket) await broker.dispatched([copy.ticket], signal);
  });
}

/**
 * Opens a sealed letter for one of the gateway's mailboxes (S6-S10); it is confirmed once `handOver` has taken it.
 * @throws Fault `malformed`: not a registered letter; `session-gone`, `cannot-open`, `forbidden`, `unavailable`
 */
export async function openFilter(
  config: GatewayConfig,
  order: { mail: Buffer; recipient: Mailbox; handOver: (letter: Buffer) => Promise<void> },
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  const sealed = readSealed(order.mail);
  if (!sealed) throw new Fault("malformed", "not a registered letter");
  const own = config.mailboxes.find((one) => hasAddress(one, order.recipient));
  if (!own) throw new Fault("forbidden", `${order.recipient.address} is not a mailbox of this gateway`);
  await atDesk(config, log, signal, async ({ broker, identities }) => {
    const identity = () => identities.of(own.address);
    const parts = {
      broker,
      brokerUrl: config.broker.url,
      name: config.name,
      own,
      elsewhere: new Elsewhere(),
      identity,
      now: () => new Date(),
    };
    const opening = await open(parts, sealed, { session: ticketHash(sealed.shell.ticket), isFiled: false }, log, signal);
    await order.handOver(opening.letter);
    await broker.confirm(opening.nextTicket, opening.proof, identity(), signal);
  });
}
