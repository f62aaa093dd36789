/** What a row says, as texts that the broker's MACs are over: an edited row is noticed before a key or a signature leaves (docs/protocol.md, section 6). */
import { Fault } from "../mime/fault.ts";
import type { Confirmed, Declaration, Delay, Ended, Ending, Released, Waiting } from "./session.ts";

/** Makes MACs that nobody else can make. */
export interface MacKey {
  /** 32 octets that nobody without the key can know, the same for the same text (HMAC-SHA-256). */
  mac(text: string): Buffer;
  /** Whether these octets are what `mac` says of the text, or said before a rotation of the key. */
  holds(text: string, mac: Buffer): boolean;
}

/** Each field with its length before it, so that no two rows read the same. */
function textOf(fields: readonly (string | number)[]): string {
  return fields.map((value) => `${Buffer.byteLength(String(value))}:${value}`).join(",");
}

/** The row's immutable fields. */
export function declarationText(row: Declaration): string {
  return textOf([
    row.session,
    row.gateway,
    row.sender,
    row.recipient,
    row.messageId,
    row.commit,
    row.ticketHash,
    row.terms,
    row.declaredAt,
    row.expiresAt,
  ]);
}

export function declaredFacts(row: Declaration): string {
  return `declared,${declarationText(row)}`;
}

/** The session is enough to tie it to its declaration. */
export function releasedFacts({ session, releasedAt, filing }: Pick<Released, "session" | "releasedAt" | "filing">): string {
  return `released,${textOf([session, releasedAt, filing])}`;
}

/** How a letter ended that was not opened. When its key was given out, if it was, is said by `releasedFacts`. */
export interface EndedFacts extends Pick<Ended, "session" | "state" | "endedAt"> {
  readonly isReleased: boolean;
}

export function endedFacts({ session, state, endedAt, isReleased }: EndedFacts): string {
  return `ended,${textOf([session, state, endedAt, isReleased ? "released" : "not released"])}`;
}

export function delayedFacts({ session, delayedAt }: Pick<Declaration, "session"> & Pick<Delay, "delayedAt">): string {
  return `delayed,${textOf([session, delayedAt])}`;
}

/** What a confirmation adds to the row. */
export type ConfirmedFacts = Pick<Confirmed, "confirmedAt" | "evidence" | "certificate" | "proof">;

/** Everything that the evidence is made of. */
export function confirmedFacts(row: Declaration & ConfirmedFacts & Pick<Confirmed, "releasedAt">): string {
  const { releasedAt, confirmedAt, evidence, certificate, proof } = row;
  return `confirmed,${declarationText(row)},${textOf([releasedAt, confirmedAt, evidence, certificate, proof])}`;
}

/** Before a key is given out or a confirmation taken. @throws Fault `internal`: the row was edited */
export function demandReleased(masterKey: MacKey, row: Released): void {
  demand(masterKey, row, declaredFacts(row), row.declaredMac);
  demand(masterKey, row, releasedFacts(row), row.releasedMac);
}

/** Before a receipt is signed or mailed. @throws Fault `internal`: the row was edited */
export function demandConfirmed(masterKey: MacKey, row: Confirmed): void {
  demand(masterKey, row, confirmedFacts(row), row.confirmedMac);
}

/** Before a report is signed or mailed that the letter was not opened. @throws Fault `internal`: the row was edited */
export function demandEnded(masterKey: MacKey, row: Ended, { declaredMac, endedMac, release }: Ending): void {
  const { session, releasedAt } = row;
  demand(masterKey, row, declaredFacts(row), declaredMac);
  demand(masterKey, row, endedFacts({ ...row, isReleased: releasedAt !== undefined }), endedMac);
  if (releasedAt === undefined) return;
  demand(masterKey, row, releasedFacts({ session, releasedAt, filing: release?.filing ?? "" }), release?.releasedMac ?? "");
}

/** Before a notice is signed or mailed that the letter is not opened yet. @throws Fault `internal`: the row was edited */
export function demandDelayed(masterKey: MacKey, row: Waiting | Released, { delayedAt, delayedMac }: Delay): void {
  if (row.state === "released") demandReleased(masterKey, row);
  else demand(masterKey, row, declaredFacts(row), row.declaredMac);
  demand(masterKey, row, delayedFacts({ session: row.session, delayedAt }), delayedMac);
}

function demand(masterKey: MacKey, { session }: Declaration, facts: string, mac: string): void {
  if (!masterKey.holds(facts, Buffer.from(mac, "hex")))
    throw new Fault("internal", `the row of session ${session.slice(0, 8)} was edited outside the broker, or the master key changed`);
}
