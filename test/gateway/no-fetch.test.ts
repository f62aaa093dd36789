/** No address that stands in a certificate or in a letter is ever fetched: who writes one must not send our programs anywhere. */
import { execFileSync } from "node:child_process";
import { createServer } from "node:net";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { Elsewhere } from "../../gateway/elsewhere.ts";
import { Learned } from "../../gateway/learned.ts";
import { open } from "../../gateway/opening.ts";
import type { GatewayConfig } from "../../config/schema.ts";
import { parseMailbox } from "../../mime/address.ts";
import { parseCertificate, verifyChain, type Certificate } from "../../mime/certificate.ts";
import { ContentKey } from "../../mime/key.ts";
import { sealLetter, signLetter } from "../../mime/letter.ts";
import { readSealed } from "../../mime/message.ts";
import { OID } from "../../mime/oids.ts";
import { newKey } from "../../mime/request.ts";
import { sign, type Signer } from "../../mime/sign.ts";
import { heardLog } from "../broker/happenings.ts";
import { call, forever, openHouse, signedBy, wordOf, type House, type Member } from "../broker/house.ts";
import { temporaryFolder } from "../servers/process.ts";

let house: House;
let bob: Member;
let folder: string;
let connections = 0;
const recorder = createServer((socket) => {
  connections++;
  socket.destroy();
});
let port: number;

beforeAll(async () => {
  house = await openHouse();
  bob = await (await house.gateway("b.example")).enrol("bob@b.example");
  folder = await temporaryFolder("no-fetch");
  await new Promise<void>((resolve) => recorder.listen(0, "127.0.0.1", resolve));
  ({ port } = recorder.address() as { port: number });
  const { certificate, key } = house.broker.root;
  writeFileSync(join(folder, "ca.pem"), certificate.pem);
  writeFileSync(join(folder, "ca.key"), key.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
});
afterAll(async () => {
  await house?.stop();
  recorder.close();
});

/** A certificate of the house's root whose every pointer leads to the recorder. */
function pointing(purpose: "clientAuth" | "emailProtection"): Signer & { readonly certificate: Certificate } {
  const key = newKey();
  const url = `http://127.0.0.1:${port}`;
  writeFileSync(join(folder, "key.pem"), key.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
  writeFileSync(
    join(folder, "extensions"),
    [
      "basicConstraints=critical,CA:FALSE",
      "keyUsage=critical,digitalSignature",
      `extendedKeyUsage=${purpose}`,
      "subjectAltName=email:mallory@m.example,URI:" + url + "/name",
      `authorityInfoAccess=OCSP;URI:${url}/ocsp,caIssuers;URI:${url}/issuer.crt`,
      `crlDistributionPoints=URI:${url}/list.crl`,
      `issuerAltName=URI:${url}/issuer`,
    ].join("\n"),
  );
  const run = (...args: string[]): void => void execFileSync("openssl", args, { cwd: folder, stdio: "pipe" });
  run("req", "-new", "-key", "key.pem", "-subj", "/CN=mallory", "-out", "request.pem");
  run(
    "x509",
    "-req",
    "-in",
    "request.pem",
    "-CA",
    "ca.pem",
    "-CAkey",
    "ca.key",
    "-CAcreateserial",
    "-days",
    "9",
    "-sha256",
    "-extfile",
    "extensions",
    "-out",
    "it.pem",
  );
  return { key, certificate: parseCertificate(readFileSync(join(folder, "it.pem"))) };
}

test("neither by a chain that is verified, nor by a channel that shows such a certificate, nor by a body signed with one", async () => {
  const [channel, signer] = [pointing("clientAuth"), pointing("emailProtection")];
  verifyChain(channel.certificate, { roots: [house.broker.root.certificate], at: house.now(), purpose: OID.clientAuth });
  expect(wordOf(await call(house, channel, "/v1/directory/bob@b.example", { method: "GET" }))).toBe("unauthenticated");
  const member = { ...bob, identity: { ...bob.identity, signer } };
  expect(
    wordOf(await call(house, bob.gateway.channel, "/v1/present", { body: signedBy(house, member, "present", { ticket: "AAAA" }) })),
  ).toBe("forbidden");
  expect(connections).toBe(0);
});

test("nor by a mail whose signer's certificate is learned", async () => {
  const signer = pointing("emailProtection");
  const part = Buffer.from("Content-Type: text/plain\r\n\r\nhello\r\n");
  const { der } = sign(part, signer, { time: new Date(), detached: true });
  const mail = `From: mallory@m.example\r\nContent-Type: multipart/signed; protocol="application/pkcs7-signature"; boundary=x\r\n\r\n--x\r\n${part.toString()}\r\n--x\r\nContent-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\r\n${der.toString("base64").replaceAll(/.{76}/gu, "$&\r\n")}\r\n--x--\r\n`;
  const learned = new Learned({ data: folder, policy: { certificates: join(folder, "approved") } } as GatewayConfig, heardLog().log);
  expect((await learned.learn(Buffer.from(mail))).fingerprint).toBe(signer.certificate.fingerprint);
  expect(connections).toBe(0);
});

test("nor by a letter that names another broker: it is refused before anybody is asked", async () => {
  const brokerUrl = `https://127.0.0.1:${port}`;
  const signer = pointing("emailProtection");
  const order = { order: "inner" as const, signer, time: new Date(), contentId: Buffer.alloc(32, 1), brokerUrl };
  const payload = Buffer.from("From: mallory@m.example\r\nTo: bob@b.example\r\n\r\nhello\r\n");
  const letter = signLetter(payload, Buffer.alloc(24, 2), order);
  const shell = { ticket: Buffer.alloc(300, 3), brokerUrl, expiresAt: new Date(Date.now() + 86_400_000) };
  const { mail } = sealLetter(
    letter,
    { hold: "held", key: ContentKey.generate(), shell, dual: undefined },
    [],
    parseMailbox("mallory@m.example"),
    order,
  );
  const sealed = readSealed(mail);
  if (!sealed) throw new Error("not sealed");
  expect(sealed.shell.brokerUrl).toBe(brokerUrl);
  const own = { address: bob.mailbox, aliases: [], deliver: "signed" as const };
  const parts = {
    broker: bob.gateway.client,
    brokerUrl: house.url,
    name: "gateway.b.example",
    own,
    elsewhere: new Elsewhere(),
    identity: () => bob.identity,
    now: house.now,
  };
  const opening = open(parts, sealed, { session: "0".repeat(64), isFiled: true }, heardLog().log, forever);
  await expect(opening).rejects.toMatchObject({ code: "forbidden" });
  expect(connections).toBe(0);
});

test("the recorder hears who comes: the drill has teeth", async () => {
  await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined);
  expect(connections).toBe(1);
});
