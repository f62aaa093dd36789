/** Opening the enclosed form (S8; claims 2, 7, 8): EnvelopedData as S/MIME clients read it. CBC is malleable: its caller gives nothing out before a signature over the whole has verified. */
import { createDecipheriv } from "node:crypto";
import { Cursor, TAG, contextTag, integerOf, isOid, octetsOf, parse, type Element } from "./der.ts";
import { Fault } from "./fault.ts";
import { OID } from "./oids.ts";
import { cannotOpen, contentKeyFor, limitsFor, type Opener } from "./open.ts";
import type { Shell } from "./seal.ts";

/** What an enclosed envelope says before any key is used. */
export type EnclosedShell = Omit<Shell, "expiresAt"> & Partial<Pick<Shell, "expiresAt">>;

interface Parts {
  readonly recipientInfo: Element;
  readonly iv: Buffer;
  readonly ciphertext: Buffer;
  readonly attributes: Element | undefined;
}

function read(der: Buffer): Parts {
  const info = new Cursor(parse(der, limitsFor(der.length)));
  if (!isOid(info.take(TAG.oid), OID.envelopedData)) throw new Fault("malformed", "not an EnvelopedData");
  const outer = new Cursor(info.take(contextTag(0, "constructed")), contextTag(0, "constructed"));
  info.end();
  const data = new Cursor(outer.take(TAG.sequence));
  outer.end();
  const version = integerOf(data.take(TAG.integer));
  const recipients = new Cursor(data.take(TAG.set), TAG.set);
  const recipientInfo = recipients.any();
  recipients.end();
  const content = new Cursor(data.take(TAG.sequence));
  const attributes = data.optional(contextTag(1, "constructed"));
  data.end();
  const isKnown = version === 2 || (version === 0 && !attributes); // with attributes it is 2 (RFC 5652 §6.1)
  if (!isKnown) throw new Fault("malformed", "an unknown version");
  if (!isOid(content.take(TAG.oid), OID.data)) throw new Fault("malformed", "not id-data inside");
  const algorithm = new Cursor(content.take(TAG.sequence));
  if (!isOid(algorithm.take(TAG.oid), OID.aes256Cbc)) throw new Fault("malformed", "not AES-256-CBC");
  const iv = octetsOf(algorithm.take(TAG.octetString));
  algorithm.end();
  const ciphertext = octetsOf(content.optional(contextTag(0, "primitive")) ?? content.take(contextTag(0, "constructed")));
  content.end();
  return { recipientInfo, iv, ciphertext, attributes };
}

/** Whether an envelope has our ticket, without a look at the rest: what other senders write need not be readable here. */
function hasTicket(der: Buffer): boolean {
  try {
    const [, content] = parse(der, limitsFor(der.length)).children ?? [];
    const attributes = content?.children?.[0]?.children?.at(-1);
    const isTicket = ({ children }: Element): boolean => children?.[0] !== undefined && isOid(children[0], OID.ticket);
    return attributes?.tag === contextTag(1, "constructed") && attributes.children?.some(isTicket) === true;
  } catch {
    return false;
  }
}

/** Ticket and broker of an enclosed letter; undefined where the envelope has no ticket and is therefore not ours. @throws Fault `malformed` */
export function readEnclosedShell(der: Buffer): EnclosedShell | undefined {
  if (!hasTicket(der)) return undefined;
  const attributes = (read(der).attributes?.children ?? []).map(readAttribute);
  const valueOf = (type: string, tag: number): Element => {
    const [found, ...more] = attributes.filter((attribute) => isOid(attribute.type, type));
    if (found?.value.tag !== tag || more.length > 0) throw new Fault("malformed", "ticket and broker must stand there once each");
    return found.value;
  };
  return {
    ticket: octetsOf(valueOf(OID.ticket, TAG.octetString)),
    brokerUrl: valueOf(OID.brokerUrl, TAG.utf8String).content.toString("utf8"),
  };
}

/** An Attribute with its one value (RFC 5652 §5.3). */
function readAttribute(element: Element): { type: Element; value: Element } {
  const attribute = new Cursor(element);
  const type = attribute.take(TAG.oid);
  const values = new Cursor(attribute.take(TAG.set), TAG.set);
  attribute.end();
  const value = values.any();
  values.end();
  return { type, value };
}

/** Opens with the recipient's private key alone. @throws Fault `cannot-open`, whatever the reason */
export function openEnclosed(der: Buffer, openers: readonly Opener[]): Buffer {
  try {
    const { recipientInfo, iv, ciphertext } = read(der);
    const contentKey = contentKeyFor(recipientInfo, openers);
    try {
      const decipher = createDecipheriv("aes-256-cbc", contentKey, iv);
      return Buffer.concat([decipher.update(ciphertext), decipher.final()]);
    } finally {
      contentKey.fill(0);
    }
  } catch (cause) {
    throw cannotOpen(cause);
  }
}
