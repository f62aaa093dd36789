/** Mailboxes: one address parsed into a type that cannot be wrong (RFC 5321 §4.1.2, RFC 6531 §3.3), and address lists of header fields (RFC 5322 §3.4). */
import { Fault } from "./fault.ts";

/**
 * A mailbox that was parsed: `local@domain`, the domain in lower case and in A-labels (RFC 5890 §2.3.2.1). Clients, libraries and certificates
 * write a domain outside ASCII in either form; rules and identities must hold for both.
 */
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
/** Beyond ASCII: every character but the second set of controls and halves of surrogate pairs (RFC 6531 §3.3). */
const BEYOND = "\\u{A0}-\\u{D7FF}\\u{E000}-\\u{10FFFF}";
const ATOM = `[A-Za-z0-9!#$%&'*+/=?^_\`{|}~${BEYOND}-]+`;
const DOT_ATOM = new RegExp(`^${ATOM}(?:\\.${ATOM})*$`, "u");
const QUOTED = new RegExp(`^"(?:[\\x20\\x21\\x23-\\x5B\\x5D-\\x7E${BEYOND}]|\\\\[\\x20-\\x7E])*"$`, "u");
const LABEL = `[A-Za-z0-9${BEYOND}](?:[A-Za-z0-9${BEYOND}-]{0,61}[A-Za-z0-9${BEYOND}])?`;
const DOMAIN = new RegExp(`^${LABEL}(?:\\.${LABEL})*$`, "u");
const ADDRESS_LITERAL = /^\[(?:\d{1,3}(?:\.\d{1,3}){3}|[Ii][Pp][Vv]6:[0-9A-Fa-f:.]+)\]$/u;

/**
 * Parse `local@domain`.
 * @throws Fault `malformed`: no `@`, an empty side, a control character, a side outside the grammar, or more than 254 octets.
 */
export function parseMailbox(text: string): Mailbox {
  const at = text.lastIndexOf("@");
  const local = text.slice(0, at);
  const domain = inAsciiLabels(text.slice(at + 1));
  const address = `${local}@${domain}`;
  const wellFormed =
    at > 0 &&
    domain !== "" &&
    Buffer.byteLength(address) <= LONGEST_ADDRESS_OCTETS &&
    Buffer.byteLength(local) <= 64 && // RFC 5321 §4.5.3.1.1
    (DOT_ATOM.test(local) || QUOTED.test(local));
  if (!wellFormed) throw new Fault("malformed", `not a mail address: ${JSON.stringify(text.slice(0, 80))}`);
  return { local, domain, address, key: `${local.toLowerCase()}@${domain}` };
}

/** The mailbox in as few quotes as it can be written with: all forms with quotes are the same one as that (RFC 5321 §4.1.2). */
export function leastQuoted(mailbox: Mailbox): Mailbox {
  const { local, domain } = mailbox;
  if (!local.startsWith('"')) return mailbox;
  const bare = local.slice(1, -1).replaceAll(/\\(.)/gu, "$1");
  return parseMailbox(`${DOT_ATOM.test(bare) ? bare : `"${bare.replaceAll(/["\\]/gu, "\\$&")}"`}@${domain}`);
}

/** As a delivery status names it: with its type, in ASCII also where it is none (RFC 3464 §2.1.2, RFC 6533 §3). */
export function typedAddress(address: string): string {
  if (/^[\x20-\x7E]*$/u.test(address)) return `rfc822; ${address}`;
  return `utf-8; ${address.replaceAll(/[^!-~]|[+=\\]/gu, (sign) => `\\x{${(sign.codePointAt(0) ?? 0).toString(16).toUpperCase()}}`)}`;
}

/** A domain in lower case and A-labels, or an address literal; "" for what is neither. */
function inAsciiLabels(domain: string): string {
  if (ADDRESS_LITERAL.test(domain)) return domain.toLowerCase();
  if (!DOMAIN.test(domain)) return "";
  const labels = domain
    .split(/[.\u3002\uFF0E\uFF61]/u)
    .map((label) => (/^[\x21-\x7E]*$/u.test(label) ? label.toLowerCase() : inAscii(label)));
  return DOMAIN.test(labels.join(".")) ? labels.join(".") : "";
}

/** As the URL Standard writes a host (UTS #46); label by label, for digits at the end of a name would be an IPv4 address. "" where it is none. */
function inAscii(label: string): string {
  try {
    const { hostname } = new URL(`http://${label}`);
    return hostname.includes(".") ? "" : hostname;
  } catch {
    return "";
  }
}

/** How a mailbox is looked up, of a text that may be none: then as it is, in lower case. */
export function keyOf(text: string): string {
  try {
    return parseMailbox(text).key;
  } catch {
    return text.toLowerCase();
  }
}

