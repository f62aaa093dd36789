/** `pkijs.ts seal|open OCTETS`: comparable work by pkijs: sign, EnvelopedData to a P-256 certificate, EnvelopedData under a key that is given; and back. */
import { randomBytes, webcrypto } from "node:crypto";
import { OctetString } from "asn1js";
import * as pkijs from "pkijs";
import { orderOf } from "./letter.ts";
import { printRate } from "./rate.ts";

pkijs.setEngine("node", new pkijs.CryptoEngine({ name: "node", crypto: webcrypto as unknown as Crypto }));

const [what, octets = "2048"] = process.argv.slice(2);
const { message, parties, ticket } = await orderOf(Number(octets));
const { alice, bob, root } = parties;
const bytes = (buffer: Buffer): ArrayBuffer => new Uint8Array(buffer).buffer;
const certificateOf = (der: Buffer): pkijs.Certificate => pkijs.Certificate.fromBER(bytes(der));
const author = certificateOf(alice.signer.certificate.der);
const reader = certificateOf(bob.opener.certificate.der);
const authority = certificateOf(root.certificate.der);
const signingKey = await webcrypto.subtle.importKey(
  "pkcs8",
  alice.signer.key.export({ type: "pkcs8", format: "der" }),
  { name: "ECDSA", namedCurve: "P-256" },
  true,
  ["sign"],
);
const openingKey = bytes(bob.opener.key.export({ type: "pkcs8", format: "der" }));
const CONTENT = { name: "AES-CBC", length: 256 };
const SIGNED = "1.2.840.113549.1.7.2";

async function seal(): Promise<{ envelope: Buffer; kek: Buffer }> {
  const signed = new pkijs.SignedData({
    version: 1,
    encapContentInfo: new pkijs.EncapsulatedContentInfo({
      eContentType: "1.2.840.113549.1.7.1",
      eContent: new OctetString({ valueHex: bytes(message) }),
    }),
    signerInfos: [
      new pkijs.SignerInfo({
        version: 1,
        sid: new pkijs.IssuerAndSerialNumber({ issuer: author.issuer, serialNumber: author.serialNumber }),
      }),
    ],
    certificates: [author],
  });
  await signed.sign(signingKey, 0, "SHA-256");
  const letter = new pkijs.ContentInfo({ contentType: SIGNED, content: signed.toSchema(true) }).toSchema().toBER();
  const inner = new pkijs.EnvelopedData();
  inner.addRecipientByCertificate(reader, {}, 2);
  await inner.encrypt(CONTENT, letter);
  const kek = randomBytes(32);
  const outer = new pkijs.EnvelopedData();
  outer.addRecipientByPreDefinedData(bytes(kek), { keyIdentifier: bytes(ticket), kekEncryptionLength: 256 } as never, 1);
  await outer.encrypt(CONTENT, inner.toSchema().toBER());
  const envelope = Buffer.from(Buffer.from(outer.toSchema().toBER()).toString("base64"));
  return { envelope, kek };
}

const parsed = (der: ArrayBuffer): pkijs.EnvelopedData => pkijs.EnvelopedData.fromBER(der);

async function open({ envelope, kek }: { envelope: Buffer; kek: Buffer }): Promise<void> {
  const outer = parsed(bytes(Buffer.from(envelope.toString(), "base64")));
  const inner = parsed(await outer.decrypt(0, { preDefinedData: bytes(kek) }));
  const letter = await inner.decrypt(0, { recipientCertificate: reader, recipientPrivateKey: openingKey });
  const signed = new pkijs.SignedData({ schema: pkijs.ContentInfo.fromBER(letter).content });
  if (!(await signed.verify({ signer: 0, checkChain: true, trustedCerts: [authority] }))) throw new Error("the signature does not verify");
}

if (what === "open") {
  const sealed = await seal();
  await printRate(() => open(sealed));
} else await printRate(seal);
