/** The inbound hop: what comes in by a door of ours is opened where it is a letter to one of our mailboxes, and all of it goes on to the delivery server. */
import { randomBytes } from "node:crypto";
import { letterOf, type Log } from "../config/log.ts";
import { Fault } from "../mime/fault.ts";
import { withoutPretences } from "../mime/payload.ts";
import type { Delivery } from "./delivery.ts";
import type { Outcome } from "./filing.ts";
import { receive, type InboundParts } from "./inbound.ts";
import { kindOf } from "./kind.ts";
import type { Seen } from "./mailbox.ts";
import { envelopeOf } from "./next-hop.ts";
import { claimsOf } from "./opening.ts";
import { received } from "./outbound.ts";
import { Passage, type HandedOn } from "./passage.ts";
import { INBOUND_HOP } from "./shape.ts";
import { described } from "./structure.ts";

/** One mail for one recipient, as a mail server hands it over. */
export interface Arrival {
  /** Reverse-path; empty for notices (RFC 5321 §4.5.5). */
  readonly sender: string;
  /** Forward-path, as it came. */
  readonly recipient: string;
  /** RFC 3461 §4; of a sender who named none, empty or undefined. */
  readonly notify: readonly string[];
  readonly originalRecipient: string | undefined;
  readonly envelopeId: string | undefined;
  readonly returns: "FULL" | "HDRS" | undefined;
  readonly message: Buffer;
  /** The trace protocol word (RFC 3848). */
  readonly protocol: string;
}

export interface ArrivalParts {
  /** Host name of this gateway. */
  readonly name: string;
  readonly delivery: Delivery;
  readonly handedOn: HandedOn;
  readonly log: Log;
  now(): Date;
  /** What the walk needs for a letter to this address; undefined where it is of no mailbox whose mail comes in by us. */
  walkFor(recipient: string): InboundParts | undefined;
  onReport(passage: Passage, seen: Seen): Promise<void>;
  /** A mail that somebody signed with S/MIME. */
  onSigned(passage: Passage, seen: Seen): Promise<void>;
}

/**
 * Takes one mail to the delivery server. When it resolves, the mail is there: opened and confirmed where it is a letter of ours, else as it came.
 * @returns the id in its trace field
 * @throws Declined: the delivery server's answer; Fault with retry `later`: the mail stays in the queue that it came from
 */
export async function takeIn(parts: ArrivalParts, arrival: Arrival, signal: AbortSignal): Promise<string> {
  const id = randomBytes(16).toString("hex");
  const trace = received(parts, arrival, id, INBOUND_HOP).raw;
  const handOn = (mail: Buffer): Promise<void> =>
    parts.delivery.deliver(envelopeOf(arrival, arrival), Buffer.concat([trace, mail]), signal);
  const { structure, messageId } = described(arrival.message);
  const seen: Seen = { uid: 0, octets: arrival.message.length, flags: [], internalDate: undefined, messageId, structure };
  const outcome = await lookAt(parts, arrival, seen, handOn, signal);
  if (outcome === "left") await handOn(withoutPretences(arrival.message, claimsOf(parts.name)));
  parts.log.info({ event: "arrival.handed-on", letter: letterOf(messageId ?? ""), accepted: id, opened: outcome === "filed" });
  return id;
}

/** The walk that is meant for the mail; whatever keeps it from its end is not the mail's fault. */
async function lookAt(
  parts: ArrivalParts,
  { recipient, message }: Arrival,
  seen: Seen,
  handOn: (letter: Buffer) => Promise<void>,
  signal: AbortSignal,
): Promise<Outcome> {
  const walk = parts.walkFor(recipient);
  const kind = kindOf(seen.structure);
  if (!walk || !kind) return "left";
  const passage = new Passage({ mailbox: walk.own.address.key, mail: message, handedOn: parts.handedOn, handOn });
  try {
    if (kind === "sealed") return await receive(walk, passage, seen, signal);
    await (kind === "report" ? parts.onReport(passage, seen) : parts.onSigned(passage, seen));
    return "left";
  } catch (thrown) {
    if (Fault.from(thrown).retry === "later") throw thrown;
    throw new Fault("unavailable", "the gateway cannot open letters now", { cause: thrown });
  }
}