/** Parse a domain name as it stands to the right of the `@`, into lower case. @throws Fault `malformed`. */
export function parseDomain(text: string): string {
  try {
    return parseMailbox(`a@${text}`).domain;
  } catch {
    throw new Fault("malformed", `not a domain name: ${JSON.stringify(text.slice(0, 80))}`);
  }
}

/** Whether the mailbox lies in the scope: an address of its own or a whole domain. */
export function inScope(mailbox: Mailbox, scope: readonly string[]): boolean {
  return scope.some((entry) => entry.toLowerCase() === mailbox.key || entry.toLowerCase() === mailbox.domain);
}

type Token = { readonly kind: "word" | "literal" | "special"; readonly text: string };

const MOST_TOKENS = 20_000;
const unreadable = (why: string): Fault => new Fault("malformed", `an address list cannot be read: ${why}`);

/** Where a comment that begins at `start` ends; comments nest, and quotes and brackets mean nothing in them (RFC 5322 §3.2.2). */
function commentEnd(value: string, start: number): number {
  let depth = 0;
  for (let at = start; at < value.length; at++) {
    const sign = value[at];
    if (sign === "\\") at++;
    else if (sign === "(") depth++;
    else if (sign === ")" && --depth === 0) return at + 1;
  }
  throw unreadable("a comment is not closed");
}

/** Splits a header value into words, domain literals and specials; white space and comments are dropped. One look at each character. */
function tokensOf(value: string): Token[] {
  const tokens: Token[] = [];
  const pattern = /[ \t]+|\r\n(?=[ \t])|("(?:[^"\\\r\n]|\\[^\r\n])*")|(\[[^[\]\\\r\n]*\])|([<>,:;@.])|([^\s"<>,:;@.()[\]\\]+)/gsuy;
  for (let at = 0; at < value.length;) {
    if (tokens.length > MOST_TOKENS) throw unreadable("it is too long");
    if (value[at] === "(") {
      at = commentEnd(value, at);
      continue;
    }
    pattern.lastIndex = at;
    const match = pattern.exec(value);
    if (!match) throw unreadable("a character stands in the wrong place");
    const [whole, quoted, literal, special, atom] = match;
    const word = quoted ?? atom;
    if (word !== undefined) tokens.push({ kind: "word", text: word });
    else if (literal !== undefined) tokens.push({ kind: "literal", text: literal });
    else if (special !== undefined) tokens.push({ kind: "special", text: special });
    at += whole.length;
  }
  return tokens;
}

/**
 * The mailboxes named in the value of From, To, Cc, Sender or the like: display names, comments and groups are read over (RFC 5322 §3.4).
 * @throws Fault `malformed` where the value cannot be read without guessing; source routes are obsolete and refused.
 */
export function parseAddressList(value: string): Mailbox[] {
  const tokens = tokensOf(value);
  const found: Mailbox[] = [];
  let at = 0;
  const isSpecial = (text: string): boolean => tokens[at]?.kind === "special" && tokens[at]?.text === text;
  const take = (text: string): boolean => isSpecial(text) && ++at > 0;

  /** word *("." word) "@" domain, nothing between the parts. */
  const addressSpec = (): Mailbox => {
    const text: string[] = [];
    let wantsWord = true;
    for (; at < tokens.length && !["<", ">", ",", ":", ";"].some((end) => isSpecial(end)); at++) {
      const { kind, text: part } = tokens[at] ?? { kind: "special", text: "" };
      if ((kind !== "special") !== wantsWord) throw unreadable("two words stand side by side, or a dot alone");
      wantsWord = !wantsWord;
      text.push(part);
    }
    return parseMailbox(text.join(""));
  };

  /** A display name may hold words and dots (RFC 5322 §4.1). */
  const skipPhrase = (): void => {
    while (tokens[at]?.kind === "word" || isSpecial(".")) at++;
  };

  const mailbox = (): void => {
    const start = at;
    skipPhrase();
    if (take("<")) {
      if (take(">")) return; // the null path of Return-Path and the like names nobody
      found.push(addressSpec());
      if (!take(">")) throw unreadable("an address is not closed");
      return;
    }
    at = start;
    found.push(addressSpec());
  };

  const entry = (): void => {
    const start = at;
    skipPhrase();
    if (at === start || !take(":")) {
      at = start;
      mailbox();
      return;
    }
    while (!take(";")) {
      if (at >= tokens.length) throw unreadable("a group is not closed");
      if (take(",")) continue;
      mailbox();
      if (!isSpecial(",") && !isSpecial(";")) throw unreadable("a comma is missing");
    }
  };

  while (at < tokens.length) {
    if (take(",")) continue;
    entry();
    if (at < tokens.length && !isSpecial(",")) throw unreadable("a comma is missing");
  }
  return found;
}
