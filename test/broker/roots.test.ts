/** A root's life in the data folder: announced, in use, retired; after a power cut at any step the broker starts, and the step can be done again. */
import { createPublicKey } from "node:crypto";
import { copyFileSync, cpSync, existsSync, readFileSync, readdirSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "@jest/globals";
import { stringify } from "yaml";
import { issue } from "../../broker/authority.ts";
import { initBroker } from "../../broker/init.ts";
import { readLive } from "../../broker/live.ts";
import { finishOwn, makeOwn } from "../../broker/own.ts";
import { countingIn, rootsAt } from "../../broker/roots.ts";
import { forgetSessionKeys, sessionKeysAt } from "../../broker/session-keys.ts";
import { announce, retire, useNext } from "../../broker/succession.ts";
import type { GatewayRecord, MailboxRecord } from "../../broker/table.ts";
import { loadBroker } from "../../config/load.ts";
import { duration } from "../../config/units.ts";
import type { BrokerConfig } from "../../config/schema.ts";
import { issued, parseBundle, parseCertificate } from "../../mime/certificate.ts";
import { newKey } from "../../mime/request.ts";
import { temporaryFolder } from "../servers/process.ts";
import { DAY } from "./house.ts";

const START = new Date("2026-06-01T12:00:00Z");
const later = (days: number): Date => new Date(START.getTime() + days * DAY);
const nobody = { gateways: async () => [], mailboxes: async () => [] };

let config: BrokerConfig;
let data: string;
const place = (name: string): string => join(data, name);
const modeOf = (name: string): number => statSync(place(name)).mode & 0o777;
const order = (now: Date) => ({ url: config.url, receiptsFrom: config.receipts.from, now });

beforeEach(async () => {
  const folder = await temporaryFolder("roots");
  const file = join(folder, "broker.yaml");
  const receipts = { from: "receipts@broker.example", relay: { host: "127.0.0.1", port: 1, tls: "none" } };
  writeFileSync(file, stringify({ url: "https://broker.example", listen: "127.0.0.1:1", data: "data", receipts }));
  config = loadBroker(file);
  ({ data } = config);
  await initBroker(data, order(START));
});

test("announced beside the one that issues, in use a day later, and the former one retired when the last certificate under it has ended", async () => {
  const first = rootsAt(data).issuing.certificate;
  const next = await announce(config, later(1));
  expect(rootsAt(data)).toMatchObject({ issuing: { certificate: first }, next: { certificate: next }, former: [], retired: [] });
  expect([modeOf("root-next.key.pem"), modeOf("ca.pem")]).toEqual([0o600, 0o644]);
  await expect(announce(config, later(1))).rejects.toThrow(/announced already/u);
  await expect(useNext(config, false, later(1.9))).rejects.toThrow(/less than a day ago/u);

  await useNext(config, false, later(2.1));
  const used = rootsAt(data);
  expect(used).toMatchObject({ issuing: { certificate: next }, next: undefined, former: [{ certificate: first, until: later(367.1) }] });
  expect(modeOf(`root-${first.fingerprint}.key.pem`)).toBe(0o600);
  for (const name of ["server", "signing", "session"])
    expect(issued(next, parseCertificate(readFileSync(place(`${name}.crt.pem`))))).toBe(true);
  await expect(useNext(config, true, later(3))).rejects.toThrow(/no root is announced/u);

  expect(await retire(config, nobody, later(367))).toMatchObject({ retired: [], waiting: [{ certificate: first }] });
  expect(await retire(config, nobody, later(367.2))).toEqual({ retired: [first], waiting: [] });
  expect(rootsAt(data)).toMatchObject({ issuing: { certificate: next }, former: [], retired: [first], links: [] });
  expect(readdirSync(data).filter((name) => name.includes(first.fingerprint))).toEqual([]);
  expect(parseBundle(readFileSync(place("ca.pem")))).toEqual([next, first]); // receipts of its time
});

test("a former root waits for a mailbox's certificate that lives longer than it was written down for", async () => {
  const { issuing } = rootsAt(data);
  await announce(config, later(1));
  await useNext(config, true, later(1));
  const times = { notBefore: later(0), notAfter: later(500) };
  const { pem } = await issue(issuing, { profile: "mailbox-signing", publicKey: createPublicKey(newKey()), commonName: "a", ...times });
  const record: MailboxRecord = { address: "a", gateway: "g", signingCertificate: pem, encryptionCertificate: pem, enrolledAt: 0 };
  const one = { ...nobody, mailboxes: async () => [record] };
  expect((await retire(config, one, later(400))).waiting).toEqual([{ certificate: issuing.certificate, until: later(500) }]);
  expect((await retire(config, one, later(501))).retired).toEqual([issuing.certificate]);
});

test("a former root waits for a channel's certificate from before the lifetime of certificates was lowered", async () => {
  const { issuing } = rootsAt(data);
  await announce(config, later(1));
  await useNext({ ...config, certificates: { lifetime: duration("30d") } }, true, later(1));
  const channel = { name: "gw", scope: [], serial: "5a", enrolledAt: 0, endsAt: later(365).getTime() };
  const enrolled = { ...channel, fingerprint: "1", root: issuing.certificate.fingerprint };
  const ofAnother = { ...channel, fingerprint: "2", root: rootsAt(data).issuing.certificate.fingerprint, endsAt: later(900).getTime() };
  const gateways: GatewayRecord[] = [enrolled, ofAnother, { name: "gw", scope: [], serial: "5b", enrolledAt: 0, fingerprint: "3" }];
  const two = { ...nobody, gateways: async () => gateways };
  expect((await retire(config, two, later(364))).waiting).toEqual([{ certificate: issuing.certificate, until: later(365) }]);
  expect((await retire(config, two, later(366))).retired).toEqual([issuing.certificate]);
});

test("a broker shows its server's certificate with the way to the former root, for gateways that were away", async () => {
  const { issuing } = rootsAt(data);
  expect(parseBundle(readLive(config).tls.cert)).toHaveLength(1);
  await announce(config, later(1));
  await useNext(config, true, later(1));
  const [server, ...links] = parseBundle(readLive(config).tls.cert);
  expect(links.some((link) => issued(link, server) && issued(issuing.certificate, link))).toBe(true);
});

describe("after a power cut", () => {
  test("before the announcement was whole, nothing is announced and it can be made again", async () => {
    const [ca, before] = [readFileSync(place("ca.pem")), rootsAt(data).issuing.certificate];
    await announce(config, later(1));
    writeFileSync(place("ca.pem"), ca); // the last file of it
    expect(rootsAt(data)).toMatchObject({ issuing: { certificate: before }, next: undefined, former: [], retired: [] });
    const next = await announce(config, later(1));
    expect(rootsAt(data).next?.certificate).toBe(next);
  });

  test("before the announced root issues, the former one does, and it can be let issue again", async () => {
    await announce(config, later(1));
    const before = await temporaryFolder("before");
    cpSync(data, before, { recursive: true });
    const { issuing, next } = rootsAt(data);
    await useNext(config, true, later(2));
    copyFileSync(join(before, "root.key.pem"), place("root.key.pem"));
    copyFileSync(join(before, "root-next.key.pem"), place("root-next.key.pem"));
    expect(rootsAt(data)).toMatchObject({
      issuing: { certificate: issuing.certificate },
      next: { certificate: next?.certificate },
      former: [],
    });
    await useNext(config, true, later(3));
    expect(rootsAt(data)).toMatchObject({ issuing: { certificate: next?.certificate }, former: [{ until: later(368) }] });
  });

  test("before the broker's own certificates were made anew, the same command does the rest", async () => {
    await announce(config, later(1));
    const kept = await temporaryFolder("own");
    for (const name of ["key", "crt"]) copyFileSync(place(`signing.${name}.pem`), join(kept, name));
    await useNext(config, true, later(2));
    for (const name of ["key", "crt"]) copyFileSync(join(kept, name), place(`signing.${name}.pem`));
    const { issuing } = rootsAt(data);
    expect(await useNext(config, false, later(2))).toBe(issuing.certificate);
    expect(issued(issuing.certificate, parseCertificate(readFileSync(place("signing.crt.pem"))))).toBe(true);
  });

  test.each(["server", "signing", "session"] as const)(
    "between key and certificate of the %s pair, a start finishes the rotation",
    async (which) => {
      const former = readFileSync(place(`${which}.crt.pem`));
      const certificate = await makeOwn(data, rootsAt(data).issuing, which, order(later(1)));
      renameSync(place(`${which}.crt.pem`), place(`${which}-next.crt.pem`));
      writeFileSync(place(`${which}.crt.pem`), former);
      expect(() => readLive(config)).toThrow(/belong together/u);
      finishOwn(data);
      readLive(config);
      expect(parseCertificate(readFileSync(place(`${which}.crt.pem`)))).toBe(certificate);
    },
  );
});

test("a root's key that belongs to none of the roots is refused, and so is one that others can read", async () => {
  writeFileSync(place("root.key.pem"), newKey().export({ type: "pkcs8", format: "pem" }));
  expect(() => rootsAt(data)).toThrow(/is the key of no root in .*ca\.pem/u);
});

test("counting are the one that issues, the announced one and former ones, each with its key", async () => {
  await announce(config, later(1));
  await useNext(config, true, later(1));
  await announce(config, later(2));
  const roots = countingIn(rootsAt(data));
  expect(roots).toHaveLength(3);
  for (const { key, certificate } of roots) expect(createPublicKey(key).equals(certificate.publicKey)).toBe(true);
});

describe("a former session key", () => {
  const longest = 10 * DAY;
  const dayOf = (date: Date): number => Math.floor(date.getTime() / DAY);
  const forget = (now: Date, used: readonly Date[] = []): string[] =>
    forgetSessionKeys(data, { longest, used: new Set(used.map(dayOf)), now });

  test("goes when no session can be left that its tickets name, the older one first, and the present one never", async () => {
    const [first] = sessionKeysAt(data);
    const second = await makeOwn(data, rootsAt(data).issuing, "session", order(later(20)));
    await makeOwn(data, rootsAt(data).issuing, "session", order(later(40)));
    expect(sessionKeysAt(data)).toHaveLength(3);
    expect(forget(later(29.9))).toEqual([]);
    expect(forget(later(30.1), [later(20)])).toEqual([]); // a letter of then waits still
    expect(forget(later(30.1), [later(22)])).toEqual([first.certificate.fingerprint]);
    expect(existsSync(place(`session-${first.certificate.fingerprint}.key.pem`))).toBe(false);
    expect(forget(later(50.1))).toEqual([second.fingerprint]);
    expect(forget(later(5_000))).toEqual([]);
    expect(sessionKeysAt(data)).toHaveLength(1);
  });
});
