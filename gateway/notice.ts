/** A mail of the gateway itself to one of its people: threaded below what it speaks of, marked as automatic, with a delivery status where there is one (RFC 3464, RFC 3834 §5). */
import { typedAddress } from "../mime/address.ts";
import { headersEntity, multipart, textEntity } from "../mime/entity.ts";
import { field, joinMessage, splitMessage, type HeaderField } from "../mime/headers.ts";
import { encodedWords } from "./subject.ts";
import { WORDS, type Language, type Text } from "./words.ts";

/** One recipient of whom a delivery status speaks. */
interface RecipientStatus {
  readonly recipient: string;
  readonly originalRecipient?: string | undefined;
  /** The enhanced status code. */
  readonly status: string;
  /** What a mail server, or this gateway, said. */
  readonly answer: string;
}

export interface Notice {
  readonly host: string;
  readonly to: string;
  readonly language: Language;
  readonly text: Text;
  /** Names the notice; the same for the same notice. */
  readonly id: string;
  readonly now: Date;
  /** The Message-ID of what it speaks of. */
  readonly about: string | undefined;
  /** Further fields on top of the others. */
  readonly fields?: readonly HeaderField[];
  readonly failures?: {
    readonly acceptedAt: Date;
    readonly envelopeId?: string | undefined;
    readonly recipients: readonly RecipientStatus[];
    /** What was not delivered; its header is returned, never a text. */
    readonly header: readonly HeaderField[];
  };
}

export const printable = (text: string): string =>
  text
    .replace(/[^\x20-\x7E]+/gu, " ")
    .trim()
    .slice(0, 400);
const date = (time: Date): string => time.toUTCString().replace("GMT", "+0000");
const NOTHING = Buffer.alloc(0);
const MESSAGE_ID = /^<[^\s<>]{1,900}>$/u;

/** Builds the mail. */
export function noticeMail(notice: Notice): Buffer {
  const { host, to, language, text, id, now, about, failures } = notice;
  const thread = about !== undefined && MESSAGE_ID.test(about) ? [field("In-Reply-To", about), field("References", about)] : [];
  const top = [
    ...(notice.fields ?? []),
    field("From", `${encodedWords(WORDS[language].from, "From: ".length)} <postmaster@${host}>`),
    field("To", to),
    field("Subject", encodedWords(text.subject)),
    field("Date", date(now)),
    field("Message-ID", `<${id}@${host}>`),
    ...thread,
    field("Auto-Submitted", "auto-replied"),
    field("MIME-Version", "1.0"),
  ];
  const entity = textEntity([...text.lines, ""].join("\n"));
  if (!failures) {
    const { fields, body } = splitMessage(entity);
    return joinMessage([...top, ...fields], body);
  }
  const parts = [entity, statusEntity(host, failures), headersEntity(failures.header)];
  return multipart("report", parts, { fields: top, parameters: "report-type=delivery-status" });
}

function statusEntity(host: string, { acceptedAt, envelopeId, recipients }: NonNullable<Notice["failures"]>): Buffer {
  const perMessage = [
    field("Reporting-MTA", `dns; ${host}`),
    field("Arrival-Date", date(acceptedAt)),
    ...(envelopeId === undefined ? [] : [field("Original-Envelope-Id", printable(envelopeId))]),
  ];
  const groups = recipients.map(({ recipient, originalRecipient, status, answer }) => [
    ...(originalRecipient === undefined ? [] : [field("Original-Recipient", printable(originalRecipient))]),
    field("Final-Recipient", typedAddress(recipient)),
    field("Action", "failed"),
    field("Status", status),
    field("Diagnostic-Code", `smtp; ${printable(answer)}`),
  ]);
  const body = [perMessage, ...groups].map((fields) => joinMessage(fields, NOTHING));
  return joinMessage([field("Content-Type", "message/delivery-status")], Buffer.concat(body));
}
