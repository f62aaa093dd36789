/** Trust from root to root: only what a trusted root certified counts, whoever lists it. */
import { beforeAll, expect, test } from "@jest/globals";
import { certifyRoot, createRoot } from "../../broker/authority.ts";
import { serialOf, verifyChain, type Certificate } from "../../mime/certificate.ts";
import { OID } from "../../mime/oids.ts";
import type { Signer } from "../../mime/sign.ts";
import { vouched } from "../../mime/vouch.ts";
import { faultOf } from "./faults.ts";
import { holder } from "./parties.ts";

const FROM = new Date("2026-01-01");
const UNTIL = new Date("2036-01-01");
const AT = new Date("2030-01-01");

let old: Signer;
let next: Signer;
let third: Signer;
let foreign: Signer;

const link = (issuer: Signer, root: Signer, times = { notBefore: FROM, notAfter: UNTIL }): Promise<Certificate> =>
  certifyRoot(issuer, root.certificate, times);
const certificates = (...signers: readonly Signer[]): Certificate[] => signers.map(({ certificate }) => certificate);

beforeAll(async () => {
  const made = ["root", "root 2", "root 3", "root 2"].map((name) => createRoot(name, FROM, UNTIL));
  [old, next, third, foreign] = (await Promise.all(made)) as [Signer, Signer, Signer, Signer];
});

test("holds what is trusted already, and nothing that nobody vouches for", () => {
  expect(vouched(certificates(old), { listed: certificates(old, next), links: [], at: AT })).toEqual(certificates(old));
  expect(vouched(certificates(old), { listed: certificates(next), links: [], at: AT })).toEqual([]);
});

test("a root whose key a trusted one certified holds: forwards, backwards, and over one in between, in any order", async () => {
  const links = [await link(next, third), await link(old, next), await link(third, next), await link(next, old)];
  const listed = certificates(third, next, old);
  for (const trusted of certificates(old, next, third)) expect(vouched([trusted], { listed, links, at: AT })).toEqual(listed);
  expect(vouched(certificates(old), { listed: certificates(next), links, at: AT })).toEqual(certificates(next)); // the old one being retired
});

test.each<[string, () => Promise<Certificate>]>([
  ["by the root that wants to be trusted itself", () => link(next, next)],
  ["by a stranger", () => link(foreign, next)],
  ["by a mailbox of the trusted root", async () => link(await holder(old, "mailbox-signing", []), next)],
  ["for another key under the same name", () => link(old, foreign)],
  ["for the right key under another name", async () => link(old, { key: next.key, certificate: (await renamed(next)).certificate })],
  ["whose time is over", () => link(old, next, { notBefore: FROM, notAfter: new Date("2029-12-31") })],
  ["whose time has not begun", () => link(old, next, { notBefore: new Date("2030-01-02"), notAfter: UNTIL })],
  ["that is no authority's certificate", () => leafOf(next)],
])("a link is worth nothing %s", async (_why, make) => {
  expect(vouched(certificates(old), { listed: certificates(old, next), links: [await make()], at: AT })).toEqual(certificates(old));
});

test("a root that has ended is not taken, whoever vouched for it", async () => {
  const short = await createRoot("root 4", FROM, new Date("2029-01-01"));
  const links = [await link(old, short)];
  expect(vouched(certificates(old), { listed: certificates(short), links, at: AT })).toEqual([]);
});

/** A certificate of the same key under another name. */
async function renamed({ key }: Signer): Promise<Signer> {
  const other = await createRoot("root 2 of another", FROM, UNTIL);
  const { certificate } = await holder(other, "mailbox-signing", [], { key });
  return { key, certificate };
}

/** The trusted root's certificate for the key, as a mailbox gets one. */
async function leafOf({ key }: Signer): Promise<Certificate> {
  return (await holder(old, "mailbox-signing", [], { key })).certificate;
}

test("whoever was revoked under the next root is not let in by the link that leads to it", async () => {
  const leaf = (await holder(next, "mailbox-signing", [])).certificate;
  const trust = { roots: certificates(old), intermediates: [await link(old, next)], at: AT, purpose: OID.emailProtection };
  verifyChain(leaf, trust);
  const revoked = new Map([[serialOf(leaf), AT]]);
  expect(faultOf(() => verifyChain(leaf, { ...trust, revoked })).message).toContain("revoked");
});
