/** Mail of other senders that a mail server in front brings: it goes on as it is, at once, and is never spooled. */
import { randomBytes } from "node:crypto";
import { Fault } from "../mime/fault.ts";
import { fieldsNamed, splitMessage, valueOf } from "../mime/headers.ts";
import { received } from "./outbound.ts";
import type { Relay } from "./relay.ts";
import type { SealingParts } from "./sealing.ts";
import type { Submission } from "./submission.ts";

/** A submission of somebody who is not ours, or of nobody. */
export interface Transit extends Omit<Submission, "sender" | "submitter"> {
  /** Reverse-path; empty for bounces (RFC 5321 §4.5.5). */
  readonly sender: string;
}

/** No policy was asked about the recipients of such a mail. */
export const UNASKED = { decision: "pass", standing: "none" } as const;

/** Passes the mail on to the next hop under a trace field. @returns the id in that field. @throws Fault as `Relay.passOn` */
export async function passThrough(
  parts: Pick<SealingParts, "now" | "name"> & { readonly relay: Pick<Relay, "passOn"> },
  transit: Transit,
): Promise<string> {
  if (transit.recipients.length === 0) throw new Fault("internal", "a mail without recipients");
  const id = randomBytes(16).toString("hex");
  const [messageId] = fieldsNamed(splitMessage(transit.message).fields, "message-id").map((item) => valueOf(item));
  const mail = Buffer.concat([received(parts, transit, id).raw, transit.message]);
  await parts.relay.passOn(transit, transit.recipients, mail, messageId ?? "");
  return id;
}
