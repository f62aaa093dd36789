/** Revocation lists: only the root's own count, and what a revocation undoes depends on when the signature was met (RFC 5280 §5, §6.3). */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { createRoot, revocationList, type RevocationOrder } from "../../broker/authority.ts";
import { serialOf, verifyChain } from "../../mime/certificate.ts";
import { parseRevocationList } from "../../mime/crl.ts";
import { openLetter } from "../../mime/bind.ts";
import { OID } from "../../mime/oids.ts";
import { Fault } from "../../mime/fault.ts";
import type { Signer } from "../../mime/sign.ts";
import { temporaryFolder } from "../servers/process.ts";
import { FROM, NOW, UNTIL, heldOf, makeParties, sealedLetter, type Parties } from "./parties.ts";

let parties: Parties;

beforeAll(async () => void (parties = await makeParties()));

const LATER = new Date(NOW.getTime() + 86_400_000);
const order = (entries: RevocationOrder["entries"] = []): RevocationOrder => ({ number: 7, thisUpdate: NOW, nextUpdate: LATER, entries });
const wordOf = (attempt: () => unknown): string => {
  try {
    attempt();
    return "good";
  } catch (thrown) {
    return Fault.from(thrown).code;
  }
};

test("what the root lists is read back, a serial number with its first bit set and one of a single octet too", async () => {
  const serials = ["40ab", "ff00", "01", "80"];
  const entries = serials.map((serial) => ({ serial, at: NOW, reason: "key-compromise" as const }));
  const list = parseRevocationList(await revocationList(parties.root, order(entries)), [parties.root.certificate]);
  expect(list).toMatchObject({ number: 7, thisUpdate: NOW, nextUpdate: LATER });
  expect([...list.revoked]).toEqual(serials.map((serial) => [serial, NOW]));
});

describe("a list is refused", () => {
  test("signed by another root, or by a mailbox of ours", async () => {
    const foreign = await createRoot("Test root", FROM, UNTIL);
    for (const signer of [foreign, { key: parties.alice.signer.key, certificate: parties.root.certificate } satisfies Signer]) {
      const der = await revocationList(signer, order());
      expect(wordOf(() => parseRevocationList(der, [parties.root.certificate]))).toBe("signature-invalid");
    }
  });

  test("with any octet altered, cut short, or with more behind it", async () => {
    const der = await revocationList(parties.root, order([{ serial: "40ab", at: NOW, reason: "superseded" }]));
    for (let at = 0; at < der.length; at++) {
      const copy = Buffer.from(der);
      copy[at] = (copy[at] ?? 0) ^ 1;
      expect([at, wordOf(() => parseRevocationList(copy, [parties.root.certificate]))]).not.toEqual([at, "good"]);
      expect(wordOf(() => parseRevocationList(der.subarray(0, at), [parties.root.certificate]))).toBe("malformed");
    }
    expect(wordOf(() => parseRevocationList(Buffer.concat([der, Buffer.alloc(1)]), [parties.root.certificate]))).toBe("malformed");
  });
});

test("a list of stock OpenSSL is read, and one of its own with a critical extension is refused", async () => {
  const folder = await temporaryFolder("crl");
  const run = (...args: string[]): void => void execFileSync("openssl", args, { cwd: folder, stdio: "pipe" });
  writeFileSync(join(folder, "index.txt"), "R\t450101000000Z\t260101000000Z,keyCompromise\t0A0B\tunknown\t/CN=x\n");
  writeFileSync(join(folder, "number"), "05\n");
  writeFileSync(
    join(folder, "ca.cnf"),
    "[ca]\ndefault_ca=it\n[it]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha256\ndefault_crl_days=9\n[idp]\nissuingDistributionPoint=critical,@point\n[point]\nonlyuser=TRUE\n",
  );
  writeFileSync(join(folder, "ca.pem"), parties.root.certificate.pem);
  writeFileSync(join(folder, "ca.key"), parties.root.key.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
  const made = (...more: string[]): Buffer => {
    run("ca", "-config", "ca.cnf", "-gencrl", "-cert", "ca.pem", "-keyfile", "ca.key", "-out", "crl.pem", ...more);
    run("crl", "-in", "crl.pem", "-outform", "DER", "-out", "crl.der");
    return readFileSync(join(folder, "crl.der"));
  };
  expect(parseRevocationList(made(), [parties.root.certificate])).toMatchObject({
    number: 5,
    revoked: new Map([["0a0b", new Date("2026-01-01T00:00:00Z")]]),
  });
  const partial = made("-crlexts", "idp");
  expect(wordOf(() => parseRevocationList(partial, [parties.root.certificate]))).toBe("malformed");
});

describe("a revoked certificate", () => {
  const revokedAt = (at: Date) => new Map([[serialOf(parties.alice.signer.certificate), at]]);
  const before = new Date(NOW.getTime() - 1_000);

  test.each<[string, () => { revoked: ReadonlyMap<string, Date>; metAt?: Date }, string]>([
    [
      "is refused where nobody says when its signature was met, whatever the date",
      () => ({ revoked: revokedAt(LATER) }),
      "signature-invalid",
    ],
    ["is refused where its signature was met afterwards", () => ({ revoked: revokedAt(before), metAt: NOW }), "signature-invalid"],
    ["is refused where it was met at that moment", () => ({ revoked: revokedAt(NOW), metAt: NOW }), "signature-invalid"],
    ["is good for what was met before", () => ({ revoked: revokedAt(NOW), metAt: before }), "good"],
    ["does not touch another one", () => ({ revoked: new Map([["01", before]]) }), "good"],
  ])("%s", (_what, changes, word) => {
    const trust = { roots: [parties.root.certificate], at: NOW, purpose: OID.emailProtection, ...changes() };
    expect(wordOf(() => verifyChain(parties.alice.signer.certificate, trust))).toBe(word);
  });

  test.each([
    ["before its letter was declared", -1, "cannot-open"],
    ["after its letter was declared", 1, "good"],
  ])("of the sender, revoked %s: %s", (_when, seconds, word) => {
    const { envelope, key, binding } = sealedLetter(parties);
    const revoked = revokedAt(new Date(NOW.getTime() + seconds * 1_000));
    const trust = { ...binding.trust, revoked, metAt: NOW };
    expect(wordOf(() => openLetter(heldOf(envelope), { key, openers: [parties.bob.opener] }, { ...binding, trust }))).toBe(word);
  });
});
