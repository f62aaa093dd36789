/** Header fields and what stands in them: RFC 5322 §2.2, RFC 2045 §5.1 (parameters), RFC 2047 (encoded words). All text is one character an octet. */

/** A header field: its name, its value unfolded, and its octets as they stand with their line ends. */
export interface Field {
  readonly name: string;
  readonly value: string;
  readonly raw: string;
}

/** A value such as `text/plain; charset=utf-8`, cut at its semicolons. */
export interface Structured {
  readonly value: string;
  readonly parameters: readonly (readonly [string, string])[];
}

/** The fields of a header; a line that is no field is kept as a field without a name. */
export function parseFields(text: string): Field[] {
  const blocks: string[] = [];
  for (const line of text.match(/[^\n]*\n|[^\n]+$/g) ?? []) {
    if (/^\r?\n$/.test(line)) break;
    if (/^[ \t]/.test(line) && blocks.length > 0) blocks.push((blocks.pop() ?? "") + line);
    else blocks.push(line);
  }
  return blocks.map((raw) => {
    const colon = raw.indexOf(":");
    const name = raw.slice(0, Math.max(colon, 0)).trimEnd();
    const known = /^[\x21-\x39\x3b-\x7e]+$/.test(name);
    return { name: known ? name : "", value: known ? unfold(raw.slice(colon + 1)) : "", raw };
  });
}

function unfold(text: string): string {
  return text
    .replaceAll(/\r?\n/g, "")
    .replace(/^[ \t]+/, "")
    .trimEnd();
}

/** The value of the first field of a name, or undefined. */
export function fieldOf(fields: readonly Field[], name: string): string | undefined {
  const wanted = name.toLowerCase();
  return fields.find((field) => field.name.toLowerCase() === wanted)?.value;
}

/** Cut a structured value; comments are dropped and quotes are opened. */
export function parseStructured(text: string): Structured {
  const [value = "", ...rest] = cutOutsideQuotes(withoutComments(text));
  const parameters = rest.flatMap((piece) => {
    const equals = piece.indexOf("=");
    const name = piece.slice(0, Math.max(equals, 0)).trim();
    return name === "" ? [] : [[name, unquote(piece.slice(equals + 1).trim())] as const];
  });
  return { value: value.trim(), parameters };
}

function unquote(text: string): string {
  if (!text.startsWith('"')) return text;
  return text.replace(/^"/, "").replace(/"$/, "").replaceAll(/\\(.)/g, "$1");
}

function cutOutsideQuotes(text: string): string[] {
  return text.match(/(?:"[^"\\]*(?:\\.[^"\\]*)*"?|[^";]+)+/g) ?? [];
}

/** Text without its comments in parentheses, nested ones too; what is in quotes stays. */
export function withoutComments(text: string): string {
  let depth = 0;
  let kept = "";
  for (const [token] of text.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"?|\\.|[()]|[^"\\()]+|\\/g)) {
    if (token === "(") depth += 1;
    else if (token === ")" && depth > 0) depth -= 1;
    else if (depth === 0) kept += token;
  }
  return kept;
}

/** Octets as UTF-8, or as Latin-1 when they are not UTF-8. */
export function lenientText(octets: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(octets);
  } catch {
    return octets.toString("latin1");
  }
}

/** Octets in a named charset; leniently when the name is not known. */
export function textIn(charset: string, octets: Buffer): string {
  try {
    const decoder = new TextDecoder(charset, { fatal: true });
    return decoder.decode(octets);
  } catch {
    return lenientText(octets);
  }
}

/** Octets of a quoted-printable text. */
export function fromQuotedPrintable(text: string): Buffer {
  const joined = text.replaceAll(/[ \t]*=\r?\n/g, "");
  return Buffer.from(
    joined.replaceAll(/=([0-9A-Fa-f]{2})/g, (_all, hex: string) => String.fromCodePoint(Number.parseInt(hex, 16))),
    "latin1",
  );
}

/** A header value for a reader: its encoded words opened, the rest leniently. */
export function readable(value: string): string {
  const joined = value.replaceAll(/(\?=)[ \t]+(?==\?)/g, "$1");
  const pieces = joined.split(/(=\?[^?\s]+\?[BbQq]\?[^?]*\?=)/);
  return pieces.map((piece, index) => (index % 2 === 1 ? openWord(piece) : lenientText(Buffer.from(piece, "latin1")))).join("");
}

function openWord(word: string): string {
  const [, charset = "", encoding = "", text = ""] = word.split("?");
  const octets = encoding.toUpperCase() === "B" ? Buffer.from(text, "base64") : fromQuotedPrintable(text.replaceAll("_", " "));
  return textIn(charset.replace(/\*.*$/, ""), octets);
}
