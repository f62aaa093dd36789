// What others write, read by us: envelopes, signatures and receipts, and the list of what is refused on purpose.
import { decodedBody, parseEntity, toCrlf } from "../../dist/mime/entity.js";
import { Fault } from "../../dist/mime/fault.js";
import { ContentKey } from "../../dist/mime/key.js";
import { signLetter } from "../../dist/mime/letter.js";
import { openEnclosed } from "../../dist/mime/open-enclosed.js";
import { openWithKey, openWithPrivateKey } from "../../dist/mime/open.js";
import { makeReceipt, refersTo, requestedContentId, verifyReceipt } from "../../dist/mime/receipt.js";
import { OID } from "../../dist/mime/oids.js";
import { verify } from "../../dist/mime/sign.js";
import { BROKER, CONTENT_ID, NONCE, NOW, PAYLOAD, THEIR_CONTENT, trustOf } from "./parties.mjs";
import { parted } from "./readers.mjs";
import { ToolSaid } from "./tools.mjs";
import { ECDH, INDEFINITE, KEK, OAEP, OAEP_SHA1 } from "./writers.mjs";

/** The innermost reason: outside, every failure to open is the same word. */
export function reasonOf(thrown) {
  if (!(thrown instanceof Error)) return String(thrown);
  return thrown instanceof Fault && thrown.cause instanceof Error
    ? reasonOf(thrown.cause)
    : thrown.message.replace(/^error:[0-9A-F]+:/u, "");
}

/** What we did with what the tool wrote. */
async function ourCell(write, read, expected) {
  let octets;
  try {
    octets = await write();
  } catch (thrown) {
    if (thrown instanceof ToolSaid) return `cannot (${thrown.message})`;
    throw thrown;
  }
  try {
    return read(octets).equals(expected) ? "yes" : "no (the content differs)";
  } catch (thrown) {
    return `refused (${reasonOf(thrown)})`;
  }
}

