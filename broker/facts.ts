/** What a row says, as texts that the broker's MACs are over: an edited row is noticed before a key or a signature leaves (docs/protocol.md, section 6). */
import { Fault } from "../mime/fault.ts";
import type { Confirmed, Declaration, Released } from "./session.ts";

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

function demand(masterKey: MacKey, { session }: Declaration, facts: string, mac: string): void {
  if (!masterKey.holds(facts, Buffer.from(mac, "hex")))
    throw new Fault("internal", `the row of session ${session.slice(0, 8)} was edited outside the broker, or the master key changed`);
}
