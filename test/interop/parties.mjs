// Alice, Bob, the broker and their certificates, made anew for each run, in the forms that each tool wants; one letter from Alice to Bob.
import { createPrivateKey, createPublicKey } from "node:crypto";
import { createRoot, issue } from "../../dist/broker/authority.js";
import { parseMailbox } from "../../dist/mime/address.js";
import { parseCertificate } from "../../dist/mime/certificate.js";
import { toCrlf } from "../../dist/mime/entity.js";
import { splitMessage } from "../../dist/mime/headers.js";
import { OID } from "../../dist/mime/oids.js";
import { buildPayload, outerFields } from "../../dist/mime/payload.js";
import { newKey } from "../../dist/mime/request.js";

const FROM = new Date("2020-01-01T00:00:00Z");
const UNTIL = new Date("2045-01-01T00:00:00Z");
export const NOW = new Date("2026-03-01T12:00:00Z");
export const BROKER = "https://broker.example";
export const SHELL = { ticket: Buffer.from("ticket-of-letter-1"), brokerUrl: BROKER, expiresAt: new Date("2026-03-31T12:00:00Z") };
export const NONCE = Buffer.alloc(24, 0x5a);
export const CONTENT_ID = Buffer.alloc(32, 0x1d);
export const MESSAGE_ID = "<letter-1@a.example>";
export const alice = parseMailbox("alice@a.example");
export const bob = parseMailbox("bob@b.example");

const MESSAGE = toCrlf(
  Buffer.from(`From: "Alice" <alice@a.example>
To: Bob <bob@b.example>
Date: Sun, 01 Mar 2026 12:00:00 +0000
Message-ID: ${MESSAGE_ID}
Subject: the secret subject
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

The secret text, 書留, with a trailing space 
and lines that begin in ways a mail system may touch:
From the start,
.a dot, and
-- two dashes.
`),
);
const split = splitMessage(MESSAGE);
export const OUTER = outerFields(split, "[...]");
export const PAYLOAD = buildPayload(split, { outer: OUTER, nonce: NONCE });
/** What others seal and sign for us: a whole MIME entity. */
export const THEIR_CONTENT = toCrlf(
  Buffer.from(`Content-Type: text/plain; charset=utf-8\n\nFrom another tool.\n${"A line. \n".repeat(400)}`),
);

/** Makes everyone. A party: `{key, certificate, name}`; its files are NAME.pem, NAME-key.pem, NAME.der, NAME-key.der. */
export async function makeParties(bench) {
  const root = await createRoot("Interop root", FROM, UNTIL);
  const write = (name, { key, certificate }) => {
    bench.put(certificate.pem, `${name}.pem`);
    bench.put(certificate.der, `${name}.der`);
    bench.put(key.export({ type: "pkcs8", format: "pem" }), `${name}-key.pem`);
    bench.put(key.export({ type: "pkcs8", format: "der" }), `${name}-key.der`);
    return { key, certificate, name };
  };
  write("root", root);
  /** As the broker's own authority issues them. */
  const own = async (name, profile, names) => {
    const key = newKey();
    const order = { profile, publicKey: createPublicKey(key), commonName: name, notBefore: FROM, notAfter: UNTIL, ...names };
    return write(name, { key, certificate: await issue(root, order) });
  };
  /** As another authority would: RSA, P-384. */
  const foreign = (name, address, kind) => {
    bench.openssl("genpkey", ...kind, "-out", `${name}-key.pem`);
    bench.openssl("req", "-new", "-key", `${name}-key.pem`, "-subj", `/CN=${name}`, "-out", `${name}.csr`);
    bench.put(
      `basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,${kind.includes("RSA") ? "keyEncipherment" : "keyAgreement"}\n` +
        `extendedKeyUsage=emailProtection\nsubjectAltName=email:${address}\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n`,
      `${name}.ext`,
    );
    const by = ["-CA", "root.pem", "-CAkey", "root-key.pem", "-CAcreateserial"];
    bench.openssl("x509", "-req", "-in", `${name}.csr`, ...by, "-days", "3650", "-extfile", `${name}.ext`, "-out", `${name}.pem`);
    return write(name, { key: createPrivateKey(bench.get(`${name}-key.pem`)), certificate: parseCertificate(bench.get(`${name}.pem`)) });
  };
  const rsa = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
  const p384 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
  const parties = {
    root,
    signer: await own("alice-sign", "mailbox-signing", { mailboxes: [alice] }),
    rsaSigner: foreign("alice-rsa", alice.address, rsa),
    bobSigner: await own("bob-sign", "mailbox-signing", { mailboxes: [bob] }),
    broker: await own("broker", "broker-signing", { url: BROKER }),
    p256: await own("bob-p256", "mailbox-encryption", { mailboxes: [bob] }),
    rsa: foreign("bob-rsa", bob.address, rsa),
    p384: foreign("bob-p384", bob.address, p384),
  };
  intoNss(
    bench,
    Object.values(parties).filter(({ name }) => name),
  );
  return parties;
}

/** NSS keeps keys in a database of its own. */
function intoNss(bench, parties) {
  bench.run("mkdir", ["nss"], String);
  bench.nss("certutil", "-N", "--empty-password");
  bench.nss("certutil", "-A", "-n", "root", "-t", "CT,C,C", "-i", "root.der");
  for (const { name } of parties) {
    const files = ["-in", `${name}.pem`, "-inkey", `${name}-key.pem`, "-name", name, "-out", `${name}.p12`];
    bench.openssl("pkcs12", "-export", ...files, "-passout", "pass:pw");
    bench.nss("pk12util", "-i", `${name}.p12`, "-W", "pw", "-K", "");
  }
}

/** Foreign certificates begin when they are made, so trust is asked for now. */
export const trustOf = ({ root }) => ({ roots: [root.certificate], at: new Date(), purpose: OID.emailProtection });
