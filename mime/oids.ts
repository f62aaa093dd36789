/** The object identifiers in use, with the document that assigns each; our own stand under one UUID arc (X.667 §6). */

const OWN = "2.25.3314271590363898792616752670520927778";

export const OID = {
  data: "1.2.840.113549.1.7.1", // RFC 5652 §4
  signedData: "1.2.840.113549.1.7.2", // RFC 5652 §5
  authEnvelopedData: "1.2.840.113549.1.9.16.1.23", // RFC 5083 §2
  contentType: "1.2.840.113549.1.9.3", // RFC 5652 §11.1
  messageDigest: "1.2.840.113549.1.9.4", // RFC 5652 §11.2
  signingTime: "1.2.840.113549.1.9.5", // RFC 5652 §11.3
  signingCertificateV2: "1.2.840.113549.1.9.16.2.47", // RFC 5035 §3
  sha256: "2.16.840.1.101.3.4.2.1", // RFC 5754 §2.2
  sha384: "2.16.840.1.101.3.4.2.2",
  sha512: "2.16.840.1.101.3.4.2.3",
  ecdsaWithSha256: "1.2.840.10045.4.3.2", // RFC 5754 §3.3
  ecdsaWithSha384: "1.2.840.10045.4.3.3",
  ecdsaWithSha512: "1.2.840.10045.4.3.4",
  rsaEncryption: "1.2.840.113549.1.1.1", // RFC 3370 §3.2
  rsaWithSha256: "1.2.840.113549.1.1.11", // RFC 5754 §3.2
  rsaWithSha384: "1.2.840.113549.1.1.12",
  rsaWithSha512: "1.2.840.113549.1.1.13",
  rsaesOaep: "1.2.840.113549.1.1.7", // RFC 3560 §2.1
  mgf1: "1.2.840.113549.1.1.8", // RFC 4055 §2.2
  ecPublicKey: "1.2.840.10045.2.1", // RFC 5480 §2.1.1
  prime256v1: "1.2.840.10045.3.1.7", // RFC 5480 §2.1.1.1
  ecdhSha256: "1.3.132.1.11.1", // dhSinglePass-stdDH-sha256kdf-scheme, RFC 5753 §7.1.4
  aes256Wrap: "2.16.840.1.101.3.4.1.45", // RFC 3565 §2.3.2
  aes256Gcm: "2.16.840.1.101.3.4.1.46", // RFC 5084 §3.2
  extKeyUsage: "2.5.29.37", // RFC 5280 §4.2.1.12
  keyUsage: "2.5.29.15", // RFC 5280 §4.2.1.3
  basicConstraints: "2.5.29.19", // RFC 5280 §4.2.1.9
  subjectAltName: "2.5.29.17", // RFC 5280 §4.2.1.6
  subjectKeyIdentifier: "2.5.29.14", // RFC 5280 §4.2.1.2
  authorityKeyIdentifier: "2.5.29.35", // RFC 5280 §4.2.1.1
  crlNumber: "2.5.29.20", // RFC 5280 §5.2.3
  crlReason: "2.5.29.21", // RFC 5280 §5.3.1
  smtpUtf8Mailbox: "1.3.6.1.5.5.7.8.9", // RFC 9598 §3
  serverAuth: "1.3.6.1.5.5.7.3.1", // RFC 5280 §4.2.1.12
  clientAuth: "1.3.6.1.5.5.7.3.2",
  emailProtection: "1.3.6.1.5.5.7.3.4",
  commonName: "2.5.4.3", // RFC 5280 Appendix A
  receipt: "1.2.840.113549.1.9.16.1.1", // RFC 2634 §2.4
  receiptRequest: "1.2.840.113549.1.9.16.2.1", // RFC 2634 §2.7
  msgSigDigest: "1.2.840.113549.1.9.16.2.5", // RFC 2634 §2.6
  envelopedData: "1.2.840.113549.1.7.3", // RFC 5652 §6
  aes256Cbc: "2.16.840.1.101.3.4.1.42", // RFC 3565 §2.2
  ticket: `${OWN}.1`, // docs/protocol.md, section 2: the ticket in an enclosed envelope
  brokerUrl: `${OWN}.2`, // docs/protocol.md, section 2: the broker that holds the key back
} as const;

export type DigestName = "sha256" | "sha384" | "sha512";

/** The digests that are accepted in a signature; anything weaker is refused. */
export const DIGESTS: Readonly<Record<string, DigestName>> = { [OID.sha256]: "sha256", [OID.sha384]: "sha384", [OID.sha512]: "sha512" };
