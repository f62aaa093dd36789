/** Finds a registered letter in a mail again (S6): exactly the shapes that letter.ts writes, nothing that only resembles them. */
import { decodedBody, parseEntity, splitMultipart, type Entity, type Use } from "./entity.ts";
import { ENCLOSED, HELD, SEALED_TYPE, type KeyHold } from "./letter.ts";
import { readEnclosedShell, type EnclosedShell } from "./open-enclosed.ts";
import { readShell } from "./open.ts";

export interface SealedMessage {
  readonly hold: KeyHold;
  readonly envelope: Buffer;
  /** Of the envelope's octets, when it is opened. */
  readonly use: Use;
  readonly shell: EnclosedShell;
  /** The signature over the sealed entity, where the order of signing put one outside. */
  readonly outside: { readonly content: Buffer; readonly signature: Buffer } | undefined;
}

/** Whether an entity is an S/MIME envelope of this type. */
export function isSealed({ contentType }: Entity, smimeType: string): boolean {
  const smime = contentType.type === SEALED_TYPE || contentType.type === "application/x-pkcs7-mime";
  return smime && contentType.parameters.get("smime-type")?.toLowerCase() === smimeType.toLowerCase();
}

/**
 * Finds the envelope.
 * @param use `spend`: what is decoded and opened is written over the mail's body, unless a signature stands outside
 * @returns undefined where the mail does not claim to be a registered letter
 * @throws Fault `malformed` where it claims to be one and is not
 */
export function readSealed(mail: Buffer, use: Use = "keep"): SealedMessage | undefined {
  const shape = shapeOf(mail);
  if (!shape) return undefined;
  const spent = shape.hold === "held" && !shape.outside ? use : "keep";
  const envelope = shape.hold === "held" ? decodedBody(shape.sealed, spent) : bodyOrNothing(shape.sealed);
  const shell = shape.hold === "held" ? readShell(envelope) : readEnclosedShell(envelope);
  if (!shell) return undefined; // an ordinary S/MIME mail
  const outside = shape.outside && { content: shape.outside.content, signature: decodedBody(shape.outside.file) };
  return { hold: shape.hold, envelope, use: spent, shell, outside };
}

/** The enclosed form looks like any S/MIME mail: one that cannot be decoded is not ours. */
function bodyOrNothing(entity: Entity): Buffer {
  try {
    return decodedBody(entity);
  } catch {
    return Buffer.alloc(0);
  }
}

interface Shape {
  readonly hold: KeyHold;
  readonly sealed: Entity;
  readonly outside?: { readonly content: Buffer; readonly file: Entity };
}

function shapeOf(mail: Buffer): Shape | undefined {
  try {
    const top = parseEntity(mail);
    if (top.contentType.type !== "multipart/signed") return sealedIn(top);
    const [content, file, ...foreign] = splitMultipart(top);
    if (!content || !file || foreign.length > 0) return undefined;
    const inside = sealedIn(parseEntity(content));
    return inside && { ...inside, outside: { content, file: parseEntity(file) } };
  } catch {
    return undefined; // mail that cannot be read as MIME is not ours
  }
}

function sealedIn(entity: Entity): Shape | undefined {
  if (isSealed(entity, ENCLOSED)) return { hold: "enclosed", sealed: entity };
  if (entity.contentType.type !== "multipart/mixed") return undefined;
  const [notice, sealed, ...foreign] = splitMultipart(entity).map((part) => parseEntity(part));
  const exact = notice?.contentType.type === "text/plain" && sealed && isSealed(sealed, HELD) && foreign.length === 0;
  return exact ? { hold: "held", sealed } : undefined;
}
