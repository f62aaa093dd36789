/** Mailboxes: one address parsed into a type that cannot be wrong (RFC 5321 §4.1.2, RFC 6531 §3.3), and address lists of header fields (RFC 5322 §3.4). */
import { Fault } from "./fault.ts";

/** A mailbox that was parsed: `local@domain`, the domain in lower case. */
export interface Mailbox {
  readonly local: string;
  readonly domain: string;
  /** As it is written in an SMTP command or a header field. */
  readonly address: string;
  /** As it is looked up and compared: all in lower case. */
  readonly key: string;
}

/** Longest path without its brackets: RFC 5321 §4.5.3.1.3 allows 256 octets with them. */
const LONGEST_ADDRESS_OCTETS = 254;
const ATOM = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~\\u0080-\\uFFFF-]+";
const DOT_ATOM = new RegExp(`^${ATOM}(?:\\.${ATOM})*$`, "u");
const QUOTED = /^"(?:[\x20\x21\x23-\x5B\x5D-\x7E\u0080-\uFFFF]|\\[\x20-\x7E])*"$/u;
const LABEL = "[A-Za-z0-9\\u0080-\\uFFFF](?:[A-Za-z0-9\\u0080-\\uFFFF-]{0,61}[A-Za-z0-9\\u0080-\\uFFFF])?";
const DOMAIN = new RegExp(`^${LABEL}(?:\\.${LABEL})*$`, "u");
const ADDRESS_LITERAL = /^\[(?:\d{1,3}(?:\.\d{1,3}){3}|IPv6:[0-9A-Fa-f:.]+)\]$/u;

/**
 * Parse `local@domain`.
 * @throws Fault `malformed`: no `@`, an empty side, a control character, a side outside the grammar, or more than 254 octets.
 */
export function parseMailbox(text: string): Mailbox {
  const at = text.lastIndexOf("@");
  const local = text.slice(0, at);
  const domain = text.slice(at + 1);
  const wellFormed =
    at > 0 &&
    Buffer.byteLength(text) <= LONGEST_ADDRESS_OCTETS &&
    Buffer.byteLength(local) <= 64 && // RFC 5321 §4.5.3.1.1
    (DOT_ATOM.test(local) || QUOTED.test(local)) &&
    (DOMAIN.test(domain) || ADDRESS_LITERAL.test(domain));
  if (!wellFormed) throw new Fault("malformed", `not a mail address: ${JSON.stringify(text.slice(0, 80))}`);
  const lower = domain.toLowerCase();
  return { local, domain: lower, address: `${local}@${lower}`, key: `${local.toLowerCase()}@${lower}` };
}

/** Parse a domain name as it stands to the right of the `@`, into lower case. @throws Fault `malformed`. */
export function parseDomain(text: string): string {
  return parseMailbox(`a@${text}`).domain;
}

/** Whether the mailbox lies in the scope: an address of its own or a whole domain. */
export function inScope(mailbox: Mailbox, scope: readonly string[]): boolean {
  return scope.some((entry) => entry.toLowerCase() === mailbox.key || entry.toLowerCase() === mailbox.domain);
}

type Token = { readonly kind: "text" | "special"; readonly text: string };

const MOST_TOKENS = 20_000;

/** Splits a header value into words, quoted strings and specials; comments are dropped. */
function tokensOf(value: string): Token[] {
  const tokens: Token[] = [];
  const pattern = /\s+|"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|[<>,:;@.()]|[^\s"<>,:;@.()[\]]+/gsu;
  let comment = 0;
  let end = 0;
  for (const match of value.matchAll(pattern)) {
    if (match.index !== end || tokens.length > MOST_TOKENS) throw new Fault("malformed", "an address list cannot be read");
    const text = match[0];
    end = match.index + text.length;
    if (text === "(") comment++;
    else if (text === ")") comment--;
    else if (comment === 0 && text.trim() !== "") tokens.push({ kind: /^[<>,:;@.]$/u.test(text) ? "special" : "text", text });
    if (comment < 0) throw new Fault("malformed", "an address list has an unopened comment");
  }
  if (end !== value.length || comment !== 0) throw new Fault("malformed", "an address list cannot be read");
  return tokens;
}

/**
 * The mailboxes named in the value of From, To, Cc, Sender or the like: display names, comments and groups are read over.
 * @throws Fault `malformed` where the value cannot be read without guessing.
 */
export function parseAddressList(value: string): Mailbox[] {
  const found: Mailbox[] = [];
  let words: string[] = [];
  let angle: string | undefined;
  let inAngle = false;
  const finish = (): void => {
    const text = angle ?? words.join("");
    if (text !== "") found.push(parseMailbox(text));
    words = [];
    angle = undefined;
  };
  for (const { kind, text } of tokensOf(value)) {
    if (kind === "text" || text === "@" || text === ".") {
      if (inAngle) angle = `${angle ?? ""}${text}`;
      else if (angle === undefined) words.push(text);
      else throw new Fault("malformed", "words follow the address in an address list");
    } else if (text === "<" && !inAngle && angle === undefined) {
      inAngle = true;
      angle = "";
    } else if (text === ">" && inAngle) inAngle = false;
    else if (inAngle) throw new Fault("malformed", "an address is not closed"); // source routes <@a,@b:c@d> are obsolete and refused
    else if (text === ":") words = []; // a group's name
    else finish(); // "," or ";"
  }
  if (inAngle) throw new Fault("malformed", "an address is not closed");
  finish();
  return found;
}
