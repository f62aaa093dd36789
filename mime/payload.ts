/** The payload that is signed and sealed: the whole message with its header protected (RFC 9788), its body byte for byte as it was submitted. */
import type { Mailbox } from "./address.ts";
import { parseAddressList } from "./address.ts";
import { parseEntity, type ContentType } from "./entity.ts";
import { Fault } from "./fault.ts";
import {
  field,
  fieldsNamed,
  isCanonical,
  joinMessage,
  messagePieces,
  onlyValue,
  splitMessage,
  valueOf,
  type HeaderField,
  type SplitMessage,
} from "./headers.ts";
import { whole, type Octets, type Pieces } from "./pieces.ts";

/** Fields that go outside as the sender wrote them; everything else travels inside only (docs/protocol.md, section 2.1). */
const OUTSIDE = ["from", "to", "cc", "date", "message-id"];
/** Fields that no recipient may see (RFC 5322 §3.6.3, §3.6.6), or that belong to the way and not to the letter. */
export const NOT_FOR_RECIPIENTS: readonly string[] = ["bcc", "resent-bcc", "return-path"];
const NOT_CARRIED = [...NOT_FOR_RECIPIENTS, "hp-outer", "registered-mail-nonce"];
const NONCE_FIELD = "Registered-Mail-Nonce";

/** What is written behind a Content-Type that was there, and the whole field where there was none: restoring takes off exactly this. */
const HP_SUFFIX = ';\r\n hp="cipher"\r\n';
const HP_SUFFIX_LEGACY = ';\r\n hp="cipher"; hp-legacy-display="1"\r\n';
const WHOLE = "Content-Type: text/plain; charset=us-ascii";

/** The header fields that a sealed copy shows to the world. @param subject the words outside, `[...]` unless the policy says otherwise */
export function outerFields(message: SplitMessage, subject: string): HeaderField[] {
  return [...message.fields.filter(({ name }) => OUTSIDE.includes(name)), field("Subject", subject)];
}

/**
 * Builds the payload.
 * @param outer the fields as they will stand outside; each is recorded as HP-Outer (RFC 9788 §2.2)
 * @param nonce 16 random octets or more, so that a short text cannot be guessed from a commitment
 * @param bcc the only blind recipient this copy is for; no other copy names it
 * @param legacyDisplay repeats the Subject at the head of a plain text, for clients that do not read protected headers (RFC 9788 §5.2)
 */
export function buildPayload(...order: Parameters<typeof payloadPieces>): Buffer {
  return whole(payloadPieces(...order));
}

/** The same in pieces. */
export function payloadPieces(
  message: Pick<SplitMessage, "fields"> & { readonly body: Octets },
  options: { outer: readonly HeaderField[]; nonce: Buffer; bcc?: Mailbox; legacyDisplay?: boolean },
): Pieces {
  const carried = message.fields.filter(({ name }) => !NOT_CARRIED.includes(name));
  const shown = options.legacyDisplay ? subjectToShow(message) : undefined;
  const suffix = shown === undefined ? HP_SUFFIX : HP_SUFFIX_LEGACY;
  const typeAt = carried.findIndex(({ name }) => name === "content-type");
  const fields = carried.map((item, at) => (at === typeAt ? { ...item, raw: withSuffix(item.raw, suffix) } : item));
  if (options.bcc) fields.push(field("Bcc", options.bcc.address));
  for (const { raw } of options.outer) fields.push({ name: "hp-outer", raw: Buffer.concat([Buffer.from("HP-Outer: "), raw]) });
  fields.push(field(NONCE_FIELD, options.nonce.toString("base64url")));
  if (typeAt < 0) fields.push({ name: "content-type", raw: Buffer.from(wholeWith(suffix)) });
  const head = shown === undefined ? Buffer.alloc(0) : Buffer.from(`Subject: ${shown}\r\n\r\n`);
  return messagePieces(fields, head, message.body);
}

function withSuffix(raw: Buffer, suffix: string): Buffer {
  const end = raw.subarray(-2).toString("latin1") === "\r\n" ? raw.length - 2 : raw.length;
  return Buffer.concat([raw.subarray(0, end), Buffer.from(suffix)]);
}

