/** Mails that are small to send and large to read: nesting, numbers and lengths that only serve to exhaust a reader. */
import { OID } from "../../mime/oids.ts";
import { TAG, contextTag, encode, integer, octetString, oid, sequence } from "../../mime/der.ts";
import { encodeBase64 } from "../../mime/entity.ts";

const lines = (...all: string[]): string => all.join("\r\n");
const mail = (head: string, body: string | Buffer): Buffer =>
  Buffer.concat([Buffer.from(lines("From: mallory@m.example", "To: bob@b.example", head, "", "")), Buffer.from(body), Buffer.from("\r\n")]);

const boundary = (at: number): string => `b${at}`;

function nested(depth: number): Buffer {
  const open = Array.from({ length: depth }, (_none, at) =>
    lines(`--${boundary(at)}`, `Content-Type: multipart/mixed; boundary=${boundary(at + 1)}`, "", ""),
  );
  return mail(`MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=${boundary(0)}`, open.join(""));
}

function manyParts(count: number): Buffer {
  const part = lines("--x", "", "y", "");
  return mail("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x", `${part.repeat(count)}--x--`);
}

/** A mail that looks like a held letter with this instead of its envelope. */
function sealed(der: Buffer): Buffer {
  const notice = lines("--x", "Content-Type: text/plain", "", "notice", "");
  const head = lines(
    "--x",
    "Content-Type: application/pkcs7-mime; smime-type=authEnveloped-data",
    "Content-Transfer-Encoding: base64",
    "",
    "",
  );
  const body = Buffer.concat([Buffer.from(notice), Buffer.from(head), encodeBase64(der), Buffer.from("--x--\r\n")]);
  return mail("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x", body);
}

/** Looks like an enclosed letter. */
function enclosed(der: Buffer): Buffer {
  return mail(
    "MIME-Version: 1.0\r\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\r\nContent-Transfer-Encoding: base64",
    encodeBase64(der),
  );
}

const repeated = (octets: Buffer, count: number): Buffer => Buffer.alloc(octets.length * count, octets);
const inside = (content: Buffer): Buffer => sequence(oid(OID.authEnvelopedData), encode(contextTag(0, "constructed"), content));
const segments = (count: number): Buffer => encode(TAG.octetString | 0x20, repeated(octetString(Buffer.from([0x41])), count));
const compressed = sequence(
  oid("1.2.840.113549.1.9.16.1.9"),
  encode(contextTag(0, "constructed"), sequence(integer(0), octetString(Buffer.alloc(1_000_000)))),
);

/** Sealed in sealed, a thousand times. */
function layers(count: number): Buffer {
  let der = octetString(Buffer.from("text"));
  for (let at = 0; at < count; at++) der = inside(sequence(integer(0), der));
  return der;
}

/** By what each of them is. */
export const BOMBS: readonly (readonly [name: string, mail: () => Buffer])[] = [
  ["a thousand multiparts inside one another", () => nested(1_000)],
  ["a hundred thousand multiparts inside one another", () => nested(100_000)],
  ["a hundred thousand parts", () => manyParts(100_000)],
  ["a hundred thousand header fields", () => mail("X: y\r\n".repeat(100_000) + "Subject: x", "text")],
  ["a Subject of ten megabytes", () => mail(`Subject: ${"x".repeat(10 << 20)}`, "text")],
  ["a boundary of ten thousand characters", () => mail(`Content-Type: multipart/mixed; boundary="${"b".repeat(10_000)}"`, "--b--")],
  ["a Content-Type of a hundred thousand parameters", () => mail(`Content-Type: text/plain${'; a="b'.repeat(100_000)}`, "text")],
  ["an envelope nested a hundred thousand deep", () => sealed(repeated(Buffer.from([0x30, 0x80]), 100_000))],
  ["an envelope whose length is two to the forty-seventh", () => sealed(Buffer.from("308620000000000000", "hex"))],
  ["an envelope of half a million elements", () => sealed(inside(encode(TAG.sequence, repeated(Buffer.from([0x05, 0]), 500_000))))],
  ["an envelope in a million segments of one octet", () => sealed(inside(sequence(integer(0), segments(1_000_000))))],
  ["CompressedData", () => sealed(compressed)],
  ["a thousand envelopes inside one another", () => sealed(layers(1_000))],
  ["an enclosed letter nested a hundred thousand deep", () => enclosed(repeated(Buffer.from([0x30, 0x80]), 100_000))],
  ["an enclosed letter of half a million attributes", () => enclosed(inside(encode(TAG.set, repeated(sequence(oid("1.2.3")), 500_000))))],
];
