/** The inbound walk: a sealed letter in a mailbox, or on its way there, to the opened letter and its confirmation (patent S6-S10). It reads downwards in the order of the steps. */
import { hash, randomBytes } from "node:crypto";
import { ticketHash, type OpeningProof } from "../broker/client.ts";
import { haltAt } from "../config/halt.ts";
import { letterOf, type Log } from "../config/log.ts";
import { Fault } from "../mime/fault.ts";
import { splitMessage } from "../mime/headers.ts";
import { readSealed, type SealedMessage } from "../mime/message.ts";
import { file, keep, leave, type FilingParts, type Outcome } from "./filing.ts";
import { receivePlain } from "./inbound-plain.ts";
import type { Stage } from "./journal.ts";
import type { Letterbox, Seen } from "./mailbox.ts";
import { recalledNote } from "./recalled-note.ts";
import { MARKER_FIELD, open, type OpeningParts } from "./opening.ts";
import type { Language } from "./words.ts";

export interface InboundParts extends OpeningParts, FilingParts {
  /** Of notes in the mailbox. */
  readonly language: Language;
}

/**
 * Opens one letter and files it. Returns when there is nothing more to do with it: filed and confirmed, refused and flagged, or not ours.
 * @throws Fault with retry `later` or `unauthenticated`, or what the letterbox throws: nothing is lost, the same call is to be made again
 */
export async function receive(parts: InboundParts, mailbox: Letterbox, seen: Seen, signal: AbortSignal): Promise<Outcome> {
  haltAt("b1");
  const mail = await mailbox.fetch(seen.uid);
  if (!mail) return "left";
  const known = parts.log.with({ letter: letterOf(seen.messageId ?? "") });
  haltAt("b2");
  let sealed: SealedMessage | undefined;
  try {
    sealed = readSealed(mail, mailbox.use);
  } catch (thrown) {
    if (seen.flags.includes("\\Deleted")) return "left";
    const whole = await asItCame(mailbox, seen, mail);
    if (!whole) return "left";
    return leave({ ...parts, log: known }, mailbox, seen, { session: hash("sha256", whole) }, thrown); // it has no ticket to be named by
  }
  if (!sealed) return receivePlain({ ...parts, log: known }, mailbox, seen, mail);
  const session = ticketHash(sealed.shell.ticket);
  const letter = { parts, mailbox, seen, sealed, mail, session, known, log: known.with({ session: session.slice(0, 12) }) };
  return parts.journal.alone(session, () => receiveLetter(letter, signal));
}

/** Undefined where it has gone. @param mail what was fetched; reading it may have written over it */
async function asItCame(mailbox: Letterbox, { uid }: Seen, mail: Buffer): Promise<Buffer | undefined> {
  return mailbox.use === "spend" ? mailbox.fetch(uid) : mail;
}

/** Names everything below the header, to which its way adds. */
const contentOf = (mail: Buffer): string => hash("sha256", splitMessage(mail).body);

async function receiveLetter(letter: Walk, signal: AbortSignal): Promise<Outcome> {
  const { parts, mailbox, seen, session, known, mail } = letter;
  let before: Stage | undefined = await parts.journal.find(parts.own.address.address, session);
  if (before?.stage === "failed") {
    const whole = await asItCame(mailbox, seen, mail);
    if (!whole || contentOf(whole) === before.content) return "left";
    before = undefined; // whoever sees a letter on its way can send something else with its ticket, and be here first
  }
  const isEnding = before !== undefined && before.stage !== "begun";
  if (seen.flags.includes("\\Deleted") && !isEnding) return "left"; // by its reader, unopened
  try {
    if (before?.stage === "recalling" || before?.stage === "recalled") await fileRecalled(letter, before);
    else await walk(letter, before, signal);
    return "filed";
  } catch (thrown) {
    const fault = Fault.from(thrown);
    if (fault.code === "recalled" && before?.stage !== "filed") {
      await fileRecalled(letter, before);
      return "filed";
    }
    if (fault.retry === "later" || fault.code === "unauthenticated") throw thrown;
    const whole = await asItCame(mailbox, seen, mail);
    if (!whole) return "left";
    return leave({ ...parts, log: known }, mailbox, seen, { session, content: contentOf(whole) }, thrown);
  }
}

