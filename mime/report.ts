/** The receipt as a mail: a signed multipart/report that any client threads under the letter and stock OpenSSL verifies (S11; RFC 6522, RFC 3464). */
import { base64Entity, decodedBody, multipart, parseEntity, splitMultipart, textEntity, type Entity } from "./entity.ts";
import { signEvidence, verifyAsBroker, verifyEvidence, type AccessEvidence, type BrokerTrust, type HandoverEvidence } from "./evidence.ts";
import { Fault } from "./fault.ts";
import { field, joinMessage } from "./headers.ts";
import { sign, type Signer } from "./sign.ts";

export interface ReceiptOrder {
  readonly evidence: HandoverEvidence;
  /** The statement before it: the key was given out. */
  readonly released: AccessEvidence;
  /** The recipient's signed receipt, DER. */
  readonly recipientReceipt: Buffer;
  /** The address that receipts come from and that a person answers. */
  readonly from: string;
  /** Host name of the broker, for Message-ID and Reporting-MTA. */
  readonly host: string;
  readonly time: Date;
}

const RFC822_DATE = (time: Date): string => time.toUTCString().replace("GMT", "+0000");

/** Builds the receipt. Its Message-ID follows from the evidence, so a copy that is sent again is recognised. */
export function buildReceipt({ evidence, released, recipientReceipt, from, host, time }: ReceiptOrder, signer: Signer): Buffer {
  const text = textEntity(receiptText(evidence));
  const files = [
    attachment("signed-data", "evidence.p7m", signEvidence(evidence, signer, time)),
    attachment("signed-data", "released.p7m", signEvidence(released, signer, time)),
    attachment("signed-receipt", "recipient-receipt.p7m", recipientReceipt), // RFC 2634 §2.4
  ];
  const status = joinMessage(
    [field("Content-Type", "message/delivery-status")],
    Buffer.concat([
      joinMessage(
        [field("Reporting-MTA", `dns; ${host}`), field("Arrival-Date", RFC822_DATE(new Date(evidence.declaredAt)))],
        Buffer.alloc(0),
      ),
      joinMessage(
        [
          field("Final-Recipient", `rfc822; ${evidence.recipient}`),
          field("Action", "delivered"),
          field("Status", "2.0.0"),
          field("Last-Attempt-Date", RFC822_DATE(new Date(evidence.confirmedAt))),
        ],
        Buffer.alloc(0),
      ),
    ]),
  );
  const original = joinMessage(
    [field("Content-Type", "text/rfc822-headers")],
    joinMessage(
      [field("From", evidence.sender), field("To", evidence.recipient), field("Message-ID", evidence.messageId)],
      Buffer.alloc(0),
    ),
  );
  const report = multipart("report", [multipart("mixed", [text, ...files]), status, original], {
    parameters: "report-type=delivery-status",
  });
  const { der } = sign(report, signer, { time, detached: true });
  const signature = base64Entity('application/pkcs7-signature; name="smime.p7s"', der, 'attachment; filename="smime.p7s"');
  return multipart("signed", [report, signature], {
    fields: [
      field("From", `Registered mail <${from}>`),
      field("To", evidence.sender),
      field("Subject", `Opened: registered letter to ${evidence.recipient}`),
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

function attachment(smimeType: string, name: string, der: Buffer): Buffer {
  return base64Entity(`application/pkcs7-mime; smime-type=${smimeType};\r\n name="${name}"`, der, `attachment; filename="${name}"`);
}

function receiptText(evidence: HandoverEvidence): string {
  return [
    "Your registered letter was opened.",
    "",
    `Recipient:     ${evidence.recipient}`,
    `Message-ID:    ${evidence.messageId}`,
    `Registered:    ${evidence.declaredAt}`,
    `Key given out: ${evidence.releasedAt}`,
    `Opened:        ${evidence.confirmedAt}`,
    `Evidence:      ${evidence.evidence}`,
    "",
    "The recipient's gateway has opened and verified the letter and filed it in the",
    "recipient's mailbox, and the broker has erased its key. Attached are the broker's",
    "signed statements (evidence.p7m, released.p7m) and the receipt that the recipient's",
    "gateway signed (recipient-receipt.p7m). They verify without the broker:",
    "",
    "  kakitome verify receipt.eml --ca ca.pem --original original.p7s --payload letter.mime",
    "  openssl cms -verify -inform DER -in evidence.p7m -CAfile ca.pem",
    "",
  ].join("\n");
}

/** The parts of a receipt, found and verified as the broker's. */
export interface ReadReceipt {
  readonly evidence: HandoverEvidence;
  /** DER; undefined where the part is missing. */
  readonly released: Buffer | undefined;
  readonly recipientReceipt: Buffer | undefined;
}

/**
 * Reads a receipt and verifies the broker's signature on it and on its evidence.
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
  if (evidence.event !== "ContentHandover") throw new Fault("malformed", "the evidence does not say that the letter was opened");
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
