/** What a stored row must look like: both homes of the session table build the Session union here, and a broken row is refused. */
import { Fault } from "../mime/fault.ts";
import type { Confirmed, Declaration, Delay, Ended, Ending, Released, Session, SessionHash, Waiting } from "./session.ts";

/** One field as a home hands it back; Redis knows only bytes. */
type StoredValue = string | number | Buffer | null | undefined;

/** The fields carry the names of the Session union, plus `state`. */
export type StoredRow = Readonly<Record<string, StoredValue>>;

/** After this the sweep looks again at a row that is broken; until then it is put aside, so that it holds up itself only. */
export const BROKEN_AGAIN_MS = 60 * 60_000;

const SESSION_HASH = /^[0-9a-f]{64}$/;

/**
 * The gate before every key and every row: only a SHA-256 in hex passes, so that a session ID in the clear is never stored.
 * @throws Fault `internal`
 */
export function checkedHash(session: SessionHash): SessionHash {
  if (!SESSION_HASH.test(session)) throw new Fault("internal", "a session is named by its SHA-256 in hex and by nothing else");
  return session;
}

/** @throws Fault `internal`: a field is missing or of the wrong kind, the state is unknown, or a finished row still holds a key. */
export function sessionOf(row: StoredRow): Session {
  const declaration = declarationOf(row);
  const state = text(row, "state");
  switch (state) {
    case "declared":
    case "dispatched":
      return {
        ...declaration,
        state,
        wrappedKey: octets(row, "wrappedKey"),
        ticket: octets(row, "ticket"),
        declaredMac: hash(row, "declaredMac"),
        ...delayOf(row),
      };
    case "released":
      return {
        ...declaration,
        state,
        wrappedKey: octets(row, "wrappedKey"),
        releasedAt: whole(row, "releasedAt"),
        nextSession: hash(row, "nextSession"),
        nextTicket: octets(row, "nextTicket"),
        filing: text(row, "filing"),
        releases: whole(row, "releases"),
        declaredMac: hash(row, "declaredMac"),
        releasedMac: hash(row, "releasedMac"),
        ...delayOf(row),
      };
    case "confirmed":
      keyless(row);
      return {
        ...declaration,
        state,
        releasedAt: whole(row, "releasedAt"),
        nextSession: hash(row, "nextSession"),
        confirmedAt: whole(row, "confirmedAt"),
        evidence: text(row, "evidence"),
        certificate: text(row, "certificate"),
        proof: text(row, "proof"),
        confirmedMac: hash(row, "confirmedMac"),
      };
    case "expired":
    case "withdrawn":
    case "recalled":
      return endedOf(row, declaration, state);
    default:
      throw broken(row, "state");
  }
}

/** @throws Fault `internal`: as `sessionOf`, or the row is in another state. */
export function waitingOf(row: StoredRow): Waiting {
  const session = sessionOf(row);
  if (session.state !== "declared" && session.state !== "dispatched") throw broken(row, "state");
  return session;
}

/** @throws Fault `internal`: as `sessionOf`, or the row is in another state. */
export function releasedOf(row: StoredRow): Released {
  const session = sessionOf(row);
  if (session.state !== "released") throw broken(row, "state");
  return session;
}

/** @throws Fault `internal`: as `sessionOf`, or the row is in another state. */
export function confirmedOf(row: StoredRow): Confirmed {
  const session = sessionOf(row);
  if (session.state !== "confirmed") throw broken(row, "state");
  return session;
}

/** @throws Fault `internal`: as `sessionOf`, or the row's key was not given out. */
export function givenOutOf(row: StoredRow): Released | Confirmed {
  const session = sessionOf(row);
  if (session.state !== "released" && session.state !== "confirmed") throw broken(row, "state");
  return session;
}

function declarationOf(row: StoredRow): Declaration {
  return {
    session: hash(row, "session"),
    gateway: text(row, "gateway"),
    sender: text(row, "sender"),
    recipient: text(row, "recipient"),
    messageId: text(row, "messageId"),
    commit: text(row, "commit"),
    ticketHash: text(row, "ticketHash"),
    terms: text(row, "terms"),
    declaredAt: whole(row, "declaredAt"),
    expiresAt: whole(row, "expiresAt"),
  };
}

function endedOf(row: StoredRow, declaration: Declaration, state: Ended["state"]): Ended {
  keyless(row);
  return {
    ...declaration,
    state,
    releasedAt: isAbsent(row["releasedAt"]) ? undefined : whole(row, "releasedAt"),
    endedAt: whole(row, "endedAt"),
    ending: isAbsent(row["evidence"]) ? undefined : endingOf(row),
  };
}

function endingOf(row: StoredRow): Ending {
  const isReleased = !isAbsent(row["releasedAt"]);
  return {
    evidence: text(row, "evidence"),
    declaredMac: hash(row, "declaredMac"),
    endedMac: hash(row, "endedMac"),
    release: isReleased ? { filing: text(row, "filing"), releasedMac: hash(row, "releasedMac") } : undefined,
  };
}

function delayOf(row: StoredRow): { delay?: Delay } {
  if (isAbsent(row["delayedAt"])) return {};
  const delay = { delayedAt: whole(row, "delayedAt"), delayedEvidence: text(row, "delayedEvidence"), delayedMac: hash(row, "delayedMac") };
  return { delay };
}

function keyless(row: StoredRow): void {
  for (const name of ["wrappedKey", "ticket", "nextTicket"]) if (!isAbsent(row[name])) throw broken(row, `${name} outlived the key's end`);
}

function isAbsent(value: StoredValue): value is null | undefined {
  return value === null || value === undefined;
}

function text(row: StoredRow, name: string): string {
  const value = row[name];
  if (typeof value === "string") return value;
  if (Buffer.isBuffer(value)) return value.toString("utf8");
  throw broken(row, name);
}

function hash(row: StoredRow, name: string): SessionHash {
  const value = text(row, name);
  if (!SESSION_HASH.test(value)) throw broken(row, name);
  return value;
}

function whole(row: StoredRow, name: string): number {
  const value = row[name];
  const number = typeof value === "number" ? value : /^\d{1,16}$/.test(text(row, name)) ? Number(text(row, name)) : Number.NaN;
  if (!Number.isSafeInteger(number)) throw broken(row, name);
  return number;
}

function octets(row: StoredRow, name: string): Buffer {
  const value = row[name];
  if (!Buffer.isBuffer(value) || value.length === 0) throw broken(row, name);
  return value;
}

/** Names the field, never its value. */
function broken(row: StoredRow, what: string): Fault {
  const session = row["session"];
  const short = typeof session === "string" ? session.slice(0, 8) : "unknown";
  return new Fault("internal", `the stored row of session ${short} is broken: ${what}`);
}