async function envelopeRows({ p256, rsa, p384 }, by) {
  const openers = [p256, rsa, p384];
  const auth = (der) => openWithPrivateKey(der, openers);
  const enclosed = (der) => openEnclosed(der, openers);
  const held = (der) => openWithKey(der, ContentKey.adopt(Buffer.alloc(32, 0xc7)));
  const rows = [
    ["OpenSSL", "AuthEnvelopedData, AES-256-GCM, P-256 SHA-256 KDF, AES-256 wrap", () => by.seal("aes-256-gcm", "bob-p256", ...ECDH), auth],
    ["OpenSSL", "the same in BER of indefinite length", () => by.seal("aes-256-gcm", "bob-p256", ...ECDH, ...INDEFINITE), auth],
    ["OpenSSL", "AuthEnvelopedData, AES-256-GCM, RSA OAEP SHA-256", () => by.seal("aes-256-gcm", "bob-rsa", ...OAEP), auth],
    ["OpenSSL", "EnvelopedData, AES-256-CBC, P-256 SHA-256 KDF, AES-256 wrap", () => by.seal("aes-256-cbc", "bob-p256", ...ECDH), enclosed],
    ["OpenSSL", "the same in BER of indefinite length", () => by.seal("aes-256-cbc", "bob-p256", ...ECDH, ...INDEFINITE), enclosed],
    ["OpenSSL", "EnvelopedData, AES-256-CBC, RSA OAEP SHA-256", () => by.seal("aes-256-cbc", "bob-rsa", ...OAEP), enclosed],
    ["OpenSSL", "the same, recipient named by key identifier", () => by.seal("aes-256-cbc", "bob-rsa", ...OAEP, "-keyid"), enclosed],
    ["OpenSSL", "P-256, recipient named by key identifier", () => by.seal("aes-256-cbc", "bob-p256", ...ECDH, "-keyid"), enclosed],
    [
      "BouncyCastle",
      "AuthEnvelopedData, AES-256-GCM, P-256 SHA-256 KDF, AES-256 wrap",
      () => by.bouncySeal("auth", "ec", "bob-p256"),
      auth,
    ],
    ["BouncyCastle", "AuthEnvelopedData, AES-256-GCM, RSA OAEP SHA-256", () => by.bouncySeal("auth", "oaep", "bob-rsa"), auth],
    ["BouncyCastle", "EnvelopedData, AES-256-CBC, P-256 SHA-256 KDF, AES-256 wrap", () => by.bouncySeal("env", "ec", "bob-p256"), enclosed],
    ["BouncyCastle", "EnvelopedData, AES-256-CBC, RSA OAEP SHA-256", () => by.bouncySeal("env", "oaep", "bob-rsa"), enclosed],
    ["NSS", "EnvelopedData to P-256, its defaults", () => by.nssSeal("bob-p256"), enclosed],
    ["NSS", "EnvelopedData to RSA-2048, its defaults", () => by.nssSeal("bob-rsa"), enclosed],
    ["OpenSSL", "RSA PKCS#1 v1.5", () => by.seal("aes-256-cbc", "bob-rsa"), enclosed],
    ["BouncyCastle", "RSA PKCS#1 v1.5", () => by.bouncySeal("env", "pkcs1", "bob-rsa"), enclosed],
    ["OpenSSL", "RSA OAEP SHA-1", () => by.seal("aes-256-cbc", "bob-rsa", ...OAEP_SHA1), enclosed],
    ["OpenSSL", "P-256 with its default SHA-1 KDF", () => by.seal("aes-256-cbc", "bob-p256", "-aes256-wrap"), enclosed],
    ["OpenSSL", "P-384", () => by.seal("aes-256-cbc", "bob-p384", ...ECDH), enclosed],
    ["OpenSSL", "3DES-CBC", () => by.seal("des-ede3-cbc", "bob-rsa", ...OAEP), enclosed],
    ["OpenSSL", "AES-128-CBC", () => by.seal("aes-128-cbc", "bob-rsa", ...OAEP), enclosed],
    ["OpenSSL", "AES-128-GCM", () => by.seal("aes-128-gcm", "bob-rsa", ...OAEP), auth],
    ["OpenSSL", "AES-256-CBC outside the enclosed form", () => by.seal("aes-256-cbc", "bob-rsa", ...OAEP), auth],
    ["OpenSSL", "two recipients in one envelope", () => by.seal("aes-256-gcm", "bob-p256", ...ECDH, "-recip", "bob-rsa.pem"), auth],
    ["OpenSSL", "AES-256-GCM under Kc, without expiry and broker", () => by.sealTo("aes-256-gcm", ...KEK), held],
    ["OpenSSL", "AES-256-CBC under Kc", () => by.sealTo("aes-256-cbc", ...KEK), held],
  ];
  return table(rows, THEIR_CONTENT);
}

