/** A letter to three is taken back from one of them, on real servers: two open it, one finds a note, and the sender gets a report that anyone can verify. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { send } from "../crash/sender.ts";
import { canRunPostfix } from "../servers/postfix.ts";
import { kakitome, must } from "./kakitome.ts";
import { ALICE, BOB, CAROL, DAVE, mailsIn, startPlace, untilMail, type Place } from "./place.ts";

const suite = canRunPostfix ? describe : describe.skip;
if (!canRunPostfix) console.log("skipped: Postfix runs as root only");

const MESSAGE_ID = "<three@a.example>";
const CONTROL = "recall@gateway.a.example";
const TEXT = "The text of the letter: three";

suite("a letter to three recipients", () => {
  let place: Place;
  beforeAll(async () => {
    place = await startPlace({ recipients: [BOB, CAROL, DAVE], control: CONTROL });
  }, 60_000);
  afterAll(() => place?.stop());

  test("recalled from one of them: two open it, one sees a note, and the report verifies offline", async () => {
    await place.b.process.stop();
    const mail = { token: "three", messageId: MESSAGE_ID, recipients: [BOB, CAROL, DAVE] };
    await send(place, mail, () => undefined, AbortSignal.timeout(20_000));
    for (const owner of mail.recipients) await untilMail(place, owner, (sealed) => sealed.includes("registered.p7m"));

    const said = must(["recall", MESSAGE_ID, "--to", DAVE, "--config", place.a.config]);
    expect(said).toMatch(/^dave@b\.example: recalled at .*never released$/mu);
    await place.b.restart();

    for (const owner of [BOB, CAROL]) await untilMail(place, owner, (opened) => opened.includes(TEXT));
    const [note] = await untilMail(place, DAVE, (one) => one.includes("was recalled"));
    expect(String(note)).toContain(`In-Reply-To: ${MESSAGE_ID}`);
    await place.b.process.until("the original's end", ({ event }) => event === "letter.recalled");
    expect((await mailsIn(place, DAVE)).filter((one) => one.includes(TEXT) || one.includes("crash three"))).toEqual([]);

    const [report] = await untilMail(place, ALICE, (one) => one.includes("multipart/report") && one.includes(`rfc822; ${DAVE}`));
    const file = join(place.folder, "report.eml");
    writeFileSync(file, report ?? "");
    const verdict = kakitome(["verify", file, "--ca", join(place.broker.config, "..", "data", "ca.pem")]);
    expect(verdict.stdout).toContain(`recalled ${MESSAGE_ID} to ${DAVE}`);
    expect(verdict.status).toBe(0);

    const status = (...options: string[]) => {
      const found: unknown = JSON.parse(must(["status", ...options, "--json", "--config", place.a.config]));
      return (found as { sent: { recipients: { address: string; state: string; atBroker?: { state: string } }[] }[] }).sent;
    };
    await place.a.process.until("all receipts", () => status()[0]?.recipients.every(({ state }) => state !== "handed-over") === true);
    const states = status(MESSAGE_ID, "--broker")[0]?.recipients.map(({ address, state, atBroker }) => [address, state, atBroker?.state]);
    expect(states).toEqual([
      [BOB, "opened", "confirmed"],
      [CAROL, "opened", "confirmed"],
      [DAVE, "recalled", "recalled"],
    ]);
    expect(status("--to", DAVE).map(({ recipients }) => recipients.map(({ address }) => address))).toEqual([[DAVE]]);
    expect(status("--since", new Date(Date.now() + 60_000).toISOString())).toEqual([]);
    expect(must(["status", "--config", place.a.config])).toMatch(/^ {2}dave@b\.example {2}recalled /mu);

    const late = kakitome(["recall", MESSAGE_ID, "--to", BOB, "--config", place.a.config]);
    expect(late.stdout).toMatch(/^bob@b\.example: too late/mu);
    expect(late.status).toBe(3);
  }, 120_000);

  test("or by a mail to the control address, which is answered and goes nowhere", async () => {
    await place.b.process.stop();
    const signal = AbortSignal.timeout(20_000);
    await send(place, { token: "one", messageId: "<one@a.example>", recipients: [BOB] }, () => undefined, signal);
    await untilMail(place, BOB, (sealed) => sealed.includes("registered.p7m"));
    const order = { token: "order", messageId: "<order@a.example>", recipients: [CONTROL], subject: "recall <one@a.example>" };
    await send(place, order, () => undefined, signal);
    const [answer] = await untilMail(
      place,
      ALICE,
      (one) => one.includes("In-Reply-To: <one@a.example>") && !one.includes("multipart/report"),
    );
    expect(String(answer)).toMatch(/bob@b\.example\s+recalled at .*never released/u);
    await place.b.restart();
    await untilMail(place, BOB, (one) => one.includes("In-Reply-To: <one@a.example>"));
    const unknown = { token: "again", messageId: "<again@a.example>", recipients: [CONTROL], subject: "recall <nobody@a.example>" };
    await send(place, unknown, () => undefined, signal);
    const [no] = await untilMail(place, ALICE, (one) => one.includes("In-Reply-To: <again@a.example>"));
    expect(String(no)).toContain("<nobody@a.example>");
    expect(kakitome(["recall", "<nobody@a.example>", "--config", place.a.config]).status).toBe(1);
  }, 60_000);
});
