/**
 * One root follows another under traffic: no letter notices, a gateway that was away comes back, certificates are renewed under the new root
 * by themselves, and receipts of before and after verify with one ca.pem, by our command and by OpenSSL alone.
 */
import { spawnSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { get } from "node:https";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { stringify } from "yaml";
import { canRunPostfix } from "../servers/postfix.ts";
import { kakitome, must } from "./kakitome.ts";
import { ALICE, BOB, CAROL, setLifetime, startPlace, type Gateway, type Place } from "./place.ts";
import { receiptOf, sendLetter, statesAt, Traffic } from "./traffic.ts";

const suite = canRunPostfix ? describe : describe.skip;
if (!canRunPostfix) console.log("skipped: Postfix runs as root only");

interface Invitation {
  readonly token: string;
  readonly fingerprint: string;
}

suite("another root", () => {
  let place: Place;
  let data: string;
  let traffic: Traffic;
  /** From before anything was announced. */
  let first: X509Certificate;
  let early: string;
  let invited: Invitation;

  beforeAll(async () => {
    // Gateway B's certificates are for so short that they are due whenever it looks.
    place = await startPlace({ between: (broker) => setLifetime(broker.config, "5m"), recipients: [BOB, CAROL] });
    setLifetime(place.broker.config, "365d");
    data = join(place.broker.config, "..", "data");
    first = rootsIn("ca.pem")[0]!;
    early = await sendLetter({ from: ALICE, to: BOB, by: place.a });
    await receiptOf(place, early);
    invited = invite("early.example");
    traffic = new Traffic(place);
  }, 120_000);
  afterAll(() => place?.stop());

  const certificatesIn = (path: string): X509Certificate[] =>
    (readFileSync(path, "utf8").match(/-----BEGIN[^-]+-----[^-]+-----END[^-]+-----/gu) ?? []).map((pem) => new X509Certificate(pem));
  const rootsIn = (name: string): X509Certificate[] => certificatesIn(join(data, name));
  const trustedAt = (gateway: Pick<Gateway, "data">): string[] =>
    certificatesIn(join(gateway.data, "keys", "broker-ca.pem")).map(({ fingerprint256 }) => fingerprint256);
  const rotate = (...more: string[]) => kakitome(["broker", "rotate", "root", ...more, "--config", place.broker.config]);
  const invite = (domain: string) =>
    JSON.parse(must(["broker", "invite", "--for", domain, "--json", "--config", place.broker.config])) as Invitation;
  const bobs = (name: string): X509Certificate =>
    new X509Certificate(readFileSync(join(place.b.data, "keys", encodeURIComponent(BOB), `${name}.crt.pem`)));

  test("is announced while gateway B is away: gateway A comes to trust it, and nothing is issued under it", async () => {
    await traffic.more(2);
    await place.b.process.stop();
    expect(rotate()).toMatchObject({ status: 0, stdout: expect.stringContaining("is announced") });
    const [issuing, next, ...others] = rootsIn("ca.pem");
    expect([issuing?.fingerprint256, others]).toEqual([first.fingerprint256, []]);
    expect(statSync(join(data, "root-next.key.pem")).mode & 0o777).toBe(0o600);
    must(["reload", "--config", place.a.config]); // it looks by itself every hour
    await place.a.process.until("the new root", (line) => line.event === "root.learned");
    expect(trustedAt(place.a).toSorted()).toEqual([first, next!].map(({ fingerprint256 }) => fingerprint256).toSorted());
    expect(statSync(join(place.a.data, "keys", "broker-ca.pem")).mode & 0o077).toBe(0);
    expect(certificatesIn(join(data, "server.crt.pem"))[0]!.checkIssued(first)).toBe(true);
    expect(invite("other.example").fingerprint).toBe(first.fingerprint256.replaceAll(":", "").toLowerCase());
    expect(rotate()).toMatchObject({ status: 1, stderr: expect.stringContaining("is announced already") });
    await traffic.more(2);
  }, 120_000);

  test("issues only when it was announced for a day, or when told not to wait", async () => {
    expect(rotate("--use")).toMatchObject({ status: 1, stderr: expect.stringMatching(/less than a day ago.*--now/u) });
    const next = rootsIn("ca.pem")[1]!;
    expect(rotate("--use", "--now")).toMatchObject({ status: 0, stdout: expect.stringContaining("The running broker uses it now.") });
    expect(rootsIn("ca.pem").map(({ fingerprint256 }) => fingerprint256)).toEqual([next.fingerprint256, first.fingerprint256]);
    for (const name of ["server", "signing", "session"]) expect(rootsIn(`${name}.crt.pem`)[0]!.checkIssued(next)).toBe(true);
    expect(invite("b.example").fingerprint).toBe(next.fingerprint256.replaceAll(":", "").toLowerCase());
    await traffic.more(2);
  }, 120_000);

  test("gateway B, which knew nothing of it, comes back, learns it and has its certificates of it", async () => {
    setLifetime(place.broker.config, "5m");
    await place.b.restart();
    await place.b.process.until("the new root", ({ event }) => event === "root.learned");
    await place.b.process.until("new certificates", (line) => line.event === "mailbox.renewed" && line["mailbox"] === BOB);
    const [root] = rootsIn("ca.pem");
    expect([bobs("signing"), bobs("encryption")].map((one) => one.checkIssued(root!))).toEqual([true, true]);
    await traffic.more(2);
    const back = await sendLetter({ from: BOB, to: ALICE, by: place.b }); // signed under the new root, to a mailbox of the old one
    await receiptOf(place, back, BOB);
  }, 120_000);

  test("and every letter of before, meanwhile and after was opened", async () => {
    const ids = await traffic.settle();
    expect(ids.length).toBeGreaterThanOrEqual(8);
    const states = statesAt(place.a);
    expect([early, ...ids].map((id) => states.get(id))).toEqual([early, ...ids].map(() => "opened"));
    for (const gateway of [place.a, place.b])
      expect(gateway.process.lines.filter(({ event }) => /not-opened|receipt-refused|given-up/u.test(String(event)))).toEqual([]);
  }, 120_000);

  test("receipts of both roots verify with ca.pem, by our command and by OpenSSL; with one root alone, only its own do", async () => {
    const late = await sendLetter({ from: ALICE, to: BOB, by: place.a });
    const files = { early: join(place.folder, "early.eml"), late: join(place.folder, "late.eml") };
    writeFileSync(files.early, await receiptOf(place, early));
    writeFileSync(files.late, await receiptOf(place, late));
    const [root, former] = rootsIn("ca.pem");
    const alone = { old: join(place.folder, "old.pem"), new: join(place.folder, "new.pem") };
    writeFileSync(alone.old, former!.toString());
    writeFileSync(alone.new, root!.toString());
    const ours = (file: string, ca: string): boolean => /^good +broker's receipt/mu.test(kakitome(["verify", file, "--ca", ca]).stdout);
    const openssl = (file: string, ca: string): boolean => {
      const command = ["cms", "-verify", "-in", file, "-CAfile", ca, "-verify_email", "receipts@broker.example", "-out", "/dev/null"];
      return spawnSync("openssl", command).status === 0;
    };
    for (const holds of [ours, openssl]) {
      const look = (file: string) =>
        [join(data, "ca.pem"), join(place.a.data, "keys", "broker-ca.pem"), alone.old, alone.new].map((ca) => holds(file, ca));
      expect(look(files.early)).toEqual([true, true, true, false]);
      expect(look(files.late)).toEqual([true, true, false, true]);
    }
  }, 120_000);

  test("a gateway enrols with the new fingerprint, and with an invitation of before; both trust both roots", async () => {
    for (const [name, { token, fingerprint }] of [["late", invite("late.example")] as const, ["early", invited] as const]) {
      const config = join(place.folder, `${name}.yaml`);
      const mailboxes = [{ address: `someone@${name}.example` }];
      writeFileSync(config, stringify({ name: `gateway.${name}.example`, data: name, broker: { url: place.broker.url }, mailboxes }));
      must(["enrol", "--config", config, "--fingerprint", fingerprint, "--token", token]);
      expect(trustedAt({ data: join(place.folder, name) }).toSorted()).toEqual(
        rootsIn("ca.pem")
          .map(({ fingerprint256 }) => fingerprint256)
          .toSorted(),
      );
    }
    expect(invited.fingerprint).not.toBe(invite("late.example").fingerprint);
  });

  test("the former root counts until its last certificate ends, and signs a revocation list of its own until then", async () => {
    const { retired, waiting } = JSON.parse(rotate("--retire", "--json").stdout) as { retired: string[]; waiting: { until: string }[] };
    expect([retired, waiting.length]).toEqual([[], 1]);
    expect(new Date(waiting[0]!.until).getTime()).toBeGreaterThan(Date.now() + 364 * 86_400_000);
    const old = join(place.folder, "old.pem");
    const fingerprint = first.fingerprint256.replaceAll(":", "").toLowerCase();
    const list = join(place.folder, "old.crl");
    writeFileSync(list, await fetched(`${place.broker.url}/v1/crl?root=${fingerprint}`, readFileSync(join(data, "ca.pem"), "utf8")));
    const read = ["crl", "-inform", "DER", "-in", list, "-CAfile", old, "-noout"];
    expect(spawnSync("openssl", read, { encoding: "utf8" }).stderr).toContain("verify OK");
    expect(kakitome(["doctor", "--config", place.broker.config]).stdout).toMatch(/All well\.$/mu);
  });
});

function fetched(url: string, ca: string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    get(url, { ca }, (response) => void buffer(response).then(resolve, reject)).on("error", reject);
  });
}
