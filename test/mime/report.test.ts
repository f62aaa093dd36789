/** Receipts: a mail that threads under the letter, that stock OpenSSL verifies, and that only the broker can write. */
import { beforeAll, describe, expect, test } from "@jest/globals";
import { base64Entity, decodedBody, multipart, parseEntity, splitMultipart } from "../../mime/entity.ts";
import { whole } from "../../mime/pieces.ts";
import type { BrokerTrust, HandoverEvidence } from "../../mime/evidence.ts";
import { fieldsNamed, splitMessage, valueOf } from "../../mime/headers.ts";
import { buildReceipt, readReceipt } from "../../mime/report.ts";
import { sign, type Signer } from "../../mime/sign.ts";
import { faultOf, outcomeOf } from "./faults.ts";
import { openSsl, type OpenSsl } from "./openssl.ts";
import {
  BROKER,
  MESSAGE,
  MESSAGE_ID,
  NOW,
  brokerOf,
  evidence,
  releasedBefore,
  makeParties,
  sealedLetter,
  type Parties,
} from "./parties.ts";

let parties: Parties;
let trust: BrokerTrust;
let receipt: Buffer;
let ssl: OpenSsl;
const RECEIPT = Buffer.from("the recipient's signed receipt stands here");
const order = (changes: Partial<HandoverEvidence> = {}) => ({
  evidence: { ...evidence, ...changes },
  released: releasedBefore({ ...evidence, ...changes }),
  recipientReceipt: RECEIPT,
  from: "receipts@broker.example",
  host: "broker.example",
  time: NOW,
});
beforeAll(async () => {
  [parties, ssl] = await Promise.all([makeParties(), openSsl("receipt")]);
  trust = { roots: [parties.root.certificate], at: NOW, broker: BROKER };
  receipt = buildReceipt(order(), parties.broker);
  ssl.put("ca.pem", parties.root.certificate.pem);
});

const parts = (mail: Buffer): Buffer[] => splitMultipart(parseEntity(mail));
const report = (mail: Buffer): Buffer => parts(mail)[0] ?? Buffer.alloc(0);
const changed = (search: string, replacement: string): Buffer => {
  const text = receipt.toString("latin1");
  expect(text).toContain(search);
  return Buffer.from(text.replaceAll(search, replacement), "latin1");
};

