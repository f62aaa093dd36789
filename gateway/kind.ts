/** What a message may be by its structure alone: a sealed letter, a receipt, a mail that somebody signed. */
import type { Structure } from "./mailbox.ts";

type Kind = "sealed" | "report" | "signed";

const SIGNATURE = /^application\/(?:x-)?pkcs7-signature$/u;
const ENVELOPE = /^application\/(?:x-)?pkcs7-mime$/u;

/** Only these are fetched, or looked into. */
export function kindOf(structure: Structure | undefined): Kind | undefined {
  const typeAt = (...path: number[]): string =>
    path.reduce((node: Structure | undefined, at) => node?.childNodes?.[at], structure)?.type.toLowerCase() ?? "";
  const isSealed = (...path: number[]): boolean => {
    const enclosed = ENVELOPE.test(typeAt(...path));
    return enclosed || (typeAt(...path) === "multipart/mixed" && ENVELOPE.test(typeAt(...path, 1)));
  };
  if (isSealed()) return "sealed";
  if (typeAt() !== "multipart/signed") return undefined;
  if (typeAt(0) === "multipart/report") return "report";
  if (isSealed(0)) return "sealed"; // signed outside
  return SIGNATURE.test(typeAt(1)) ? "signed" : undefined;
}
