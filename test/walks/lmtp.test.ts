/** Mail that comes in by the gateway: Postfix, the inbound hop, Dovecot's LMTP, with the lines of docs/install-lmtp.md; and what is there when a process died. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { parse } from "yaml";
import { toCrlf } from "../../mime/entity.ts";
import { withoutTrace } from "../gateway/arrival-place.ts";
import { Talk } from "../gateway/talk.ts";
import { freePort } from "../servers/ports.ts";
import { canRunPostfix } from "../servers/postfix.ts";
import { kakitome, startKakitome } from "./kakitome.ts";
import { pageOf } from "./page.ts";
import { ALICE, BOB, CAROL, DAVE, mailsIn, passwordOf, startPlace, untilMail, type Gateway, type Place } from "./place.ts";

const suite = canRunPostfix ? describe : describe.skip;
if (!canRunPostfix) console.log("skipped: Postfix runs as root only");

const block = pageOf("install-lmtp.md");

suite("with Postfix in front and Dovecot behind, configured as the page says", () => {
  let place: Place;

  beforeAll(async () => {
    const [hop, lmtp, health] = [await freePort(), await freePort(), await freePort()];
    const inbound = parse(block("gateway.yaml", { "127.0.0.1:10024": `127.0.0.1:${hop}`, "port: 24": `port: ${lmtp}` })) as object;
    const main = { "= b.example": "= a.example b.example", "127.0.0.1:10024": `127.0.0.1:${hop}` };
    const patient = { minimal_backoff_time: "1h", maximal_backoff_time: "1h", queue_run_delay: "1h" }; // it tries again when it is told to
    place = await startPlace({
      b: { ...inbound, health: { listen: `127.0.0.1:${health}` } },
      dovecot: block("dovecot.conf", { "port = 24": `port = ${lmtp}` }),
      postfix: { ...patient, recipient_bcc_maps: `inline:{{${BOB}=${DAVE}}}` }, // Dave sees what Bob's letters look like on the way
      services: () => ({ main: block("main.cf", main), services: "" }),
    });
  }, 60_000);
  afterAll(() => place?.stop());

  /** Sends a letter from a client of a gateway. */
  function send(gateway: Gateway, from: string, to: string, name: string): void {
    const server = ["--server", "127.0.0.1", "--port", String(gateway.smtpPort), "-tls", "--suppress-data"];
    const auth = ["--auth", "PLAIN", "--auth-user", from, "--auth-password", passwordOf(from)];
    const letter = ["--from", from, "--to", to, "--header", `Subject: secret ${name}`, "--header", `Message-Id: <${name}@test.example>`];
    const { status, stdout } = spawnSync("swaks", [...server, ...auth, ...letter], { encoding: "utf8" });
    expect({ status, stdout }).toMatchObject({ status: 0 });
  }

  /** Hands a mail to Postfix as a stranger's server would. */
  async function bring(to: string, mail: Buffer | string): Promise<void> {
    const talk = await Talk.open(place.postfix.port);
    for (const line of ["EHLO far.example", `MAIL FROM:<far@far.example>`, `RCPT TO:<${to}>`])
      expect(await talk.say(line)).toMatch(/^250/u);
    expect(await talk.data(Buffer.from(mail).subarray(0, -2))).toMatch(/^250 /u);
    talk.close();
  }

  const holds =
    (...words: string[]) =>
    (mail: Buffer): boolean =>
      words.every((word) => mail.includes(word));
  const isSealed = holds("registered.p7m");
  const opened = async (user: string, name: string): Promise<Buffer[]> => (await mailsIn(place, user)).filter(holds(`secret ${name}`));
  const receiptOf = (gateway: Gateway, seen = 0) =>
    gateway.process.until("the receipt", (line) => line.event === "receipt.verified" && gateway.process.lines.indexOf(line) >= seen);
  const handedOn = (count: number) =>
    place.b.process.until(
      `${count} mails handed on`,
      () => place.b.process.lines.filter(({ event }) => event === "arrival.handed-on").length >= count,
    );

  /** Starts gateway B anew. @param halt where it stands still */
  async function restartB(halt?: string): Promise<void> {
    await place.b.process.stop("SIGKILL");
    place.b.process = startKakitome(["gateway", "run", "--config", place.b.config], halt === undefined ? {} : { KAKITOME_HALT: halt });
    await place.b.process.until("start", ({ event }) => event === "gateway.started");
  }

  test("a letter goes in at A, through Postfix, is opened on its way, and Alice has the receipt", async () => {
    send(place.a, ALICE, BOB, "one");
    const [letter] = await untilMail(place, BOB, holds("secret one"));
    expect(String(letter)).toMatch(/^Return-Path: <alice@a\.example>/u);
    expect(withoutTrace(letter ?? Buffer.alloc(0))).toMatch(/^Authentication-Results: gateway\.b\.example; smime=pass/u);
    await receiptOf(place.a);
    expect((await mailsIn(place, BOB)).filter(isSealed)).toEqual([]);
    const [copy] = await untilMail(place, DAVE, isSealed); // not a mailbox of the gateway
    expect(String(copy)).not.toContain("secret one");
  });

  test("a receipt that comes by the hop is kept, and handed on to Bob", async () => {
    send(place.b, BOB, ALICE, "two");
    await receiptOf(place.b);
    await untilMail(place, BOB, holds("evidence.p7m", "<two@test.example>"));
    const { stdout } = kakitome(["status", "--config", place.b.config]);
    expect(stdout).toMatch(/<two@test\.example>[^]*opened/u);
  });

  test("ordinary mail, to whomever, is octet for octet what Postfix had", async () => {
    const mail = `From: far@far.example\r\nTo: ${ALICE}\r\nSubject: =?utf-8?q?ordinary?=\r\nMessage-ID: <o@far.example>\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n\r\n8-bit: \xfc\r\n.\r\nthree\r\n`;
    await bring(ALICE, Buffer.from(mail, "latin1"));
    const [kept = Buffer.alloc(0)] = await untilMail(place, ALICE, holds("<o@far.example>"));
    expect(withoutTrace(toCrlf(kept))).toBe(mail);
    expect(String(kept)).toMatch(/Received: by gateway\.b\.example \(Kakitome inbound\) with LMTP/u);
  });

  test("a letter that comes again after it was confirmed is taken and not handed on; one for somebody else goes on to Carol sealed", async () => {
    const [copy = Buffer.alloc(0)] = await untilMail(place, DAVE, isSealed);
    const sealed = Buffer.from(withoutTrace(toCrlf(copy)), "latin1");
    const before = place.b.process.lines.filter(({ event }) => event === "arrival.handed-on").length;
    await bring(BOB, sealed);
    await handedOn(before + 2); // to Bob, who has it, and to Dave
    await bring(CAROL, sealed);
    const [kept = Buffer.alloc(0)] = await untilMail(place, CAROL, isSealed);
    expect(withoutTrace(toCrlf(kept))).toBe(sealed.toString("latin1"));
    const bobs = await mailsIn(place, BOB);
    expect([bobs.filter(holds("secret one")).length, bobs.filter(isSealed).length]).toEqual([1, 0]);
    expect(kakitome(["status", "--config", place.b.config]).stdout).toContain(CAROL);
  });

  test("with the broker away a letter waits in Postfix's queue, and is opened once the broker is back", async () => {
    await restartB("b3");
    const seen = place.a.process.lines.length;
    send(place.a, ALICE, BOB, "three");
    await place.b.process.until("halt", ({ event }) => event === "halted");
    await place.broker.process.stop("SIGKILL");
    const { pid } = place.b.process;
    while (!/^State:\s+T/mu.test(readFileSync(`/proc/${pid}/status`, "utf8"))); // it says so just before; a SIGCONT in between would be lost
    place.b.process.signal("SIGCONT");
    await place.b.process.until("refusal", ({ event, code }) => event === "inbound.refused" && code === 451);
    expect(await opened(BOB, "three")).toEqual([]);
    await place.broker.restart();
    await place.postfix.retry();
    await receiptOf(place.a, seen);
    expect(await opened(BOB, "three")).toHaveLength(1);
    expect(place.postfix.log()).toMatch(
      /status=deferred \(host 127\.0\.0\.1\[127\.0\.0\.1\] said: 451 4\.4\.1 The broker cannot be reached/u,
    );
  });

  test.each([
    ["b5", "opened and not handed on", [1]],
    ["b6", "handed on and not in the journal", [1, 2]],
    ["b7", "in the journal and not confirmed", [1]],
    ["b9", "confirmed and not answered", [1]],
  ])("killed at %s, %s: none lost, one receipt, and a second copy only where no relay can help it", async (point, _what, copies) => {
    await restartB(point);
    const seen = place.a.process.lines.length;
    send(place.a, ALICE, BOB, point);
    await place.b.process.until("halt", ({ event }) => event === "halted");
    await restartB();
    await place.postfix.retry();
    await receiptOf(place.a, seen);
    await handedOn(1); // answered, so that Postfix will not come again
    const letters = await opened(BOB, point);
    expect(copies).toContain(letters.length);
    expect(new Set(letters.map((letter) => /^Kakitome-Filing: (\S+)/mu.exec(String(letter))?.[1])).size).toBe(1);
    expect((await mailsIn(place, BOB)).filter(isSealed)).toEqual([]);
  });

  test("doctor and readyz look at the delivery server", async () => {
    await restartB();
    const ready = () => kakitome(["readyz", "--config", place.b.config]);
    const look = () => {
      const { findings } = JSON.parse(kakitome(["doctor", "--config", place.b.config, "--json"]).stdout) as {
        findings: { hop: string; good: boolean; mend: string }[];
      };
      return findings.find(({ hop }) => hop === "delivery");
    };
    expect([look()?.good, ready().stdout]).toEqual([true, expect.stringMatching(/✓ delivery\b/u)]);
    await place.dovecot.kill();
    expect(look()).toMatchObject({ good: false, mend: expect.stringContaining("speaks LMTP") });
    expect(ready()).toMatchObject({ status: 3, stdout: expect.stringMatching(/✗ delivery\b/u) });
    await place.dovecot.restart();
  });
});