async function signatureRows(parties, by, bench) {
  const trust = trustOf(parties);
  const opaque = (der) => verify(der, trust).content;
  const detached = (der) => (verify(der, trust, THEIR_CONTENT), THEIR_CONTENT);
  const mail = (octets) => {
    const { content, signature } = parted(toCrlf(octets));
    return verify(signature, trust, content).content;
  };
  const asMail = (...options) =>
    bench.openssl("cms", "-sign", "-in", "theirs.mime", "-binary", "-signer", "alice-sign.pem", "-inkey", "alice-sign-key.pem", ...options);
  const receiver = (octets) => opaque(decodedBody(parseEntity(toCrlf(octets))));
  const rows = [
    ["OpenSSL", "P-256 SHA-256, detached", () => by.sign("alice-sign"), detached],
    ["OpenSSL", "P-256 SHA-256, opaque", () => by.sign("alice-sign", "-nodetach"), opaque],
    ["OpenSSL", "P-256 SHA-384, opaque", () => by.sign("alice-sign", "-nodetach", "-md", "sha384"), opaque],
    ["OpenSSL", "P-256, opaque, BER of indefinite length", () => by.sign("alice-sign", "-nodetach", ...INDEFINITE), opaque],
    ["OpenSSL", "P-256, signer named by key identifier", () => by.sign("alice-sign", "-nodetach", "-keyid"), opaque],
    ["OpenSSL", "P-256, CAdES", () => by.sign("alice-sign", "-nodetach", "-cades"), opaque],
    ["OpenSSL", "RSA-2048 SHA-256, detached", () => by.sign("alice-rsa"), detached],
    ["OpenSSL", "RSA-2048 SHA-384, opaque", () => by.sign("alice-rsa", "-nodetach", "-md", "sha384"), opaque],
    ["OpenSSL", "a mail, multipart/signed", () => asMail(), mail],
    ["OpenSSL", "a mail, application/pkcs7-mime", () => asMail("-nodetach"), receiver],
    ["BouncyCastle", "P-256 SHA-256, detached", () => by.bouncySign("SHA256withECDSA", "alice-sign", "detached"), detached],
    ["BouncyCastle", "P-256 SHA-384, opaque", () => by.bouncySign("SHA384withECDSA", "alice-sign", "opaque"), opaque],
    ["BouncyCastle", "RSA-2048 SHA-256, opaque", () => by.bouncySign("SHA256withRSA", "alice-rsa", "opaque"), opaque],
    ["NSS", "P-256 SHA-256, detached", () => by.nssSign("alice-sign", "-T"), detached],
    ["NSS", "P-256 SHA-256, opaque", () => by.nssSign("alice-sign"), opaque],
    ["NSS", "P-256 SHA-384, opaque", () => by.nssSign("alice-sign", "-H", "SHA384"), opaque],
    ["NSS", "RSA-2048 SHA-256, opaque", () => by.nssSign("alice-rsa"), opaque],
    ["OpenSSL", "SHA-1", () => by.sign("alice-rsa", "-nodetach", "-md", "sha1"), opaque],
    ["NSS", "SHA-1", () => by.nssSign("alice-rsa", "-H", "SHA1"), opaque],
    ["OpenSSL", "RSA-PSS", () => by.sign("alice-rsa", "-nodetach", "-keyopt", "rsa_padding_mode:pss"), opaque],
    ["OpenSSL", "no signed attributes", () => by.sign("alice-sign", "-nodetach", "-noattr"), opaque],
    ["OpenSSL", "no certificate inside", () => by.sign("alice-sign", "-nodetach", "-nocerts"), opaque],
    ["OpenSSL", "two signers", () => by.sign("alice-sign", "-nodetach", "-signer", "alice-rsa.pem", "-inkey", "alice-rsa-key.pem"), opaque],
    ["OpenSSL", "opaque where the content stands outside", () => by.sign("alice-sign", "-nodetach"), detached],
  ];
  return table(rows, THEIR_CONTENT);
}

/** OpenSSL alone makes receipts of RFC 2634. */
async function receiptRows(parties, bench) {
  const trust = trustOf(parties);
  const signing = { order: "inner", signer: parties.signer, time: NOW, contentId: CONTENT_ID, brokerUrl: BROKER };
  const original = signLetter(PAYLOAD, NONCE, signing).signatureFile;
  const verified = verify(original, trust, PAYLOAD);
  const asked = requestedContentId(verified.attribute(OID.receiptRequest));
  const sign = (der) => {
    const out = bench.name();
    const who = ["-signer", "bob-sign.pem", "-inkey", "bob-sign-key.pem"];
    bench.openssl("cms", "-sign_receipt", "-inform", "DER", "-in", bench.put(der), ...who, "-outform", "DER", "-out", out);
    return bench.get(out);
  };
  const read = (der) => {
    const receipt = verifyReceipt(der, trust);
    if (!refersTo(receipt, verified)) throw new Error("the receipt speaks of another signature");
    return receipt.contentId;
  };
  const other = signLetter(PAYLOAD, NONCE, signing).signatureFile;
  return table(
    [
      ["OpenSSL", "a signed receipt for our request", () => sign(original), read],
      ["OpenSSL", "a signed receipt for another signature over the same text", () => sign(other), read],
      ["Kakitome", "our own receipt, as a control", () => makeReceipt(verified, parties.bobSigner, NOW), read],
    ],
    asked,
  );
}

async function table(rows, expected) {
  const done = [];
  for (const [writer, what, write, read] of rows) done.push([writer, what, await ourCell(write, read, expected)]);
  return done;
}

export async function theirsToOurs(parties, bench, by) {
  return {
    envelopes: await envelopeRows(parties, by),
    signatures: await signatureRows(parties, by, bench),
    receipts: await receiptRows(parties, bench),
  };
}
