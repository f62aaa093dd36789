/** Hostile CMS and mail that nobody here wrote: every reader refuses by a Fault or reads, and the process lives. */
import { beforeAll, describe, expect } from "@jest/globals";
import { parseCertificate } from "../../mime/certificate.ts";
import { readSignedData } from "../../mime/cms.ts";
import { parse } from "../../mime/der.ts";
import { encodeBase64, multipart, parseEntity, splitMultipart, toCrlf } from "../../mime/entity.ts";
import { field, joinMessage } from "../../mime/headers.ts";
import { ContentKey } from "../../mime/key.ts";
import { readSealed } from "../../mime/message.ts";
import { openWithKey, openWithPrivateKey, readShell } from "../../mime/open.ts";
import { parsePayload } from "../../mime/payload.ts";
import { readReceipt } from "../../mime/report.ts";
import { verify } from "../../mime/sign.ts";
import { OID } from "../../mime/oids.ts";
import { corpusFiles, corpusTest } from "../mime/corpora.ts";
import { outcomeOf } from "../mime/faults.ts";
import { BROKER, NOW, makeParties, openEnvelope, sealedLetter, type Parties } from "../mime/parties.ts";

let parties: Parties;
beforeAll(async () => {
  parties = await makeParties();
});

const key = ContentKey.generate();

/** How often each reader came to which end. @throws Error where one of them throws something else than a Fault */
function endsOf(inputs: readonly Buffer[], readers: Readonly<Record<string, (bytes: Buffer) => unknown>>): Record<string, string[]> {
  return Object.fromEntries(
    Object.entries(readers).map(([name, read]) => [name, [...new Set(inputs.map((bytes) => outcomeOf(() => read(bytes))))].sort()]),
  );
}

describe("malformed CMS (openssl-fuzz-cms, ASN.1 nesting bombs, thunderbird and NSS envelopes)", () => {
  const inputs = (): Buffer[] =>
    [
      ...corpusFiles(["openssl-fuzz-cms"]),
      ...corpusFiles(["rfc4134-bc"], /\.(?:bin|ber|der|cer|crl|pri)$/u),
      ...corpusFiles(["nss-smime", "thunderbird-smime"], /\.(?:env|p12)$/u),
    ].map(({ bytes }) => bytes);

  corpusTest("none of it opens, verifies as anybody's word, or does more than be refused", () => {
    const all = inputs();
    expect(all.length).toBeGreaterThan(1_400);
    const trust = { roots: [parties.root.certificate], at: NOW, purpose: OID.emailProtection };
    const ends = endsOf(all, {
      parse,
      readShell,
      parseCertificate,
      openWithKey: (bytes) => openWithKey(bytes, key),
      openWithPrivateKey: (bytes) => openWithPrivateKey(bytes, [parties.bob.opener]),
      readSignedData,
      verifyAttached: (bytes) => verify(bytes, trust),
      verifyDetached: (bytes) => verify(bytes, trust, Buffer.from("x")),
    });
    expect(ends).toEqual({
      parse: ["malformed", "ok"],
      readSignedData: ["malformed", "ok"],
      readShell: ["malformed"],
      parseCertificate: ["malformed"],
      openWithKey: ["cannot-open"],
      openWithPrivateKey: ["cannot-open"],
      verifyAttached: ["malformed", "signature-invalid"],
      verifyDetached: ["malformed", "signature-invalid"],
    });
  });

  corpusTest("as the envelope of a mail that claims to be ours it is malformed, and as a letter it does not open", () => {
    const { binding } = sealedLetter(parties);
    const claims = inputs()
      .filter((bytes) => bytes.length < 20_000)
      .filter((_bytes, at) => at % 3 === 0);
    const type = field("Content-Type", "application/pkcs7-mime; smime-type=authEnveloped-data");
    const ends = endsOf(claims, {
      readSealed: (bytes) =>
        readSealed(
          multipart("mixed", [
            Buffer.from("\r\nnotice"),
            joinMessage([type, field("Content-Transfer-Encoding", "base64")], encodeBase64(bytes)),
          ]),
        ),
      openLetter: (bytes) => openEnvelope(bytes, { key, openers: [parties.bob.opener] }, binding),
    });
    expect(ends).toEqual({ readSealed: ["malformed"], openLetter: ["cannot-open"] });
  });
});

describe("malformed mail (mikel-mail, james-mime4j, cpython-test-email, thunderbird-smime)", () => {
  const mails = (): Buffer[] =>
    corpusFiles(["mikel-mail", "james-mime4j", "cpython-test-email", "thunderbird-smime"]).flatMap(({ bytes }) => [bytes, toCrlf(bytes)]);

  corpusTest("no reader takes any of it for a letter or a receipt of ours, and none is brought down", () => {
    const all = mails();
    expect(all.length).toBeGreaterThan(1_900);
    const trust = { roots: [parties.root.certificate], at: NOW, broker: BROKER };
    const found: unknown[] = [];
    const ends = endsOf(all, {
      readSealed: (bytes) => found.push(readSealed(bytes)),
      readReceipt: (bytes) => found.push(readReceipt(bytes, trust)),
      parseEntity,
      splitMultipart: (bytes) => splitMultipart(parseEntity(bytes)),
      parsePayload,
    });
    expect(new Set(found)).toEqual(new Set([undefined]));
    expect(ends["readSealed"]).toEqual(["ok"]);
    expect(ends["readReceipt"]).toEqual(["ok"]);
    expect(ends["parsePayload"]).not.toContain("ok");
    for (const outcomes of Object.values(ends)) expect(["malformed", "ok", "too-large"]).toEqual(expect.arrayContaining(outcomes));
  });
});

describe("keys that nobody should use", () => {
  corpusTest("are of sizes that the corpora hold and we refuse", () => {
    const certificates = corpusFiles(["rfc4134-bc"], /\.cer$/u);
    const refused = certificates.filter(({ bytes }) => outcomeOf(() => parseCertificate(bytes)) === "malformed");
    expect(refused).toHaveLength(certificates.length); // RSA-1024 and DSA
  });
});