interface Walk {
  readonly parts: InboundParts;
  readonly mailbox: Letterbox;
  readonly seen: Seen;
  readonly sealed: SealedMessage;
  /** The sealed mail as it came; its body may have been written over. */
  readonly mail: Buffer;
  readonly session: string;
  /** Names the letter; `log` its session too. */
  readonly known: Log;
  readonly log: Log;
}

async function walk({ parts, mailbox, seen, sealed, session, log }: Walk, before: Stage | undefined, signal: AbortSignal): Promise<void> {
  const { broker, journal } = parts;
  let messageId = "";
  let stage = before;
  if (stage?.stage !== "filed" && stage?.stage !== "confirmed") {
    if (!stage) await keep(parts, session, messageId, { stage: "begun" });
    haltAt("b3");
    const opening = await open(parts, sealed, { session, isFiled: true }, log, signal); // S6-S8
    haltAt("b5");
    await file(mailbox, seen, opening, stage === undefined && opening.isFirst);
    haltAt("b6");
    log.info({
      event: "letter.filed",
      step: "S9",
      sender: opening.sender,
      lagMs: seen.internalDate && parts.now().getTime() - seen.internalDate.getTime(),
    });
    messageId = opening.messageId;
    stage = { stage: "filed", nextTicket: opening.nextTicket.toString("base64"), ...encoded(opening.proof) };
    await keep(parts, session, messageId, stage);
    haltAt("b7");
  }
  if (stage.stage === "filed") {
    const { evidence } = await broker.confirm(Buffer.from(stage.nextTicket, "base64"), decoded(stage), parts.identity(), signal); // S10
    haltAt("b8");
    log.info({ event: "letter.confirmed", step: "S10", evidence });
    messageId ||= (await journal.find(parts.own.address.address, session))?.messageId ?? "";
    await keep(parts, session, messageId, { stage: "confirmed", evidence });
    haltAt("b9");
  }
  await mailbox.retire(seen.uid);
  haltAt("b10");
}

/** A note in place of a letter that its sender recalled, once; the journal has its marker before it is filed. Then the original goes. */
async function fileRecalled({ parts, mailbox, seen, sealed, mail, session, log }: Walk, before: Stage | undefined): Promise<void> {
  if (before?.stage !== "recalled") {
    const isAgain = before?.stage === "recalling";
    const marker = isAgain ? before.marker : randomBytes(16).toString("hex");
    const { name: host, language, now, own } = parts;
    const isEnclosed = sealed.hold === "enclosed";
    const note = recalledNote(mail, { host, own: own.address, language, marker, isEnclosed, now: now() });
    if (!isAgain) await keep(parts, session, note.messageId, { stage: "recalling", marker });
    if (!isAgain || !(await mailbox.hasOpened({ name: MARKER_FIELD, value: marker }))) {
      await mailbox.append(note.mail, { ...seen, flags: [] });
      if (isAgain) await mailbox.keepOne({ name: MARKER_FIELD, value: marker });
    }
    log.info({ event: "letter.recalled", mailbox: parts.own.address.address });
    await keep(parts, session, note.messageId, { stage: "recalled" });
  }
  await mailbox.retire(seen.uid);
}

/** The proof as the journal keeps it: base64. The opening value is no secret once the letter is open, and the letter is filed already. */
function encoded({ receipt, openingValue }: OpeningProof): { receipt: string; openingValue?: string } {
  return { receipt: receipt.toString("base64"), ...(openingValue && { openingValue: openingValue.toString("base64") }) };
}

function decoded({ receipt, openingValue }: { readonly receipt: string; readonly openingValue?: string }): OpeningProof {
  return {
    receipt: Buffer.from(receipt, "base64"),
    openingValue: openingValue === undefined ? undefined : Buffer.from(openingValue, "base64"),
  };
}
