/** The registry's records as both homes store them, JSON, and the checks of what comes back (enrolment, before S1). */
import { Fault } from "../mime/fault.ts";
import { isRevocationReason } from "../mime/crl.ts";
import type { CertificatePair, GatewayRecord, Invite, InviteUse, MailboxRecord, Revocation } from "./table.ts";

/** Milliseconds from an invite's expiry by the broker's clock until it is cleared away: Redis does so by its own clock, which may be ahead. */
export const CLEAR_AFTER = 86_400_000;

/** @throws Fault `internal` when the stored record is broken. */
export function gatewayOf(json: string): GatewayRecord {
  const record = new StoredRecord("gateway", json);
  return {
    fingerprint: record.text("fingerprint"),
    name: record.text("name"),
    scope: record.texts("scope"),
    serial: record.text("serial"),
    enrolledAt: record.time("enrolledAt"),
    ...(record.has("root") && { root: record.text("root") }),
    ...(record.has("endsAt") && { endsAt: record.time("endsAt") }),
    ...(record.has("renews") && { renews: record.text("renews") }),
  };
}

/** @throws Fault `internal` when the stored record is broken. */
export function revocationOf(json: string): Revocation {
  const record = new StoredRecord("revocation", json);
  const reason = record.text("reason");
  if (!isRevocationReason(reason)) throw broken("revocation", "reason");
  return { name: record.text("name"), reason, subject: record.text("subject"), at: record.time("at") };
}

/** @throws Fault `internal` when the stored record is broken. */
export function useOf(json: string): InviteUse {
  const record = new StoredRecord("enrolment", json);
  return { key: record.text("key"), certificate: record.text("certificate") };
}

/** @throws Fault `internal` when the stored record is broken. */
export function mailboxOf(json: string): MailboxRecord {
  const record = new StoredRecord("mailbox", json);
  return {
    address: record.text("address"),
    gateway: record.text("gateway"),
    signingCertificate: record.text("signingCertificate"),
    encryptionCertificate: record.text("encryptionCertificate"),
    enrolledAt: record.time("enrolledAt"),
    ...(record.has("former") && { former: record.pairs("former") }),
  };
}

/**
 * The invite, if it can still be used.
 * @throws Fault `internal` when the stored record is broken.
 */
export function usableInvite(json: string, at: number): Invite | undefined {
  const record = new StoredRecord("invite", json);
  const invite = { token: record.text("token"), scope: record.texts("scope"), expiresAt: record.time("expiresAt") };
  return at < invite.expiresAt ? invite : undefined;
}

class StoredRecord {
  readonly #kind: string;
  readonly #fields: Readonly<Record<string, unknown>>;

  constructor(kind: string, json: string) {
    this.#kind = kind;
    const value = parsed(kind, json);
    if (typeof value !== "object" || value === null) throw broken(kind, "not an object");
    this.#fields = value as Record<string, unknown>;
  }

  text(name: string): string {
    const value = this.#fields[name];
    if (typeof value !== "string") throw broken(this.#kind, name);
    return value;
  }

  texts(name: string): string[] {
    const value = this.#fields[name];
    if (!Array.isArray(value) || !value.every((item) => typeof item === "string")) throw broken(this.#kind, name);
    return value;
  }

  has(name: string): boolean {
    return this.#fields[name] !== undefined;
  }

  pairs(name: string): CertificatePair[] {
    const value = this.#fields[name];
    if (!Array.isArray(value)) throw broken(this.#kind, name);
    return value.map((item: unknown) => {
      const pair = new StoredRecord(this.#kind, JSON.stringify(item));
      return { signingCertificate: pair.text("signingCertificate"), encryptionCertificate: pair.text("encryptionCertificate") };
    });
  }

  time(name: string): number {
    const value = this.#fields[name];
    if (typeof value !== "number" || !Number.isSafeInteger(value)) throw broken(this.#kind, name);
    return value;
  }
}

function parsed(kind: string, json: string): unknown {
  try {
    return JSON.parse(json);
  } catch (cause) {
    throw new Fault("internal", `a stored ${kind} is broken: not JSON`, { cause });
  }
}

function broken(kind: string, what: string): Fault {
  return new Fault("internal", `a stored ${kind} is broken: ${what}`);
}
