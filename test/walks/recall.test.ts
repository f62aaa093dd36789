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
const TEXT = "The text of the letter: three";

suite("a letter to three recipients", () => {
  let place: Place;
  beforeAll(async () => {
    place = await startPlace({ recipients: [BOB, CAROL, DAVE] });
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

    const late = kakitome(["recall", MESSAGE_ID, "--to", BOB, "--config", place.a.config]);
    expect(late.stdout).toMatch(/^bob@b\.example: too late/mu);
    expect(late.status).toBe(3);
  }, 120_000);
});