describe("a receipt as a mail", () => {
  test("threads under the letter and is known as automatic", () => {
    const { fields } = splitMessage(receipt);
    const header = new Map(fields.map((item) => [item.name, valueOf(item)]));
    expect(header.size).toBe(fields.length); // every field once
    expect(Object.fromEntries(header)).toMatchObject({
      from: "Registered mail <receipts@broker.example>",
      to: "alice@a.example",
      subject: "Opened: registered letter to bob@b.example",
      date: "Sun, 01 Mar 2026 12:00:00 +0000",
      "message-id": `<${evidence.evidence}@broker.example>`,
      "in-reply-to": MESSAGE_ID,
      references: MESSAGE_ID,
      "auto-submitted": "auto-replied",
      "mime-version": "1.0",
    });
    expect(header.has("disposition-notification-to")).toBe(false);
  });

  test("has a Message-ID that follows from the evidence: a copy that is sent again is recognised", () => {
    const id = (mail: Buffer): string[] => fieldsNamed(splitMessage(mail).fields, "message-id").map(valueOf);
    expect(id(buildReceipt({ ...order(), time: new Date("2026-04-01T00:00:00Z") }, parties.broker))).toEqual(id(receipt));
    expect(id(buildReceipt(order({ evidence: "evidence-9876543210" }), parties.broker))).not.toEqual(id(receipt));
  });

  test("is a signed multipart/report of text with evidence, status and original header (RFC 6522, RFC 3464)", () => {
    const entity = parseEntity(report(receipt));
    expect(parseEntity(receipt).contentType.parameters.get("protocol")).toBe("application/pkcs7-signature");
    expect(entity.contentType.type).toBe("multipart/report");
    expect(entity.contentType.parameters.get("report-type")).toBe("delivery-status");
    const [mixed, status, original] = splitMultipart(entity).map((part) => parseEntity(part));
    expect([mixed, status, original].map((part) => part?.contentType.type)).toEqual([
      "multipart/mixed",
      "message/delivery-status",
      "text/rfc822-headers",
    ]);
    expect(status?.body.toString()).toMatch(
      /^Reporting-MTA: dns; broker\.example\r\n[^]*\r\n\r\nFinal-Recipient: rfc822; bob@b\.example\r\nAction: delivered\r\nStatus: 2\.0\.0\r\n/u,
    );
    expect(original?.body.toString()).toContain(`Message-ID: ${MESSAGE_ID}\r\n`);
    expect(mixed && splitMultipart(mixed).map((part) => parseEntity(part).contentType.type)).toEqual([
      "text/plain",
      "application/pkcs7-mime", // evidence.p7m
      "application/pkcs7-mime", // released.p7m
      "application/pkcs7-mime", // recipient-receipt.p7m
    ]);
  });

  test("tells opened from given out, in words for a person", () => {
    const text =
      parts(report(receipt))
        .flatMap((part) => (part.includes("multipart/mixed") ? parts(part) : []))[0]
        ?.toString() ?? "";
    expect(text).toContain(`Key given out: ${evidence.releasedAt}`);
    expect(text).toContain(`Opened:        ${evidence.confirmedAt}`);
  });

  test("verifies by stock OpenSSL as it lies in a mailbox, and its evidence beside it", () => {
    ssl.put("receipt.eml", receipt);
    expect(ssl.run(["cms", "-verify", "-in", "receipt.eml", "-CAfile", "ca.pem"]).toString()).toContain(
      "Your registered letter was opened.",
    );
    const file = parts(parts(report(receipt))[0] ?? Buffer.alloc(0))[1] ?? Buffer.alloc(0);
    ssl.put("evidence.p7m", decodedBody(parseEntity(file)));
    const shown = ssl.run(["cms", "-verify", "-inform", "DER", "-in", "evidence.p7m", "-CAfile", "ca.pem", "-cades", "-binary"]);
    expect(JSON.parse(shown.toString())).toEqual(evidence);
  });

  test("does not verify by stock OpenSSL with another recipient in it", () => {
    ssl.put("forged.eml", changed("bob@b.example", "eve@b.example"));
    expect(ssl.try(["cms", "-verify", "-in", "forged.eml", "-CAfile", "ca.pem"]).status).not.toBe(0);
  });

  test("keeps lines within what every relay carries", () => {
    for (const line of receipt.toString("latin1").split("\r\n")) expect(line.length).toBeLessThanOrEqual(998);
  });
});

describe("readReceipt", () => {
  test("gives the evidence", () => {
    expect(readReceipt(receipt, trust)).toMatchObject({ evidence, recipientReceipt: RECEIPT });
  });

  test("reads a receipt whose outer header the way has changed, for the signature does not cover it", () => {
    expect(
      readReceipt(Buffer.concat([Buffer.from("Received: x\r\n"), changed("Subject: Opened", "Subject: [list] Opened")]), trust),
    ).toMatchObject({ evidence, recipientReceipt: RECEIPT });
  });

  test.each<[string, () => Buffer]>([
    ["nothing", () => Buffer.alloc(0)],
    ["an ordinary mail", () => MESSAGE],
    ["a sealed letter", () => sealedLetter(parties).mail],
    ["a signed letter", () => whole(sealedLetter(parties).letter.entity)],
    ["an unsigned report of any mail server", () => report(receipt)],
    [
      "a receipt inside another mail",
      () => multipart("mixed", [Buffer.concat([Buffer.from("Content-Type: message/rfc822\r\n\r\n"), receipt])]),
    ],
    ["a receipt with a foreign part", () => multipart("signed", [...parts(receipt), Buffer.from("\r\nfoot")])],
    ["a receipt without its signature", () => multipart("signed", parts(receipt).slice(0, 1))],
    ["a receipt that is not closed", () => receipt.subarray(0, -8)],
  ])("is silent about %s", (_why, mail) => {
    expect(readReceipt(mail(), trust)).toBeUndefined();
  });

  test.each<[string, string]>([
    ["the recipient", evidence.recipient],
    ["the sender", "a.example"],
    ["the Message-ID", MESSAGE_ID],
    ["the time of opening", evidence.confirmedAt],
    ["the time of release", evidence.releasedAt],
    ["the time of registration", evidence.declaredAt],
    ["the name of the evidence", evidence.evidence],
    ["the action", "Action: delivered"],
    ["the status", "Status: 2.0.0"],
    ["the text", "Your registered letter was opened."],
  ])("refuses a receipt with %s changed", (_why, text) => {
    const forged = changed(text, text.replace(/[a-z0-9](?=[^a-z0-9]*$)/u, "7"));
    expect(forged.equals(receipt)).toBe(false);
    expect(faultOf(() => readReceipt(forged, trust)).code).toBe("signature-invalid");
  });

  test("refuses a receipt by a mailbox certificate of the same authority, in whole or in part", async () => {
    const other = await brokerOf(parties.root, "https://other.example");
    for (const signer of [parties.bob.signer, parties.alice.signer, parties.bob.opener, other]) {
      expect(faultOf(() => readReceipt(buildReceipt(order(), signer), trust)).code).toBe("signature-invalid");
    }
    const bobs = buildReceipt(order(), parties.bob.signer);
    expect(faultOf(() => readReceipt(resigned(report(bobs), parties.broker), trust)).code).toBe("signature-invalid"); // his evidence in the broker's report
    expect(faultOf(() => readReceipt(multipart("signed", [report(receipt), parts(bobs)[1] ?? Buffer.alloc(0)]), trust)).code).toBe(
      "signature-invalid",
    );
  });

  test("refuses the report of one receipt with the signature of another", () => {
    const other = buildReceipt(order({ recipient: "eve@b.example" }), parties.broker);
    expect(faultOf(() => readReceipt(multipart("signed", [report(receipt), parts(other)[1] ?? Buffer.alloc(0)]), trust)).code).toBe(
      "signature-invalid",
    );
  });

  test("refuses a report of the broker that holds no evidence", () => {
    const text = multipart("mixed", [Buffer.from("\r\nYour letter was opened.\r\n")]);
    for (const body of [multipart("report", [text]), multipart("report", []), Buffer.from("Content-Type: multipart/report\r\n\r\n")]) {
      expect(outcomeOf(() => readReceipt(resigned(body, parties.broker), trust))).toBe("malformed");
    }
  });
});

