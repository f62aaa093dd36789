/** The broker's mails to a sender: signed multipart/reports that any client threads under the letter and stock OpenSSL verifies (S11, T1, T2; RFC 6522, RFC 3464). */
import { typedAddress } from "./address.ts";
import { base64Entity, decodedBody, headersEntity, multipart, parseEntity, splitMultipart, textEntity, type Entity } from "./entity.ts";
import { signEvidence, verifyAsBroker, verifyEvidence, type AccessEvidence, type BrokerTrust, type ReportEvidence } from "./evidence.ts";
import { Fault } from "./fault.ts";
import { encodedWords, field, joinMessage, type HeaderField } from "./headers.ts";
import { reportKind, reportText } from "./report-text.ts";
import { sign, type Signer } from "./sign.ts";
import { wordsFor, type Language, type ReportKind } from "./words.ts";

export interface ReceiptOrder {
  readonly evidence: ReportEvidence;
  /** The statement before it where the key was given out. */
  readonly released: AccessEvidence | undefined;
  /** The recipient's signed receipt, DER; only where the letter was opened. */
  readonly recipientReceipt: Buffer | undefined;
  /** English where left out. */
  readonly language?: Language | undefined;
  /** The address that receipts come from and that a person answers. */
  readonly from: string;
  /** Host name of the broker, for Message-ID and Reporting-MTA. */
  readonly host: string;
  readonly time: Date;
}

const RFC822_DATE = (time: Date): string => time.toUTCString().replace("GMT", "+0000");

/** RFC 3464 §2.3.3, RFC 3463 §3.5 (delivery time expired), §3.8 (recalled: a matter of policy). */
const STATUS: Readonly<Record<ReportKind, readonly [action: string, status: string, diagnostic?: string | undefined]>> = {
  opened: ["delivered", "2.0.0"],
  delayed: ["delayed", "4.4.7"],
  expired: ["failed", "5.4.7"],
  unconfirmed: ["failed", "5.4.7"],
  recalled: ["failed", "5.7.5", "x-kakitome; recalled by sender"],
};

/** Of a letter whose key travels inside it nobody knows that it failed: it went where no report comes from (RFC 3464 §2.3.3). */
function statusFor(evidence: ReportEvidence, kind: ReportKind): (typeof STATUS)[ReportKind] {
  const [action, status, diagnostic] = STATUS[kind];
  return evidence.hold === "enclosed" && action === "failed" ? ["relayed", "2.0.0", diagnostic] : [action, status, diagnostic];
}

/** When what is reported happened, by the broker's clock. */
function happenedAt(evidence: ReportEvidence): string {
  if (evidence.event === "ContentHandover") return evidence.confirmedAt;
  return evidence.event === "Delayed" ? evidence.delayedAt : evidence.endedAt;
}

/** Builds the mail. Its Message-ID follows from the evidence, so a copy that is sent again is recognised. */
export function buildReceipt(order: ReceiptOrder, signer: Signer): Buffer {
  const { evidence, released, recipientReceipt, language = "en", from, host, time } = order;
  const kind = reportKind(evidence);
  const files = [
    attachment("signed-data", "evidence.p7m", signEvidence(evidence, signer, time)),
    ...(released ? [attachment("signed-data", "released.p7m", signEvidence(released, signer, time))] : []),
    ...(recipientReceipt ? [attachment("signed-receipt", "recipient-receipt.p7m", recipientReceipt)] : []), // RFC 2634 §2.4
  ];
  const original = [field("From", evidence.sender), field("To", evidence.recipient), field("Message-ID", evidence.messageId)];
  const parts = [
    multipart("mixed", [textEntity(reportText(evidence, language)), ...files]),
    joinMessage([field("Content-Type", "message/delivery-status")], statusOf(evidence, kind, host)),
    headersEntity(original),
  ];
  const report = multipart("report", parts, { parameters: "report-type=delivery-status" });
  const { der } = sign(report, signer, { time, detached: true });
  const signature = base64Entity('application/pkcs7-signature; name="smime.p7s"', der, 'attachment; filename="smime.p7s"');
  const words = wordsFor(language, evidence.hold);
  return multipart("signed", [report, signature], {
    fields: [
      field("From", `${encodedWords(words.from)} <${from}>`),
      field("To", evidence.sender),
      subject(words.subjects[kind], evidence.recipient, language),
      field("Date", RFC822_DATE(time)),
      field("Message-ID", `<${evidence.evidence}@${host}>`),
      field("In-Reply-To", evidence.messageId),
      field("References", evidence.messageId),
      field("Auto-Submitted", "auto-replied"), // RFC 3834 §5
      field("MIME-Version", "1.0"),
    ],
    parameters: 'protocol="application/pkcs7-signature"; micalg=sha-256',
  });
}

