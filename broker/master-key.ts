/** Kc at rest: wrapped under its day's key, which is never in the table, bound to everything the row says (docs/protocol.md, section 6). */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from "node:crypto";
import { Fault } from "../mime/fault.ts";
import { ContentKey } from "../mime/key.ts";
import { dayOf, DayKeys } from "./day-keys.ts";
import type { Declaration } from "./session.ts";

/** Wraps and unwraps content keys; the keys under which that happens stay behind the port. */
export interface MasterKey {
  wrap(key: ContentKey, row: Declaration): Buffer;
  /** @throws Fault `internal`: the row was edited, wrapped under another key, or the key of its day is destroyed */
  unwrap(wrapped: Buffer, row: Declaration): ContentKey;
  /** Destroys the keys of past days. @param used the days of letters that still wait, as `dayOf` counts them @returns the days */
  destroy(used: ReadonlySet<number>, now: number): number[];
  /** 32 octets that nobody without the key can know, the same for the same text (HMAC-SHA-256). */
  mac(text: string): Buffer;
}

const NONCE_OCTETS = 12;
const TAG_OCTETS = 16;

/** A master key of 32 octets in this process. @param folder of the days' keys */
export function localMasterKey(octets: Buffer, folder: string): MasterKey {
  if (octets.length !== 32) throw new Fault("malformed", "the master key must have 32 octets");
  const derived = (purpose: string): Buffer => Buffer.from(hkdfSync("sha256", octets, Buffer.alloc(0), purpose, 32)); // RFC 5869
  const macKey = derived("kakitome mac");
  const days = new DayKeys(folder, derived("kakitome day keys"));
  return {
    mac: (text) => createHmac("sha256", macKey).update(text).digest(),
    destroy: (used, now) => days.destroy(used, now),
    wrap(key, row) {
      const nonce = randomBytes(NONCE_OCTETS);
      const cipher = createCipheriv("aes-256-gcm", days.make(dayOf(row.declaredAt)), nonce, { authTagLength: TAG_OCTETS }).setAAD(
        boundTo(row),
      );
      const wrapped = key.lend((content) => Buffer.concat([cipher.update(content), cipher.final()]));
      return Buffer.concat([nonce, wrapped, cipher.getAuthTag()]);
    },
    unwrap(wrapped, row) {
      const day = dayOf(row.declaredAt);
      const wrapping = days.find(day);
      if (!wrapping) throw new Fault("internal", `the wrapping key of day ${day} is gone`);
      try {
        const nonce = wrapped.subarray(0, NONCE_OCTETS);
        const decipher = createDecipheriv("aes-256-gcm", wrapping, nonce, { authTagLength: TAG_OCTETS }).setAAD(boundTo(row));
        decipher.setAuthTag(wrapped.subarray(-TAG_OCTETS));
        return ContentKey.adopt(Buffer.concat([decipher.update(wrapped.subarray(NONCE_OCTETS, -TAG_OCTETS)), decipher.final()]));
      } catch (cause) {
        throw new Fault("internal", "a row does not fit its wrapped key: it was edited, or the master key changed", { cause });
      }
    },
  };
}

/** The row's immutable fields, each with its length before it so that no two rows read the same. */
function boundTo(row: Declaration): Buffer {
  const fields = [
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
  ];
  return Buffer.from(fields.map((value) => `${Buffer.byteLength(String(value))}:${value}`).join(","));
}
