/** The Subject as words: encoded words read and written (RFC 2047), so that a keyword is found in whatever a client made of it. */
import { folded } from "../mime/headers.ts";

const ENCODED_WORD = /=\?([^?\s]{1,40})\?([bq])\?([^?]*)\?=/giu;
/** Right behind one another. */
const ENCODED_WORDS = new RegExp(`(?:${ENCODED_WORD.source})+`, "giu");

/**
 * Encoded words as a reader shows them (RFC 2047 §6.2: white space between two of them is not shown). A character that is cut in two words,
 * which no client writes, is one here, as for many readers.
 */
export function decodedWords(value: string): string {
  return value.replaceAll(/\?=\s+=\?/gu, "?==?").replaceAll(ENCODED_WORDS, (words) => {
    let [shown, before] = ["", ""];
    let octets: Buffer[] = [];
    for (const [, charset = "", encoding = "", text = ""] of words.matchAll(ENCODED_WORD)) {
      if (charset !== before) [shown, before, octets] = [shown + textOf(Buffer.concat(octets), before), charset, []];
      octets.push(octetsOf(encoding, text));
    }
    return shown + textOf(Buffer.concat(octets), before);
  });
}

function octetsOf(encoding: string, text: string): Buffer {
  if (encoding.toLowerCase() === "b") return Buffer.from(text, "base64");
  const octets = text
    .replaceAll("_", " ")
    .replaceAll(/=([0-9A-F]{2})/giu, (_hex, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)));
  return Buffer.from(octets, "latin1");
}

function textOf(bytes: Buffer, charset: string): string {
  const name = charset.split("*")[0] ?? ""; // RFC 2231 §5: a language behind the star
  if (/utf-?7$/iu.test(name)) return fromUtf7(bytes.toString("latin1"));
  try {
    return new TextDecoder(name).decode(bytes);
  } catch {
    return bytes.toString("latin1");
  }
}

/** RFC 2152; some readers show it still, and the platform does not. */
function fromUtf7(text: string): string {
  return text.replaceAll(/\+([A-Za-z0-9+/]*)-?/gu, (_whole, coded: string) => {
    const octets = Buffer.from(coded, "base64");
    return coded === ""
      ? "+"
      : octets
          .subarray(0, octets.length & ~1)
          .swap16()
          .toString("utf16le");
  });
}

/** An encoded word has at most 75 characters; 45 octets make 60 of base64. */
const OCTETS_IN_A_WORD = 45;

/** The text as a field's value: as it is where it is printable ASCII, else as encoded words in UTF-8. @param used characters before it on its line */
export function encodedWords(text: string, used = "Subject: ".length): string {
  if (/^[\x20-\x7E]*$/u.test(text) && !text.includes("=?")) return text;
  const words: string[] = [];
  let piece = "";
  const flush = (): void => {
    if (piece !== "") words.push(`=?UTF-8?B?${Buffer.from(piece).toString("base64")}?=`);
    piece = "";
  };
  for (const sign of text.replaceAll(/[\0-\x1F\x7F]+/gu, " ")) {
    if (Buffer.byteLength(piece + sign) > OCTETS_IN_A_WORD) flush();
    piece += sign;
  }
  flush();
  return folded(words, used);
}
