/** Kc at rest: wrapped under its day's key, which is never in the table, bound to everything the row says (docs/protocol.md, section 6). */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes, timingSafeEqual } from "node:crypto";
import { Fault } from "../mime/fault.ts";
import { ContentKey } from "../mime/key.ts";
import { dayOf, DayKeys } from "./day-keys.ts";
import { declarationText, type MacKey } from "./facts.ts";
import type { Declaration } from "./session.ts";

/** Wraps and unwraps content keys; the keys under which that happens stay behind the port. */
export interface MasterKey extends MacKey {
  wrap(key: ContentKey, row: Declaration): Buffer;
  /** @throws Fault `internal`: the row was edited, wrapped under another key, or the key of its day is destroyed */
  unwrap(wrapped: Buffer, row: Declaration): ContentKey;
  /** Destroys the keys of past days. @param used the days of letters that still wait, as `dayOf` counts them @returns the days */
  destroy(used: ReadonlySet<number>, now: number): number[];
  /** Takes over a master key that was rotated meanwhile: from now on everything new is under it. @throws Fault */
  renew(): void;
}

const NONCE_OCTETS = 12;
const TAG_OCTETS = 16;
const MASTER_OCTETS = 32;

/** What is derived from one master key (RFC 5869). */
interface Derived {
  readonly mac: Buffer;
  readonly days: Buffer;
}

function derivedFrom(octets: Buffer): Derived {
  if (octets.length !== MASTER_OCTETS) throw new Fault("malformed", "the master key must have 32 octets");
  const derived = (purpose: string): Buffer => Buffer.from(hkdfSync("sha256", octets, Buffer.alloc(0), purpose, 32));
  return { mac: derived("kakitome mac"), days: derived("kakitome day keys") };
}

/**
 * Master keys in this process.
 * @param load the current one first, then those before it, 32 octets each; asked again where something is under none of them
 * @param folder of the days' keys
 * @throws Fault `malformed`
 */
export function localMasterKey(load: () => readonly [Buffer, ...Buffer[]], folder: string): MasterKey {
  const read = (): [Derived, ...Derived[]] => {
    const [first, ...former] = load();
    return [derivedFrom(first), ...former.map(derivedFrom)];
  };
  let ring = read();
  const reload = (): void => void (ring = read());
  const days = new DayKeys(folder, { reload, current: () => [ring[0].days, ...ring.slice(1).map(({ days }) => days)] });
  days.reseal(); // what a rotation that was cut off left behind
  const macUnder = ({ mac }: Derived, text: string): Buffer => createHmac("sha256", mac).update(text).digest();
  const isKnown = (text: string, mac: Buffer): boolean =>
    ring.some((one) => {
      const right = macUnder(one, text);
      return right.length === mac.length && timingSafeEqual(right, mac);
    });
  return {
    mac: (text) => macUnder(ring[0], text),
    holds(text, mac) {
      if (isKnown(text, mac)) return true;
      reload(); // another broker may be ahead of us
      return isKnown(text, mac);
    },
    destroy: (used, now) => days.destroy(used, now),
    renew() {
      reload();
      days.reseal();
    },
    wrap(key, row) {
      const nonce = randomBytes(NONCE_OCTETS);
      const cipher = createCipheriv("aes-256-gcm", days.make(dayOf(row.declaredAt)), nonce, { authTagLength: TAG_OCTETS }).setAAD(
        Buffer.from(declarationText(row)),
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
        const decipher = createDecipheriv("aes-256-gcm", wrapping, nonce, { authTagLength: TAG_OCTETS });
        decipher.setAAD(Buffer.from(declarationText(row))).setAuthTag(wrapped.subarray(-TAG_OCTETS));
        return ContentKey.adopt(Buffer.concat([decipher.update(wrapped.subarray(NONCE_OCTETS, -TAG_OCTETS)), decipher.final()]));
      } catch (cause) {
        throw new Fault("internal", "a row does not fit its wrapped key: it was edited, or the master key changed", { cause });
      }
    },
  };
}
