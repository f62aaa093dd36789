/** When an end is spoken of: never before renewal had its time, however short certificates are for. */
import { expect, test } from "@jest/globals";
import { Endings } from "../../config/endings.ts";
import { demandTime } from "../../config/findings.ts";
import { parseCertificate, type Certificate } from "../../mime/certificate.ts";
import { createRoot } from "../../broker/authority.ts";
import { heardLog } from "../broker/happenings.ts";

const START = new Date("2026-01-01T00:00:00Z");
const after = (days: number): Date => new Date(START.getTime() + days * 86_400_000);
const lasting = async (days: number): Promise<Certificate> => parseCertificate((await createRoot("x", START, after(days))).certificate.der);

const saysAt = (certificate: Certificate, of: string, days: number): string[] => {
  const { log, lines } = heardLog();
  new Endings(log).look({ [of]: certificate }, after(days));
  return lines.all.map(({ level }) => String(level));
};

test.each([
  ["a year: 21 days", 365, "server", 343, 345, 363],
  ["63 days: a quarter, since a renewal is due with a third left", 63, "server", 47, 48, 61],
  ["8 days", 8, "server", 5.9, 6.1, 7.1],
  ["an hour", 1 / 24, "door", 0.7 / 24, 0.76 / 24, 0.9 / 24],
  ["a root of ten years: a year", 3_650, "root", 3_284, 3_286, 3_648],
])("of a certificate for %s before its end, and urgently when little is left", async (_what, days, of, silent, warned, urgent) => {
  const certificate = await lasting(days);
  expect([silent, warned, urgent].map((at) => saysAt(certificate, of, at))).toEqual([[], ["warn"], ["error"]]);
});

test("the doctor says the same of it", async () => {
  const certificate = await lasting(6);
  const isRoot = await lasting(3_650);
  expect(demandTime(certificate, after(4.4), "renew it")).toBe("valid for 38 hours");
  expect(() => demandTime(certificate, after(4.6), "renew it")).toThrow(/ends in 33 hours/u);
  expect(demandTime(isRoot, after(3_284), "renew it")).toBe("valid for 366 days");
  expect(() => demandTime(isRoot, after(3_286), "rotate it", true)).toThrow(/ends in 364 days/u);
  expect(() => demandTime(certificate, after(7), "renew it")).toThrow(/ended at/u);
});

test("once a day each", async () => {
  const certificate = await lasting(365);
  const { log, lines } = heardLog();
  const endings = new Endings(log);
  for (const hour of [0, 1, 25]) endings.look({ server: certificate }, after(350 + hour / 24));
  expect(lines.all).toHaveLength(2);
});
