/** What a gateway makes of the roots that its broker names: it takes those that are vouched for, keeps them, and forgets what is retired. */
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, beforeEach, expect, test } from "@jest/globals";
import { certifyRoot, createRoot } from "../../broker/authority.ts";
import { Roots } from "../../gateway/roots.ts";
import type { Certificate } from "../../mime/certificate.ts";
import type { Signer } from "../../mime/sign.ts";
import { heardLog, type HeardLog } from "../broker/happenings.ts";
import { temporaryFolder } from "../servers/process.ts";

const AT = new Date("2030-01-01");
let old: Signer;
let next: Signer;
let links: readonly Certificate[];
let file: string;
let heard: HeardLog;

beforeAll(async () => {
  old = await createRoot("root", new Date("2026-01-01"), new Date("2036-01-01"));
  next = await createRoot("root 2", new Date("2029-01-01"), new Date("2039-01-01"));
  const times = { notBefore: next.certificate.notBefore, notAfter: old.certificate.notAfter };
  links = [await certifyRoot(old, next.certificate, times), await certifyRoot(next, old.certificate, times)];
});

beforeEach(async () => {
  file = join(await temporaryFolder("roots"), "broker-ca.pem");
  heard = heardLog();
  writeFileSync(file, old.certificate.pem);
});

const open = async (): Promise<Roots> => {
  const roots = await Roots.open(file, heard.log);
  if (!roots) throw new Error("not enrolled");
  return roots;
};
const both = (): Certificate[] => [next.certificate, old.certificate];

test("a root that the trusted one vouches for is taken, and known after a restart", async () => {
  const roots = await open();
  expect(await roots.learn({ listed: both(), links }, AT)).toBe(true);
  expect(await roots.learn({ listed: both(), links }, AT)).toBe(false);
  expect((await open()).trusted).toEqual(both());
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(heard.lines.all.map(({ event }) => event)).toEqual(["root.learned"]);
});

test("one that nobody vouches for is not, and nothing changes", async () => {
  const roots = await open();
  const before = readFileSync(file);
  expect(await roots.learn({ listed: both(), links: [] }, AT)).toBe(false);
  await expect(roots.learn({ listed: [next.certificate], links: [] }, AT)).rejects.toMatchObject({ code: "forbidden" });
  expect([roots.trusted, readFileSync(file)]).toEqual([[old.certificate], before]);
});

test("a retired root is forgotten, and a newer one not because a broker beside it does not name it yet", async () => {
  const roots = await open();
  await roots.learn({ listed: both(), links }, AT);
  expect(await roots.learn({ listed: [old.certificate], links }, AT)).toBe(false);
  expect(roots.trusted).toHaveLength(2);
  expect(await roots.learn({ listed: [next.certificate], links: [] }, AT)).toBe(true);
  expect((await open()).trusted).toEqual([next.certificate]);
  expect(heard.lines.all.map(({ event }) => event)).toEqual(["root.learned", "root.forgotten"]);
});

test("there is none where the gateway is not enrolled", async () => {
  expect(await Roots.open(`${file}.none`, heard.log)).toBeUndefined();
});
