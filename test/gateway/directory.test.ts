/** Certificates of the directory kept for the time in which the broker is away: only what would still count. */
import { writeFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, beforeEach, expect, test } from "@jest/globals";
import { CertificateCache, KnownCertificates } from "../../gateway/directory.ts";
import { parseMailbox } from "../../mime/address.ts";
import { serialOf } from "../../mime/certificate.ts";
import { holder, makeParties, type Parties } from "../mime/parties.ts";
import { temporaryFolder } from "../servers/process.ts";

let parties: Parties;
let folder: string;
let now: Date;
let revoked: Map<string, Date>;
let cache: CertificateCache;
const BOB = parseMailbox("bob@b.example");

beforeAll(async () => {
  parties = await makeParties();
});
beforeEach(async () => {
  folder = await temporaryFolder("directory");
  now = new Date();
  revoked = new Map();
  cache = new CertificateCache(
    folder,
    () => revoked,
    () => now,
  );
});

const certificate = () => parties.bob.opener.certificate;

test("what the broker said is found again, by another life of the gateway too", async () => {
  await cache.keep(BOB, certificate());
  const again = new CertificateCache(
    folder,
    () => revoked,
    () => now,
  );
  expect((await again.find(BOB))?.fingerprint).toBe(certificate().fingerprint);
});

test("nobody is found who was never seen", async () => {
  expect(await cache.find(BOB)).toBeUndefined();
});

test("a mailbox that the broker does not know any more is forgotten", async () => {
  await cache.keep(BOB, certificate());
  await cache.keep(BOB, undefined);
  expect(await cache.find(BOB)).toBeUndefined();
});

test("a certificate past its time is not used", async () => {
  await cache.keep(BOB, certificate());
  now = new Date(certificate().notAfter.getTime() + 1);
  expect(await cache.find(BOB)).toBeUndefined();
});

test("a certificate that was revoked is not used", async () => {
  await cache.keep(BOB, certificate());
  revoked.set(serialOf(certificate()), now);
  expect(await cache.find(BOB)).toBeUndefined();
});

test("a file that names somebody else is not used", async () => {
  await cache.keep(BOB, certificate());
  const [name = ""] = readdirSync(folder);
  writeFileSync(join(folder, name), parties.alice.signer.certificate.pem);
  expect(await cache.find(BOB)).toBeUndefined();
});

test("of several certificates of one mailbox in a folder the newest counts that is valid now, whatever its file's name; where none is, none", async () => {
  const during = (from: string, until: string) =>
    holder(parties.root, "mailbox-encryption", [BOB], { notBefore: new Date(from), notAfter: new Date(until) });
  const [former, renewed, next] = await Promise.all([
    during("2026-01-01", "2026-12-31"),
    during("2026-06-01", "2027-06-01"),
    during("2028-01-01", "2029-01-01"),
  ]);
  for (const [name, { certificate: one }] of Object.entries({ z: former, m: renewed, a: next }))
    writeFileSync(join(folder, `${name}.pem`), one.pem);
  const known = new KnownCertificates(folder, () => now);
  const at = (time: string) => {
    now = new Date(time);
    return known.get(BOB.key)?.fingerprint;
  };
  expect(at("2026-03-01")).toBe(former.certificate.fingerprint);
  expect(at("2026-09-01")).toBe(renewed.certificate.fingerprint);
  expect(at("2027-03-01")).toBe(renewed.certificate.fingerprint);
  expect(at("2027-09-01")).toBeUndefined();
  expect(known.get("carol@c.example")).toBeUndefined();
});