/** On one line, so that it is told from a field that was there, which gets its suffix on a line of its own. */
const wholeWith = (suffix: string): string => `${WHOLE}${suffix.replace("\r\n ", " ")}`;

/** The Subject where it can be shown at the head of the body: ASCII words above a plain text without transfer encoding. */
function subjectToShow({ fields }: Pick<SplitMessage, "fields">): string | undefined {
  const one = (name: string): string =>
    fieldsNamed(fields, name)
      .map((item) => valueOf(item).toLowerCase())
      .join();
  const subject = fieldsNamed(fields, "subject")
    .map((item) => valueOf(item))
    .join();
  const plain = /^(?:text\/plain(?:;\s*charset="?(?:us-ascii|utf-8)"?)?)?$/u.test(one("content-type"));
  const bareText = /^(?:7bit|8bit)?$/u.test(one("content-transfer-encoding"));
  return plain && bareText && /^[\x20-\x7E]+$/u.test(subject) && !subject.includes("=?") ? subject : undefined;
}

export interface Payload {
  /** The letter's own fields, as the sender's gateway received them. */
  readonly fields: readonly HeaderField[];
  readonly body: Buffer;
  readonly from: Mailbox;
  /** Everyone named in To, Cc and Bcc. */
  readonly recipients: readonly Mailbox[];
  readonly messageId: string;
  /** The octets of Registered-Mail-Nonce. */
  readonly nonce: Buffer;
}

/**
 * Reads a payload whose signature was verified.
 * @throws Fault `malformed`: the header is not protected, or From, Message-ID or the nonce is missing or stands twice
 */
export function parsePayload(bytes: Buffer): Payload {
  const { fields, body } = splitMessage(bytes);
  if (!fields.every(isCanonical)) throw new Fault("malformed", "line ends in the header that mail does not have"); // every sender's gateway makes them so
  if (protection(bytes)?.parameters.get("hp") !== "cipher") throw new Fault("malformed", "the header is not protected");
  const nonce = Buffer.from(onlyValue(fields, "registered-mail-nonce") ?? "", "base64url");
  if (nonce.length < 16) throw new Fault("malformed", "the nonce is missing or short");
  const [from, ...others] = parseAddressList(onlyValue(fields, "from") ?? "");
  if (!from || others.length > 0) throw new Fault("malformed", "a letter has one author");
  const messageId = onlyValue(fields, "message-id");
  if (!messageId) throw new Fault("malformed", "the Message-ID is missing");
  const recipients = ["to", "cc", "bcc"].flatMap((name) => fieldsNamed(fields, name).flatMap((item) => mailboxesIn(item)));
  const own = fields.filter(({ name }) => name !== "hp-outer" && name !== "registered-mail-nonce");
  const shown = protection(bytes)?.parameters.get("hp-legacy-display") === "1" ? shownOctets(body) : 0;
  const typeAt = own.findIndex(({ name }) => name === "content-type"); // only the first one was touched
  const restored = own.flatMap((item, at) => (at === typeAt ? withoutProtection(item) : [item]));
  return { fields: restored, body: body.subarray(shown), from, recipients, messageId, nonce };
}

/** The Subject that is repeated at the head of a text, with the empty line behind it; nothing where there is no such line. */
function shownOctets(body: Buffer): number {
  const end = body.indexOf("\r\n\r\n");
  return end < 0 ? 0 : end + 4;
}

function protection(bytes: Buffer): ContentType | undefined {
  const first = fieldsNamed(splitMessage(bytes).fields, "content-type").at(0);
  if (!first) return undefined;
  const written = suffixOf(first.raw); // read by its end: what stands before it may be no Content-Type at all
  if (written !== undefined)
    return {
      type: "",
      parameters: new Map([
        ["hp", "cipher"],
        ["hp-legacy-display", written === HP_SUFFIX ? "0" : "1"],
      ]),
    };
  return parseEntity(joinMessage([first], Buffer.alloc(0))).contentType;
}

