/** The notice to a sender whose letter could not be handed over (RFC 3464); it returns the sealed copy's header, never a text. */
import { hash } from "node:crypto";
import { splitMessage } from "../mime/headers.ts";
import { noticeMail, printable } from "./notice.ts";
import { WORDS, type Language } from "./words.ts";

export interface Failure {
  /** Whether it was a registered letter, or a message that went without one. */
  readonly sealed: boolean;
  readonly host: string;
  readonly language: Language;
  readonly sender: string;
  readonly recipient: string;
  readonly originalRecipient: string | undefined;
  readonly envelopeId: string | undefined;
  readonly messageId: string;
  /** The enhanced status code of the failure. */
  readonly status: string;
  /** The next hop's words. */
  readonly answer: string;
  /** The copy that was not taken. */
  readonly message: Buffer;
  readonly acceptedAt: Date;
  readonly now: Date;
  readonly id: string;
}

/** Builds the notice. */
export function failureNotice(failure: Failure): Buffer {
  const { sealed, recipient, originalRecipient, messageId, status, answer, acceptedAt, envelopeId, language } = failure;
  return noticeMail({
    host: failure.host,
    to: failure.sender,
    language,
    text: WORDS[language].failed({ sealed, recipient, messageId, reason: printable(answer) }),
    id: failure.id,
    now: failure.now,
    about: messageId,
    failures: {
      acceptedAt,
      envelopeId,
      recipients: [{ recipient, originalRecipient, status, answer }],
      header: splitMessage(failure.message).fields,
    },
  });
}

/** What is said of a copy that no next hop refused. */
export const LOST = { stage: "refused", status: "5.4.7", answer: "The letter waited until its key was gone; nobody can open it." } as const;
export const DAMAGED = { stage: "refused", status: "5.3.0", answer: "The gateway's copy of the letter was damaged." } as const;

/** What the next hop said to a copy. */
export interface Refusal {
  /** The enhanced status code. */
  readonly status: string;
  readonly answer: string;
  readonly message: Buffer;
  readonly sealed: boolean;
}

/** Names the notice about a copy, by its place in the entry: the same at every attempt, so that a crash between the notice and its mark does not send two. */
export function noticeId(letter: string, at: number): string {
  return hash("sha256", `notice ${letter} ${at}`).slice(0, 32);
}
