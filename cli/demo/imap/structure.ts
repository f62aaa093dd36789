/** ENVELOPE, BODY and BODYSTRUCTURE computed from a message: RFC 3501 §7.4.2. */

import { addresses } from "./address.ts";
import { isMultipart, type Entity } from "./entity.ts";
import { fieldOf, parseStructured, withoutComments, type Structured } from "./header.ts";
import { nstring, quoted } from "./wire.ts";

/** The ENVELOPE of a message. */
export function envelope({ fields }: Entity): string {
  const people = (name: string): string => {
    const values = fields.filter((field) => field.name.toLowerCase() === name).flatMap((field) => addresses(field.value));
    return values.length === 0 ? "NIL" : `(${values.join("")})`;
  };
  const from = people("from");
  return `(${[
    nstring(fieldOf(fields, "date")),
    nstring(fieldOf(fields, "subject")),
    from,
    or(people("sender"), from),
    or(people("reply-to"), from),
    people("to"),
    people("cc"),
    people("bcc"),
    nstring(fieldOf(fields, "in-reply-to")),
    nstring(fieldOf(fields, "message-id")),
  ].join(" ")})`;
}

function or(value: string, other: string): string {
  return value === "NIL" ? other : value;
}

const US_ASCII = ["charset", "us-ascii"] as const;

function hasCharset({ parameters }: Entity): boolean {
  return parameters.some(([name]) => /^charset(\*|$)/i.test(name));
}

/** The structure of a message: BODYSTRUCTURE when extended, else BODY. */
export function structure(bytes: Buffer, entity: Entity, extended: boolean): string {
  if (isMultipart(entity)) return multipart(bytes, entity, extended);
  const { fields, body, end } = entity;
  const type = entity.type.toLowerCase();
  const items = [
    quoted(entity.type),
    quoted(entity.subtype),
    parameterList([...entity.parameters, ...(type === "text" && !hasCharset(entity) ? [US_ASCII] : [])]),
    nstring(fieldOf(fields, "content-id")),
    nstring(fieldOf(fields, "content-description")),
    quoted(withoutComments(fieldOf(fields, "content-transfer-encoding") ?? "").trim() || "7bit"),
    String(end - body),
  ];
  const lines = String(countLines(bytes, body, end));
  if (entity.inner !== undefined) items.push(envelope(entity.inner), structure(bytes, entity.inner, extended), lines);
  else if (type === "text") items.push(lines);
  if (extended) items.push(nstring(fieldOf(fields, "content-md5")), ...extensions(entity));
  return `(${items.join(" ")})`;
}

function multipart(bytes: Buffer, entity: Entity, extended: boolean): string {
  // The grammar wants a part at least; a multipart without any shows one that is empty, as Dovecot does.
  const none = `("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0${extended ? " NIL NIL NIL NIL" : ""})`;
  const parts = entity.parts.map((part) => structure(bytes, part, extended)).join("") || none;
  const tail = extended ? ` ${[parameterList(entity.parameters), ...extensions(entity)].join(" ")}` : "";
  return `(${parts} ${quoted(entity.subtype)}${tail})`;
}

/** Disposition, language and location. */
function extensions({ fields }: Entity): [string, string, string] {
  const stated = parseStructured(fieldOf(fields, "content-disposition") ?? "");
  const disposition = stated.value === "" ? "NIL" : `(${quoted(stated.value)} ${parameterList(stated.parameters)})`;
  const languages = withoutComments(fieldOf(fields, "content-language") ?? "").split(",");
  const named = languages.map((language) => language.trim()).filter((language) => language !== "");
  const [only] = named;
  const language = named.length > 1 ? `(${named.map(quoted).join(" ")})` : nstring(only);
  return [disposition, language, nstring(fieldOf(fields, "content-location"))];
}

function parameterList(parameters: Structured["parameters"]): string {
  return parameters.length === 0 ? "NIL" : `(${parameters.map(([name, value]) => `${quoted(name)} ${quoted(value)}`).join(" ")})`;
}

function countLines(bytes: Buffer, from: number, end: number): number {
  let lines = 0;
  for (let at = bytes.indexOf(0x0a, from); at >= 0 && at < end; at = bytes.indexOf(0x0a, at + 1)) lines += 1;
  return lines;
}
