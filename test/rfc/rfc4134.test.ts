/** The samples of RFC 4134 and of Thunderbird's test suite: refused where they are weak, and never verified where stock OpenSSL does not. */
import { beforeAll, describe, expect } from "@jest/globals";
import { parseCertificate, type Trust } from "../../mime/certificate.ts";
import { readSignedData } from "../../mime/cms.ts";
import { decodedBody, parseEntity, splitMultipart, toCrlf } from "../../mime/entity.ts";
import { OID } from "../../mime/oids.ts";
import { openWithPrivateKey } from "../../mime/open.ts";
import { verify } from "../../mime/sign.ts";
import { corpusFile, corpusFiles, corpusTest } from "../mime/corpora.ts";
import { faultOf, outcomeOf } from "../mime/faults.ts";
import { openSsl, type OpenSsl } from "../mime/openssl.ts";

const rfc = (name: string): Buffer => corpusFile("rfc4134-bc", "rfc4134", name);
/** Valid when the samples were made; roots do not matter, for none of them comes so far. */
const trust: Trust = { roots: [], at: new Date("2005-01-01"), purpose: OID.emailProtection };

describe("RFC 4134: signatures of 1999 are refused by a Fault", () => {
  const content = (): Buffer => rfc("ExContent.bin");

  corpusTest.each([
    ["4.1, DSA with SHA-1", "4.1.bin", false],
    ["4.2, RSA-1024 with SHA-1", "4.2.bin", false],
    ["4.3, DSA, content outside", "4.3.bin", true],
    ["4.4, all attributes", "4.4.bin", false],
    ["4.5, certificates for encryption", "4.5.bin", false],
    ["4.6, two signers", "4.6.bin", false],
    ["4.7, by key identifier", "4.7.bin", false],
    ["4.10, a receipt request", "4.10.bin", false],
    ["4.11, certificates only", "4.11.bin", true],
  ])("%s", (_why, file, detached) => {
    const fault = faultOf(() => verify(rfc(file), trust, detached ? content() : undefined));
    expect(["malformed", "signature-invalid"]).toContain(fault.code);
  });

  corpusTest("their structure is read nevertheless: content, signers and attributes are where the RFC says", () => {
    expect(readSignedData(rfc("4.1.bin"))).toMatchObject({ contentType: OID.data, content: content() });
    expect(readSignedData(rfc("4.3.bin")).content).toBeUndefined();
    expect(readSignedData(rfc("4.6.bin")).signers).toHaveLength(2);
    expect(readSignedData(rfc("4.7.bin")).signers[0]?.subjectKeyId).toHaveLength(20);
    expect(readSignedData(rfc("4.11.bin")).signers).toEqual([]);
    expect(readSignedData(rfc("4.4.bin")).signers[0]?.attributes).toHaveLength(3);
  });

  corpusTest.each(["4.8.eml", "4.9.eml"])("the mail of %s does not verify", (file) => {
    expect(faultOf(() => verifyMail(toCrlf(rfc(file)))).code).toMatch(/^malformed$|^signature-invalid$/u);
  });

  corpusTest.each(["3.1.bin", "3.2.bin", "5.1.bin", "5.2.bin", "6.0.bin", "7.1.bin", "7.2.bin"])(
    "%s is no SignedData and no envelope of ours",
    (file) => {
      expect(outcomeOf(() => verify(rfc(file), trust))).toBe("malformed");
      expect(outcomeOf(() => openWithPrivateKey(rfc(file), []))).toBe("cannot-open");
    },
  );
});

/** Verifies a mail that is signed at its top, attached or detached. @throws Fault; `undefined` where the mail is not signed */
function verifyMail(mail: Buffer, by: Trust = trust): unknown {
  const entity = parseEntity(mail);
  const { type } = entity.contentType;
  if (/^application\/(?:x-)?pkcs7-mime$/u.test(type)) return verify(decodedBody(entity), by);
  if (type !== "multipart/signed") return undefined;
  const [signed, file] = splitMultipart(entity);
  return signed && file && verify(decodedBody(parseEntity(file)), by, signed);
}

describe("mail of Thunderbird's test suite", () => {
  let ssl: OpenSsl;
  beforeAll(async () => {
    ssl = await openSsl("thunderbird");
  });
  const isSigned = (mail: Buffer): boolean => /^multipart\/signed$|pkcs7-mime$/u.test(parseEntity(mail).contentType.type);
  const signedMails = () =>
    corpusFiles(["thunderbird-smime"], /^alice\..*sig\..*\.eml$|^nested-sigs\.eml$|^outer-smime-.*\.eml$/u)
      .map(({ name, bytes }) => ({ name, mail: toCrlf(bytes) }))
      .filter(({ name, mail }) => !name.includes(".env.eml") && isSigned(mail));

  corpusTest("is refused by a Fault, or is not signed at its top, where no root is trusted", () => {
    const mails = corpusFiles(["thunderbird-smime"], /^(?!alice\.).*\.eml$/u); // those of Alice come below
    const outcomes = mails.map(({ bytes }) => outcomeOf(() => expect(verifyMail(toCrlf(bytes))).toBeUndefined()));
    expect([...new Set(outcomes)].sort()).toEqual(["malformed", "ok", "signature-invalid"]);
  });

  corpusTest("holds here in its cryptography just where stock OpenSSL verifies it, but for SHA-1 and content in two places", () => {
    const ca = parseCertificate(corpusFile("thunderbird-smime", "mailnews", "test", "data", "smime", "TestCA.pem"));
    const by = { ...trust, roots: [ca], at: new Date(ca.notBefore.getTime() + 86_400_000) };
    const mails = signedMails();
    expect(mails.length).toBeGreaterThan(50);
    const verdicts = mails.map(({ name, mail }) => {
      ssl.put("mail.eml", mail);
      const stock = ssl.try(["cms", "-verify", "-noverify", "-in", "mail.eml"]).status === 0;
      const { message } = faultOf(() => verifyMail(mail, by));
      const holds = message === "the certificate is not meant for this use"; // the last check; these certificates name no purpose
      const stricter = /algorithm that is not accepted|wrong place/u.test(message);
      return { name, holds, agrees: holds === stock || (stock && stricter) };
    });
    expect(verdicts.filter(({ agrees }) => !agrees)).toEqual([]);
    expect(verdicts.filter(({ holds }) => holds).length).toBeGreaterThan(20);
    expect(verdicts.filter(({ name, holds }) => holds && /bad|mismatch|SHA1/u.test(name))).toEqual([]);
  });
});
