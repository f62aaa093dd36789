/** How strings, lists and dates are written to a client: RFC 3501 §4.3 (strings), §4.4 (lists) and §9 (date-time). */

/** A piece of a response. A string stands for octets: one character below U+0100 is one octet. */
export type Piece = string | Buffer;

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"] as const;

/** Month 0 to 11 of its English name in any case, or -1. */
export function monthOf(name: string): number {
  const wanted = name.toLowerCase();
  return MONTHS.findIndex((month) => month.toLowerCase() === wanted);
}

/** A string in quotes, or as a literal when it holds octets that quotes cannot carry. */
export function quoted(text: string): string {
  if (text.length > 1000 || /[^\t\x20-\x7e]/.test(text)) return `{${text.length}}\r\n${text}`;
  return `"${text.replaceAll(/["\\]/g, String.raw`\$&`)}"`;
}

/** A string, or NIL where there is none. */
export function nstring(text: string | undefined): string {
  return text === undefined ? "NIL" : quoted(text);
}

/** Items in parentheses with a space between. */
export function list(items: readonly string[]): string {
  return `(${items.join(" ")})`;
}

/** An INTERNALDATE, always in UTC. */
export function dateTime(date: Date): string {
  const day = String(date.getUTCDate()).padStart(2, " ");
  const clock = [date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()].map((value) => String(value).padStart(2, "0")).join(":");
  return `"${day}-${MONTHS[date.getUTCMonth()] ?? ""}-${String(date.getUTCFullYear()).padStart(4, "0")} ${clock} +0000"`;
}