function suffixOf(raw: Buffer): string | undefined {
  return [HP_SUFFIX, HP_SUFFIX_LEGACY].find((suffix) => raw.subarray(-suffix.length).equals(Buffer.from(suffix)));
}

/** A letter may name people in ways that no parser reads; they are then nobody, and the binding fails closed. */
function mailboxesIn(item: HeaderField): Mailbox[] {
  try {
    return parseAddressList(valueOf(item));
  } catch {
    return [];
  }
}

function withoutProtection(item: HeaderField): HeaderField[] {
  if ([HP_SUFFIX, HP_SUFFIX_LEGACY].some((suffix) => item.raw.equals(Buffer.from(wholeWith(suffix))))) return [];
  const suffix = suffixOf(item.raw);
  if (suffix === undefined) return [item];
  return [{ ...item, raw: Buffer.concat([item.raw.subarray(0, item.raw.length - suffix.length), Buffer.from("\r\n")]) }];
}

/** Structural fields say how a body is built; they are never taken from the letter when its body stays inside a signature (RFC 9788 §1.1). */
const isStructural = ({ name }: HeaderField): boolean => name.startsWith("content-") || name === "mime-version";

/**
 * The letter as it is filed for its reader.
 * @param form `plain`: exactly what the sender submitted. `signed`: the signed entity unchanged below the restored header.
 * @param results fields of the receiving gateway, which stand on top; what pretends inside to be such a field is dropped
 */
export function restore(
  payload: Payload,
  signedEntity: Buffer | undefined,
  form: "plain" | "signed",
  results: readonly HeaderField[],
): Buffer {
  const kept = payload.fields.filter((item) => !results.some((result) => speaksInName(item, result)));
  while (results.length > 0 && kept[0] && /^[ \t]/u.test(kept[0].raw.toString("latin1", 0, 1))) kept.shift(); // it would continue what stands above it
  if (form === "plain" || !signedEntity) return joinMessage([...results, ...kept], payload.body);
  const entity = splitMessage(signedEntity);
  const structure = entity.fields.filter(({ name }) => name === "content-type"); // no signature covers what else stands there
  const header = [...results, ...kept.filter((item) => !isStructural(item)), field("MIME-Version", "1.0"), ...structure];
  return joinMessage(header, entity.body);
}

/**
 * A mail without the fields of its header that pretend to be the receiving gateway's; its own octets where there are none.
 * @param results fields such as that gateway writes, whatever they say
 */
export function withoutPretences(mail: Buffer, results: readonly HeaderField[]): Buffer {
  const { fields, body } = splitMessage(mail);
  const kept = fields.filter((item) => !results.some((result) => speaksInName(item, result)));
  return kept.length === fields.length ? mail : joinMessage(kept, body);
}

/** Authentication-Results of other hosts are the sender's affair; those in our name are lies (RFC 8601 §5). */
function speaksInName(item: HeaderField, result: HeaderField): boolean {
  return item.name === result.name && (item.name !== "authentication-results" || hostIn(item) === hostIn(result));
}

/** The authserv-id: comments around it and quotes mean nothing (RFC 8601 §2.2). One look at each character. */
function hostIn(item: HeaderField): string {
  let host = "";
  let depth = 0;
  let quoted = false;
  for (const [sign, escaped] of signsOf(valueOf(item))) {
    const special = escaped ? "" : sign;
    if (!quoted && special === "(") depth++;
    else if (depth > 0) depth -= special === ")" ? 1 : 0;
    else if (special === '"') quoted = !quoted;
    else if (!quoted && /[\s;]/u.test(special)) {
      if (host !== "" || special === ";") break;
    } else host += sign;
  }
  return host.toLowerCase();
}

/** Each character, and whether a backslash stands before it. */
function* signsOf(text: string): Generator<[sign: string, escaped: boolean]> {
  for (let at = 0; at < text.length; at++) {
    const escaped = text[at] === "\\" && at + 1 < text.length;
    if (escaped) at++;
    yield [text[at] ?? "", escaped];
  }
}
