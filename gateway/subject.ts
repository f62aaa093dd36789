/** The Subject as words: encoded words read and written (RFC 2047), so that a keyword is found in whatever a client made of it. */
import { folded } from "../mime/headers.ts";

const ENCODED_WORD = /=\?([^?\s]{1,40})\?([bq])\?([^?]*)\?=/giu;

/** Encoded words as a reader shows them (RFC 2047 §6.2: white space between two of them is not shown). */
export function decodedWords(value: string): string {
  return value.replaceAll(/\?=\s+=\?/gu, "?==?").replaceAll(ENCODED_WORD, (_whole, charset: string, encoding: string, text: string) => {
    const bytes =
      encoding.toLowerCase() === "b"
        ? Buffer.from(text, "base64")
        : Buffer.from(
            text
              .replaceAll("_", " ")
              .replaceAll(/=([0-9A-F]{2})/giu, (_hex, digits: string) => String.fromCharCode(Number.parseInt(digits, 16))),
            "latin1",
          );
    return textOf(bytes, charset);
  });
}

function textOf(bytes: Buffer, charset: string): string {
  try {
    return new TextDecoder(charset.split("*")[0]).decode(bytes); // RFC 2231 §5: a language behind the star
  } catch {
    return bytes.toString("latin1");
  }
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
