/** Mails that are made to exhaust a reader stand in a mailbox, and are offered at the door: each is over in two seconds, memory stays bounded, other letters pass. */
import { readFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { performance } from "node:perf_hooks";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { createTransport } from "nodemailer";
import { send } from "../crash/sender.ts";
import { Talk } from "../gateway/talk.ts";
import { canRunPostfix } from "../servers/postfix.ts";
import type { LogLine } from "../walks/kakitome.ts";
import { ALICE, BOB, passwordOf, startPlace, untilMail, type Place } from "../walks/place.ts";
import { BOMBS } from "./bombs.ts";

const suite = canRunPostfix ? describe : describe.skip;
if (!canRunPostfix) console.log("skipped: Postfix runs as root only");

const WITHIN_MS = 2_000;
const MOST_MIB = 300;
const MOST_MIB_OF_A_LARGE_LETTER = 400;

/** The most memory that a process has had, MiB. */
function peakOf(pid: number): number {
  return Number(/VmHWM:\s+(\d+)/u.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1_024;
}

suite("exhausting mails", () => {
  let place: Place;
  let count = 0;
  beforeAll(async () => {
    place = await startPlace({ recipients: [BOB], postfix: { message_size_limit: "100000000", header_size_limit: "100000000" } });
  }, 60_000);
  afterAll(() => place?.stop());

  /** Sends an honest letter. @returns milliseconds until it lies opened in Bob's mailbox */
  async function honest(): Promise<number> {
    const token = `honest-${count++}`;
    const begun = performance.now();
    await send(place, { token, messageId: `<${token}@a.example>`, recipients: [BOB] }, () => undefined, AbortSignal.timeout(20_000));
    await untilMail(place, BOB, (mail) => mail.includes(`The text of the letter: ${token}\r\n`));
    return performance.now() - begun;
  }

  async function enter(): Promise<Talk> {
    const talk = await Talk.openTls(place.a.smtpsPort, readFileSync(place.doorCa, "utf8"));
    await talk.say("EHLO client.a.example");
    await talk.login(ALICE, passwordOf(ALICE));
    await talk.say(`MAIL FROM:<${ALICE}>`);
    await talk.say(`RCPT TO:<${BOB}>`);
    return talk;
  }

  test("in a mailbox hold no honest letter up, and cost little memory", async () => {
    const transport = createTransport({ host: "127.0.0.1", port: place.postfix.port, ignoreTLS: true });
    const alone: number[] = [];
    for (let at = 0; at < 5; at++) alone.push(await honest());
    const beside: number[] = [];
    for (const [, bomb] of BOMBS) {
      await transport.sendMail({ envelope: { from: "mallory@m.example", to: BOB }, raw: bomb() });
      beside.push(await honest()); // lies behind it in the mailbox
    }
    transport.close();
    const [usual, worst, peak] = [Math.max(...alone), Math.max(...beside), peakOf(place.b.process.pid)].map(Math.round);
    process.stdout.write(`honest letters: at most ${usual} ms alone, ${worst} ms behind a bomb; the gateway had at most ${peak} MiB\n`);
    expect(worst).toBeLessThan((usual ?? 0) + WITHIN_MS);
    expect(peak).toBeLessThan(MOST_MIB);
  }, 240_000);

  test.each(BOMBS)("at the door: %s is answered, and the door is open to others", async (_name, bomb) => {
    const talk = await enter();
    const octets = Buffer.from(bomb().toString("latin1").replace("From: mallory@m.example", `From: ${ALICE}`), "latin1");
    const begun = performance.now();
    const reply = await talk.data(octets);
    talk.close();
    expect(reply).toMatch(/^(?:250|5\d\d) /u);
    expect(performance.now() - begun).toBeLessThan(WITHIN_MS + 1_000); // the octets have to come first
    expect(peakOf(place.a.process.pid)).toBeLessThan(MOST_MIB);
  });

  test("an honest attachment of 25 MB passes both gateways", async () => {
    for (const gateway of [place.a, place.b]) await gateway.restart();
    const attachment = randomBytes(25 << 20)
      .toString("base64")
      .replace(/.{76}/gu, "$&\r\n");
    const head = [
      `From: ${ALICE}`,
      `To: ${BOB}`,
      "Subject: large",
      "Message-ID: <large@a.example>",
      "Content-Type: application/octet-stream",
    ];
    const talk = await enter();
    expect(await talk.data(`${head.join("\r\n")}\r\nContent-Transfer-Encoding: base64\r\n\r\n${attachment}\r\n`)).toMatch(/^250 /u);
    talk.close();
    const opened = await place.b.process.until("it", ({ event, octets }) => event === "letter.opened" && Number(octets) > 25 << 20);
    const isIts = ({ event, session }: LogLine): boolean => event === "letter.confirmed" && session === opened["session"];
    await place.b.process.until("its confirmation", isIts);
    const [a, b] = [peakOf(place.a.process.pid), peakOf(place.b.process.pid)].map(Math.round);
    process.stdout.write(`a letter of 34 MiB: at most ${a} MiB at the sender's gateway, ${b} MiB at the recipient's\n`);
    expect(Math.max(a ?? 0, b ?? 0)).toBeLessThan(MOST_MIB_OF_A_LARGE_LETTER);
  }, 120_000);
});
