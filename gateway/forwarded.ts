/** What a mail server in front says of its own client (XFORWARD, postfix.org/XFORWARD_README): kept for one transaction, handed to the next hop. */
import type { SMTPServerSession } from "smtp-server";

const NAMES = ["NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE"] as const;
type Name = (typeof NAMES)[number];

/** By attribute, decoded. What the server in front does not know is `[UNAVAILABLE]`. */
export type Forwarded = Readonly<Partial<Record<Name, string>>>;

const UNKNOWN = "[UNAVAILABLE]";
/** A command line, its verb and CRLF included (RFC 5321 §4.5.3.1.4). */
const LONGEST_LINE = 512;

/** Takes the attributes out of a session: they hold for the transaction that begins, and for no other. */
export function takeForwarded({ xForward }: SMTPServerSession): Forwarded | undefined {
  if (!xForward || xForward.size === 0) return undefined;
  const entries = NAMES.filter((name) => xForward.has(name)).map((name) => [name, String(xForward.get(name) || UNKNOWN)]);
  xForward.clear();
  return Object.fromEntries(entries) as Forwarded;
}

/**
 * The commands that hand the attributes on: as few as fit into lines, only with what the hop knows.
 * @param offered the attributes behind XFORWARD in the hop's answer to EHLO
 */
export function forwardCommands(forwarded: Forwarded, offered: ReadonlySet<string>): string[] {
  const lines: string[] = [];
  for (const name of NAMES) {
    const value = forwarded[name];
    if (value === undefined || !offered.has(name)) continue;
    const word = `${name}=${xtext(name === "ADDR" && value.includes(":") ? `IPV6:${value}` : value)}`;
    const last = lines.at(-1);
    if (last !== undefined && last.length + word.length < LONGEST_LINE - 2) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(`XFORWARD ${word}`);
  }
  return lines;
}

/** RFC 3461 §4. */
function xtext(value: string): string {
  return [...Buffer.from(value)]
    .map((octet) => (octet < 0x21 || octet > 0x7e || octet === 0x2b || octet === 0x3d ? `+${hex(octet)}` : String.fromCodePoint(octet)))
    .join("");
}

const hex = (octet: number): string => octet.toString(16).toUpperCase().padStart(2, "0");
