/** Plain S/MIME in a mailbox whose key is its gateway's: opened with that key alone, filed like a letter. No ticket, so no key is asked for and no receipt goes out. */
import { hash } from "node:crypto";
import type { OpenedLetter } from "../mime/bind.ts";
import { openPlain, readPlain } from "../mime/open-plain.ts";
import { restore } from "../mime/payload.ts";
import { file, keep, leave, type FilingParts, type Outcome } from "./filing.ts";
import type { Letterbox, Seen } from "./mailbox.ts";
import { resultFields, type OpeningParts } from "./opening.ts";

/**
 * Opens and files one such mail; anything else is never touched.
 * @throws Fault with retry `later`: nothing is lost, the same call is to be made again
 */
export async function receivePlain(parts: OpeningParts & FilingParts, mailbox: Letterbox, seen: Seen, mail: Buffer): Promise<Outcome> {
  const { openers } = parts.identity();
  const envelope = readPlain(mail, openers);
  if (!envelope) return "left";
  const name = hash("sha256", envelope);
  return parts.journal.alone(name, async () => {
    const before = await parts.journal.find(parts.own.address.address, name);
    const isFiled = before?.stage === "opened";
    if (before?.stage === "failed" || (seen.flags.includes("\\Deleted") && !isFiled)) return "left";
    if (!isFiled && !(await isOpened(parts, mailbox, seen, { envelope, name }))) return "left";
    await mailbox.retire(seen.uid);
    return "filed";
  });
}

/** @returns whether the opened copy is in the mailbox; otherwise the original is left there, flagged */
async function isOpened(
  parts: OpeningParts & FilingParts,
  mailbox: Letterbox,
  seen: Seen,
  { envelope, name }: { envelope: Buffer; name: string },
): Promise<boolean> {
  const { own, log } = parts;
  let opened: OpenedLetter;
  try {
    const recipients = [own.address, ...own.aliases].map(({ key }) => key);
    opened = openPlain(envelope, parts.identity().openers, { recipients, trust: { ...parts.broker.trust, at: parts.now() } });
  } catch (thrown) {
    await leave(parts, mailbox, seen, { session: name }, thrown);
    return false;
  }
  const { payload, entity, openingValue } = opened;
  const marker = hash("sha256", openingValue).slice(0, 32); // only its author and its reader know it
  await keep(parts, name, payload.messageId, { stage: "begun" });
  const letter = restore(payload, entity, own.deliver, resultFields(parts, opened, { marker }));
  await file(mailbox, seen, { letter, marker, claimedUntil: Number.POSITIVE_INFINITY }, false);
  await keep(parts, name, payload.messageId, { stage: "opened" });
  log.info({ event: "letter.filed-plain", mailbox: own.address.address, sender: payload.from.address, id: name.slice(0, 12) });
  return true;
}