/** An address outside ASCII stays as it is, as in the other fields. */
function subject(words: string, recipient: string, language: Language): HeaderField {
  field("To", recipient); // refuses what would be encoded away here
  const text = words.replace("{recipient}", () => recipient);
  return field("Subject", language === "en" ? text : encodedWords(text));
}

function statusOf(evidence: ReportEvidence, kind: ReportKind, host: string): Buffer {
  const [action, status, diagnostic] = statusFor(evidence, kind);
  const message = [field("Reporting-MTA", `dns; ${host}`), field("Arrival-Date", RFC822_DATE(new Date(evidence.declaredAt)))];
  const recipient = [
    field("Final-Recipient", typedAddress(evidence.recipient)),
    field("Action", action),
    field("Status", status),
    field("Last-Attempt-Date", RFC822_DATE(new Date(happenedAt(evidence)))),
    ...(diagnostic === undefined ? [] : [field("Diagnostic-Code", diagnostic)]),
    ...(evidence.event === "Delayed" ? [field("Will-Retry-Until", RFC822_DATE(new Date(evidence.expiresAt)))] : []),
  ];
  return Buffer.concat([joinMessage(message, Buffer.alloc(0)), joinMessage(recipient, Buffer.alloc(0))]);
}

function attachment(smimeType: string, name: string, der: Buffer): Buffer {
  return base64Entity(`application/pkcs7-mime; smime-type=${smimeType};\r\n name="${name}"`, der, `attachment; filename="${name}"`);
}

/** The parts of a mail of the broker, found and verified as the broker's. */
export interface ReadReceipt {
  readonly evidence: ReportEvidence;
  /** DER; undefined where the part is missing. */
  readonly released: Buffer | undefined;
  readonly recipientReceipt: Buffer | undefined;
}

/**
 * Reads a receipt, or a report that a letter was not opened, and verifies the broker's signature on it and on its evidence.
 * @returns undefined where the mail is no signed report
 * @throws Fault `signature-invalid` or `malformed` where it is one and does not hold
 */
export function readReceipt(mail: Buffer, trust: BrokerTrust): ReadReceipt | undefined {
  const parts = shapeOf(mail);
  if (!parts) return undefined;
  const { report, signature } = parts;
  verifyAsBroker(decodedBody(signature), trust, report);
  const [mixed] = splitMultipart(parseEntity(report));
  if (!mixed) throw new Fault("malformed", "the report has no text");
  const files = splitMultipart(parseEntity(mixed)).map((part) => parseEntity(part));
  const file = (name: string): Buffer | undefined => {
    const found = files.find(({ contentType }) => contentType.parameters.get("name") === name);
    return found && decodedBody(found);
  };
  const der = file("evidence.p7m");
  if (!der) throw new Fault("malformed", "the broker's evidence is missing");
  const evidence = verifyEvidence(der, trust);
  if (evidence.event === "ContentAccessTracking") throw new Fault("malformed", "the evidence is no report to the sender");
  return { evidence, released: file("released.p7m"), recipientReceipt: file("recipient-receipt.p7m") };
}

function shapeOf(mail: Buffer): { report: Buffer; signature: Entity } | undefined {
  try {
    const top = parseEntity(mail);
    if (top.contentType.type !== "multipart/signed") return undefined;
    const [report, signature, ...foreign] = splitMultipart(top);
    if (!report || !signature || foreign.length > 0) return undefined;
    return parseEntity(report).contentType.type === "multipart/report" ? { report, signature: parseEntity(signature) } : undefined;
  } catch {
    return undefined;
  }
}
