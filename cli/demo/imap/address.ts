/** Address lists of a header as ENVELOPE shows them: RFC 5322 §3.4 read leniently, RFC 3501 §7.4.2 written. */

import { nstring } from "./wire.ts";

interface Token {
  readonly kind: "word" | "quoted" | "comment" | "sign";
  readonly text: string;
}

const TOKEN =
  /(?<space>\s+)|"(?<quoted>[^"\\]*(?:\\.[^"\\]*)*)"?|(?<literal>\[[^\]]*\]?)|(?<sign>[<>@,;:])|(?<open>\()|(?<word>[^\s"[<>@,;:(]+)/g;

function tokens(text: string): Token[] {
  const found: Token[] = [];
  const pattern = new RegExp(TOKEN);
  for (let match = pattern.exec(text); match !== null; match = pattern.exec(text)) {
    const { space, quoted, literal, sign, open, word } = match.groups ?? {};
    if (space !== undefined) continue;
    if (open !== undefined) {
      const end = commentEnd(text, pattern.lastIndex);
      found.push({ kind: "comment", text: unescape(text.slice(pattern.lastIndex, end - 1)) });
      pattern.lastIndex = end;
    } else if (sign !== undefined) found.push({ kind: "sign", text: sign });
    else if (quoted !== undefined) found.push({ kind: "quoted", text: unescape(quoted) });
    else found.push({ kind: "word", text: literal ?? word ?? "" });
  }
  return found;
}

function unescape(text: string): string {
  return text.replaceAll(/\\(.)/g, "$1");
}

/** Where a comment that has just been opened is closed, past its parenthesis. */
function commentEnd(text: string, start: number): number {
  let at = start;
  for (let depth = 1; at < text.length && depth > 0; at += 1) {
    const sign = text[at];
    if (sign === "\\") at += 1;
    else if (sign === "(") depth += 1;
    else if (sign === ")") depth -= 1;
  }
  return at;
}

/** The addresses of a value, each as `(name route mailbox host)`; groups as RFC 3501 marks their two ends. */
export function addresses(text: string): string[] {
  const written: string[] = [];
  let inGroup = false;
  let pending: Token[] = [];
  let angled = false;
  const flush = (): void => {
    if (pending.some((token) => token.kind !== "comment")) written.push(oneAddress(pending));
    pending = [];
    angled = false;
  };
  for (const token of tokens(text)) {
    const sign = token.kind === "sign" ? token.text : "";
    if (sign === "<") angled = true;
    if (sign === ">") angled = false;
    if (sign === "," && !angled) flush();
    else if (sign === ";") {
      flush();
      if (inGroup) written.push("(NIL NIL NIL NIL)");
      inGroup = false;
    } else if (sign === ":" && !angled && !inGroup) {
      written.push(`(NIL NIL ${nstring(phrase(pending) ?? "")} NIL)`);
      pending = [];
      inGroup = true;
    } else pending.push(token);
  }
  flush();
  if (inGroup) written.push("(NIL NIL NIL NIL)");
  return written;
}

function oneAddress(all: readonly Token[]): string {
  const comment = all.find((token) => token.kind === "comment")?.text;
  const seen = all.filter((token) => token.kind !== "comment");
  const open = seen.findIndex((token) => token.kind === "sign" && token.text === "<");
  if (open < 0) return render(comment, undefined, seen);
  const inside = seen.slice(open + 1);
  const close = inside.findIndex((token) => token.kind === "sign" && token.text === ">");
  const spec = close < 0 ? inside : inside.slice(0, close);
  // An old source route, <@a,@b:c@d>: RFC 5322 §4.4.
  const colon = spec.findIndex((token) => token.kind === "sign" && token.text === ":");
  const route =
    colon < 0
      ? undefined
      : spec
          .slice(0, colon)
          .map((token) => token.text)
          .join("");
  return render(phrase(seen.slice(0, open)) ?? comment, route, spec.slice(colon + 1));
}

function render(name: string | undefined, route: string | undefined, spec: readonly Token[]): string {
  const at = spec.findLastIndex((token) => token.kind === "sign" && token.text === "@");
  const text = (part: readonly Token[]): string => part.map((token) => token.text).join("");
  const [local, host] = at < 0 ? [phrase(spec) ?? "", ""] : [text(spec.slice(0, at)), text(spec.slice(at + 1))];
  // A host is never NIL here: that would read as the mark of a group.
  return `(${nstring(name)} ${nstring(route)} ${nstring(local)} ${nstring(host)})`;
}

function phrase(words: readonly Token[]): string | undefined {
  const text = words
    .filter((token) => token.kind !== "comment")
    .map((token) => token.text)
    .join(" ");
  return text === "" ? undefined : text;
}
