/** The notice to a sender whose letter could not be handed over (RFC 3464); it returns the sealed copy's header, never a text. */
import { multipart, textEntity } from "../mime/entity.ts";
import { field, joinMessage, splitMessage } from "../mime/headers.ts";

export interface Failure {
  /** Whether it was a registered letter, or a message that the policy passed on unsealed. */
  readonly sealed: boolean;
  readonly host: string;
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

const ERASED = [
  "The broker has been told to erase its key: nobody can open the copy that was",
  "on its way. No receipt will come for this recipient. Mend the reason and send",
  "the letter again.",
];

const printable = (text: string): string =>
  text
    .replace(/[^\x20-\x7E]+/gu, " ")
    .trim()
    .slice(0, 400);
const date = (time: Date): string => time.toUTCString().replace("GMT", "+0000");

/** Builds the notice. */
export function failureNotice(failure: Failure): Buffer {
  const answer = printable(failure.answer);
  const text = textEntity(
    [
      `Your ${failure.sealed ? "registered letter" : "message"} could not be handed over.`,
      "",
      `Recipient:  ${failure.recipient}`,
      `Message-ID: ${failure.messageId}`,
      `Reason:     ${answer}`,
      "",
      ...(failure.sealed ? ERASED : ["Mend the reason and send the message to this recipient again."]),
      "",
    ].join("\n"),
  );
  const perMessage = [
    field("Reporting-MTA", `dns; ${failure.host}`),
    field("Arrival-Date", date(failure.acceptedAt)),
    ...(failure.envelopeId === undefined ? [] : [field("Original-Envelope-Id", printable(failure.envelopeId))]),
  ];
  const perRecipient = [
    ...(failure.originalRecipient === undefined ? [] : [field("Original-Recipient", printable(failure.originalRecipient))]),
    field("Final-Recipient", `rfc822; ${failure.recipient}`),
    field("Action", "failed"),
    field("Status", failure.status),
    field("Diagnostic-Code", `smtp; ${answer}`),
  ];
  const status = joinMessage(
    [field("Content-Type", "message/delivery-status")],
    Buffer.concat([joinMessage(perMessage, Buffer.alloc(0)), joinMessage(perRecipient, Buffer.alloc(0))]),
  );
  const original = joinMessage(
    [field("Content-Type", "text/rfc822-headers")],
    joinMessage(splitMessage(failure.message).fields, Buffer.alloc(0)),
  );
  return multipart("report", [text, status, original], {
    fields: [
      field("From", `Mail gateway <postmaster@${failure.host}>`),
      field("To", failure.sender),
      field("Subject", `Not delivered: ${failure.sealed ? "registered letter" : "message"} to ${failure.recipient}`),
      field("Date", date(failure.now)),
      field("Message-ID", `<${failure.id}@${failure.host}>`),
      field("In-Reply-To", failure.messageId),
      field("References", failure.messageId),
      field("Auto-Submitted", "auto-replied"),
      field("MIME-Version", "1.0"),
    ],
    parameters: "report-type=delivery-status",
  });
}