describe("injection into a receipt", () => {
  test.each<[string, Partial<HandoverEvidence>]>([
    ["a field through the Message-ID", { messageId: "<1@a>\r\nBcc: evil@x.example" }],
    ["a body through the Message-ID", { messageId: "<1@a>\r\n\r\nbody" }],
    ["a bare LF through the Message-ID", { messageId: "<1@a>\nBcc: evil@x.example" }],
    ["a field through the recipient", { recipient: "bob@b.example\r\nBcc: evil@x.example" }],
    ["a bare CR through the recipient", { recipient: "bob@b.example\rX: y" }],
    ["a field through the sender", { sender: "alice@a.example\r\nBcc: evil@x.example" }],
    ["a field through the name of the evidence", { evidence: "x\r\nBcc: evil@x.example" }],
    ["NUL through the recipient", { recipient: "bob\0@b.example" }],
  ])("is refused: %s", (_why, changes) => {
    expect(faultOf(() => buildReceipt(order(changes), parties.broker)).code).toBe("malformed");
  });

  test("a Message-ID that folds stays one value and brings no field along", () => {
    const folded = buildReceipt(order({ messageId: "<1@a>\r\n Bcc: evil@x.example" }), parties.broker);
    expect(splitMessage(folded).fields.map(({ name }) => name)).toEqual(splitMessage(receipt).fields.map(({ name }) => name));
  });

  test("addresses outside ASCII leave what is signed in ASCII, so that no relay has to change it", () => {
    const made = buildReceipt(order({ recipient: "böb@例え.example", sender: "älice@a.example" }), parties.broker);
    const signed = report(made);
    expect(/[^\0-\x7F]/u.exec(signed.toString("utf8"))).toBeNull();
    expect(String(signed)).toMatch(/^Final-Recipient: utf-8; b\\x\{F6\}b@\\x\{4F8B\}\\x\{3048\}\.example\r$/mu);
    const original = splitMultipart(parseEntity(signed)).map((part) => parseEntity(part))[2];
    expect(original?.contentType.type).toBe("message/global-headers");
    expect(original && String(decodedBody(original))).toMatch(/^From: älice@a\.example\r\nTo: böb@例え\.example\r$/mu);
    expect(readReceipt(made, trust)?.evidence.recipient).toBe("böb@例え.example");
    ssl.put("utf8.eml", made);
    expect(ssl.try(["cms", "-verify", "-in", "utf8.eml", "-CAfile", "ca.pem"]).status).toBe(0);
  });
});

/** The report with the signature that this signer puts under it. */
function resigned(body: Buffer, signer: Signer): Buffer {
  return multipart("signed", [body, base64Entity("application/pkcs7-signature", sign(body, signer, { time: NOW, detached: true }).der)]);
}
