/** The gateway as after-queue content filter of a stock Postfix, with the lines of docs/install-postfix.md. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { parse } from "yaml";
import { startHop, type Hop } from "../gateway/hop.ts";
import { Talk } from "../gateway/talk.ts";
import { freePort } from "../servers/ports.ts";
import { canRunPostfix } from "../servers/postfix.ts";
import { pageOf } from "./page.ts";
import { ALICE, BOB, CAROL, DAVE, passwordOf, startPlace, untilMail, type Place } from "./place.ts";

const suite = canRunPostfix ? describe : describe.skip;
if (!canRunPostfix) console.log("skipped: Postfix runs as root only");

const block = pageOf("install-postfix.md");

suite("behind Postfix, configured as the page says", () => {
  let place: Place;
  let far: Hop;
  let submission: number;

  beforeAll(async () => {
    far = await startHop();
    const [filter, reinjection] = [await freePort(), await freePort()];
    submission = await freePort();
    const gateway = parse(block("gateway.yaml", { "127.0.0.1:10025": `127.0.0.1:${filter}`, "10026": String(reinjection) })) as object;
    place = await startPlace({
      a: gateway,
      postfix: { transport_maps: `inline:{{${CAROL}=smtp:[127.0.0.1]:${far.port}}}` },
      services: ({ ca, folder, saslPort }) => ({
        main: block("main.cf", {
          "private/auth": `inet:127.0.0.1:${saslPort}`,
          "/etc/ssl/certs/mail.pem": ca,
          "/etc/ssl/private/mail.key": join(folder, "tls.key"),
        }),
        services: block("master.cf", {
          "submission inet": `127.0.0.1:${submission} inet`,
          "127.0.0.1]:10025": `127.0.0.1]:${filter}`,
          "127.0.0.1:10026": `127.0.0.1:${reinjection}`,
        }),
      }),
    });
  }, 60_000);
  afterAll(async () => {
    await place?.stop();
    await far?.close();
  });

  async function enter(user: string): Promise<Talk> {
    const talk = await Talk.open(submission);
    await talk.say("EHLO client.a.example");
    await talk.secure(readFileSync(place.dovecot.ca, "utf8"));
    expect(await talk.login(user, passwordOf(user))).toMatch(/^235 /u);
    return talk;
  }

  async function send(user: string, from: string, to: string, subject: string, parameters = { mail: "", rcpt: "" }): Promise<void> {
    const talk = await enter(user);
    expect(await talk.say(`MAIL FROM:<${from}>${parameters.mail}`)).toMatch(/^250 /u);
    expect(await talk.say(`RCPT TO:<${to}>${parameters.rcpt}`)).toMatch(/^250 /u);
    const header = `From: ${user}\r\nTo: ${to}\r\nSubject: ${subject}\r\nMessage-Id: <${subject.replaceAll(" ", ".")}@a.example>`;
    expect(await talk.data(`${header}\r\n\r\nThe text of the mail.\r\n`)).toMatch(/^250 /u);
    talk.close();
  }

  const holds =
    (...words: string[]) =>
    (mail: Buffer): boolean =>
      words.every((word) => mail.includes(word));

  test("a mail goes in at 587, is sealed, comes back, is delivered, opened by Bob, and Alice has the receipt; both smtpd name the same client", async () => {
    const server = ["--server", "127.0.0.1", "--port", String(submission), "--local-interface", "127.0.0.7", "-tls", "--suppress-data"];
    const auth = ["--auth", "PLAIN", "--auth-user", ALICE, "--auth-password", passwordOf(ALICE)];
    const letter = ["--from", ALICE, "--to", BOB, "--header", "Subject: by the filter", "--header", "Message-Id: <filter@a.example>"];
    const { status, stdout } = spawnSync("swaks", [...server, ...auth, ...letter], { encoding: "utf8" });
    expect({ status, stdout }).toMatchObject({ status: 0 });
    const [opened] = await untilMail(place, BOB, holds("Subject: by the filter", "Kakitome-Session"));
    expect(String(opened)).toMatch(/smime=pass/u);
    await untilMail(place, ALICE, holds("evidence.p7m", "<filter@a.example>"));
    expect(place.postfix.log()).toMatch(
      /postfix\/kakitome\/smtpd\[\d+\]: \w+: client=\S+, orig_queue_id=\w+, orig_client=unknown\[127\.0\.0\.7\]/u,
    );
  });

  test("RET, ENVID, NOTIFY and ORCPT are what the far end sees, decoded and encoded once", async () => {
    const seen = far.attempts.all.length;
    await send(ALICE, ALICE, CAROL, "with conditions", {
      mail: " RET=HDRS ENVID=QQ+2B314",
      rcpt: ` NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;car+2Bol@b.example`,
    });
    await far.attempts.until(() => true, seen + 1);
    const attempt = far.attempts.all.at(-1);
    expect(attempt?.mailParameters).toMatchObject({ RET: "HDRS", ENVID: "QQ+314" });
    expect(attempt?.dsn).toEqual({ notify: ["SUCCESS", "FAILURE"], orcpt: "rfc822;car+ol@b.example" });
    expect(String(attempt?.mail)).toContain("registered.p7m");
  });

  test("a user who has no mailbox at the gateway sends through it as before, with the conditions", async () => {
    const seen = far.attempts.all.length;
    await send(DAVE, DAVE, CAROL, "not registered", { mail: " RET=FULL ENVID=x1", rcpt: " NOTIFY=NEVER" });
    await far.attempts.until(() => true, seen + 1);
    const attempt = far.attempts.all.at(-1);
    expect(attempt).toMatchObject({ from: DAVE, mailParameters: { RET: "FULL", ENVID: "x1" }, dsn: { notify: ["NEVER"] } });
    expect(String(attempt?.mail)).toContain("The text of the mail.");
  });

  test("a mail without a reverse-path goes through", async () => {
    const seen = far.attempts.all.length;
    await send(ALICE, "", CAROL, "a read receipt");
    await far.attempts.until(() => true, seen + 1);
    expect(far.attempts.all.at(-1)).toMatchObject({ from: "" });
  });

  test("nobody sends as Alice who is not logged in as Alice", async () => {
    const talk = await enter(DAVE);
    await talk.say(`MAIL FROM:<${ALICE}>`);
    expect(await talk.say(`RCPT TO:<${BOB}>`)).toMatch(/^553 5\.7\.1 .*not owned by user/u);
    talk.close();
  });

  test("what the gateway refuses comes back to its sender with the gateway's words", async () => {
    await send(ALICE, ALICE, "erin@b.example", "to nobody");
    const [notice] = await untilMail(place, ALICE, holds("erin@b.example", "Undelivered"));
    expect(String(notice).replaceAll(/\s+/gu, " ")).toMatch(/erin@b\.example.* (?:not enrolled|cannot receive registered)/u);
  });
});
