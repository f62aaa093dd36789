/** What a mail of the broker says to a person: the catalogue's words filled in (S11, T1, T2). "Given out" and "opened" stay two facts. */
import type { ReportEvidence } from "./evidence.ts";
import { wordsFor, type Label, type Language, type ReportKind } from "./words.ts";

/** Which of the mails an evidence makes. */
export function reportKind(evidence: ReportEvidence): ReportKind {
  if (evidence.event === "ContentHandover") return "opened";
  if (evidence.event === "Delayed") return "delayed";
  if (evidence.reason === "recalled") return "recalled";
  return evidence.releasedAt === "" ? "expired" : "unconfirmed";
}

const HOW_TO_VERIFY: Readonly<Record<"opened" | "other", readonly string[]>> = {
  opened: ["  kakitome verify receipt.eml --ca ca.pem --original original.p7s --payload letter.mime"],
  other: ["  kakitome verify report.eml --ca ca.pem"],
};

/** The text of the mail. */
export function reportText(evidence: ReportEvidence, language: Language): string {
  const { openings, labels, never, explanations } = wordsFor(language, evidence.hold);
  const kind = reportKind(evidence);
  const facts: readonly (readonly [Label, string])[] = [
    ["recipient", evidence.recipient],
    ["messageId", evidence.messageId],
    ["declaredAt", evidence.declaredAt],
    ["releasedAt", evidence.releasedAt === "" ? never : evidence.releasedAt],
    ...happened(evidence),
    ["evidence", evidence.evidence],
  ];
  const width = Math.max(...Object.values(labels).map((label) => columns(label))) + 2;
  const line = ([label, value]: readonly [Label, string]): string => `${padded(`${labels[label]}:`, width)}${value}`;
  return [
    openings[kind],
    "",
    ...facts.map(line),
    "",
    ...explanations[kind],
    "",
    ...HOW_TO_VERIFY[kind === "opened" ? "opened" : "other"],
    "  openssl cms -verify -inform DER -in evidence.p7m -CAfile ca.pem",
    "",
  ].join("\n");
}

function happened(evidence: ReportEvidence): readonly (readonly [Label, string])[] {
  if (evidence.event === "ContentHandover") return [["confirmedAt", evidence.confirmedAt]];
  const expiry = ["expiresAt", evidence.expiresAt] as const;
  return [evidence.event === "Delayed" ? (["delayedAt", evidence.delayedAt] as const) : (["endedAt", evidence.endedAt] as const), expiry];
}

/** East Asian characters take two columns. */
function columns(text: string): number {
  return [...text].reduce((sum, character) => sum + ((character.codePointAt(0) ?? 0) > 0x2fff ? 2 : 1), 0);
}

function padded(text: string, width: number): string {
  return text + " ".repeat(Math.max(1, width - columns(text)));
}
