/** Certificate revocation lists: read and verified against the roots that sign them (RFC 5280 §5, §6.3). */
import { verify } from "node:crypto";
import type { Certificate } from "./certificate.ts";
import { Cursor, TAG, contextTag, integerOf, isOid, octetsOf, parse, type Element } from "./der.ts";
import { Fault } from "./fault.ts";
import { OID } from "./oids.ts";

/** CRLReason (RFC 5280 §5.3.1), those that an operator can mean. */
export const REVOCATION_REASONS = {
  unspecified: 0,
  "key-compromise": 1,
  "affiliation-changed": 3,
  superseded: 4,
  "cessation-of-operation": 5,
  "privilege-withdrawn": 9,
} as const;

export type RevocationReason = keyof typeof REVOCATION_REASONS;

export function isRevocationReason(text: unknown): text is RevocationReason {
  return typeof text === "string" && Object.hasOwn(REVOCATION_REASONS, text);
}

/** When a certificate was revoked, by its serial number in lower-case hex. */
export type RevokedSerials = ReadonlyMap<string, Date>;

export interface RevocationList {
  /** Later lists of the same root have higher ones. */
  readonly number: number;
  readonly thisUpdate: Date;
  /** By then there is a newer list. */
  readonly nextUpdate: Date;
  readonly revoked: RevokedSerials;
}

/** Room for 100,000 revoked certificates. */
const LIMITS = { depth: 12, elements: 1_000_000 };

/**
 * Reads a list and verifies that one of the roots signed it. Whether it is still current is the caller's to say.
 * @throws Fault `signature-invalid`: not signed by any of them; `malformed`: unreadable, or with a critical extension, as delta and indirect lists have
 */
export function parseRevocationList(der: Buffer, roots: readonly Certificate[]): RevocationList {
  try {
    return read(der, roots);
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    throw new Fault("malformed", "not a readable revocation list", { cause });
  }
}

function read(der: Buffer, roots: readonly Certificate[]): RevocationList {
  const whole = new Cursor(parse(der, LIMITS));
  const signed = whole.take(TAG.sequence);
  const algorithm = whole.take(TAG.sequence);
  const [unusedBits, ...signature] = whole.take(TAG.bitString).content;
  whole.end();
  const digest = ALGORITHMS.find(([dotted]) => isOid(new Cursor(algorithm).take(TAG.oid), dotted))?.[1];
  const isBy = ({ publicKey }: Certificate): boolean =>
    digest !== undefined && verify(digest, signed.encoding, publicKey, Buffer.from(signature));
  if (unusedBits !== 0 || !roots.some(isBy)) throw new Fault("signature-invalid", "the revocation list is not signed by the root");
  const parts = new Cursor(signed);
  if (integerOf(parts.take(TAG.integer)) !== 1) throw new Fault("malformed", "a revocation list of another version");
  if (!parts.take(TAG.sequence).encoding.equals(algorithm.encoding)) throw new Fault("malformed", "two signature algorithms"); // §5.1.1.2
  parts.take(TAG.sequence); // the issuer's name: the signature says more
  const [thisUpdate, nextUpdate] = [timeOf(parts.any()), timeOf(parts.any())];
  const revoked = new Map<string, Date>();
  for (const entry of parts.optional(TAG.sequence)?.children ?? []) {
    const fields = new Cursor(entry);
    const serial = serialHex(fields.take(TAG.integer));
    revoked.set(serial, timeOf(fields.any()));
    extensionsOf(fields.optional(TAG.sequence));
  }
  const number = extensionsOf(parts.optional(contextTag(0, "constructed"))?.children?.[0]);
  parts.end();
  if (number === undefined) throw new Fault("malformed", "a revocation list without its number");
  return { number, thisUpdate, nextUpdate, revoked };
}

const ALGORITHMS = [
  [OID.ecdsaWithSha256, "sha256"],
  [OID.ecdsaWithSha384, "sha384"],
  [OID.ecdsaWithSha512, "sha512"],
] as const;

/** The list's number, where it is among them. @throws Fault `malformed`: a critical one, none of which is understood here (RFC 5280 §5.2) */
function extensionsOf(extensions: Element | undefined): number | undefined {
  let number: number | undefined;
  for (const extension of extensions?.children ?? []) {
    const fields = new Cursor(extension);
    const type = fields.take(TAG.oid);
    if (fields.optional(TAG.boolean)?.content[0]) throw new Fault("malformed", "a critical extension in a revocation list");
    const value = fields.take(TAG.octetString);
    if (isOid(type, OID.crlNumber)) number = integerOf(parse(octetsOf(value)));
  }
  return number;
}

/** UTCTime until 2049, then GeneralizedTime (RFC 5280 §5.1.2.4). */
function timeOf({ tag, content }: Element): Date {
  const digits = content.toString("latin1");
  const full = tag === TAG.utcTime ? `${Number(digits.slice(0, 2)) < 50 ? "20" : "19"}${digits}` : digits;
  const time = new Date(full.replace(/^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/u, "$1-$2-$3T$4:$5:$6Z"));
  if ((tag !== TAG.utcTime && tag !== TAG.generalizedTime) || Number.isNaN(time.getTime()))
    throw new Fault("malformed", "no time in a revocation list");
  return time;
}

/** The number in an INTEGER as hex without leading zero octets, as certificates print it. */
function serialHex({ content }: Element): string {
  return content.toString("hex").replace(/^(?:00)+(?=..)/u, "");
}
