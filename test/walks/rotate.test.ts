/** The broker's own keys made anew while it runs: a letter from before opens, the gateways stay connected, and receipts of both keys hold. */
import { spawnSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { connect } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { canRunPostfix } from "../servers/postfix.ts";
import { kakitome, must } from "./kakitome.ts";
import { ALICE, BOB, passwordOf, startPlace, untilMail, type Place } from "./place.ts";

const suite = canRunPostfix ? describe : describe.skip;
if (!canRunPostfix) console.log("skipped: Postfix runs as root only");

suite("rotation of the broker's keys", () => {
  let place: Place;
  beforeAll(async () => {
    place = await startPlace();
  }, 60_000);
  afterAll(() => place?.stop());

  const send = (name: string): void => {
    const auth = ["--auth", "PLAIN", "--auth-user", ALICE, "--auth-password", passwordOf(ALICE), "-tls"];
    const server = ["--server", "127.0.0.1", "--port", String(place.a.smtpPort), "--from", ALICE, "--to", BOB];
    const sent = spawnSync("swaks", [...server, ...auth, "--header", `Message-Id: <${name}@a.example>`], { encoding: "utf8" });
    expect([sent.status, sent.stdout]).toEqual([0, expect.stringContaining("250 2.0.0 Accepted")]);
  };
  const receipt = async (name: string): Promise<Buffer> => {
    const [mail] = await untilMail(
      place,
      ALICE,
      (one) => one.includes("multipart/report") && one.includes(`In-Reply-To: <${name}@a.example>`),
    );
    return mail ?? Buffer.alloc(0);
  };
  const shown = (): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connect({ host: "127.0.0.1", port: Number(new URL(place.broker.url).port), rejectUnauthorized: false }, () => {
        resolve(socket.getPeerX509Certificate()?.fingerprint256 ?? "");
        socket.destroy();
      }).on("error", reject);
    });

  test("server, signing and session key in a row: the running broker takes each, and no letter notices", async () => {
    const data = join(place.broker.config, "..", "data");
    send("first");
    const early = await receipt("first");
    await place.b.process.stop();
    send("before"); // its ticket is sealed to the former session key, and waits
    await place.a.process.until("the letter's leaving", ({ event }) => event === "letter.announced");
    const before = await shown();
    for (const which of ["server", "signing", "session"]) {
      expect(must(["broker", "rotate", which, "--config", place.broker.config])).toContain("The running broker uses it now.");
    }
    expect(await shown()).not.toBe(before);
    expect(await shown()).toBe(new X509Certificate(readFileSync(join(data, "server.crt.pem"))).fingerprint256);
    send("after");
    await place.b.restart();
    const later = [await receipt("before"), await receipt("after")];
    for (const [at, mail] of [early, ...later].entries()) {
      const file = join(place.folder, `receipt${at}.eml`);
      writeFileSync(file, mail);
      const verdict = kakitome(["verify", file, "--ca", join(data, "ca.pem")]);
      expect(verdict.stdout).toMatch(/^(?:ok|good) /mu);
      expect(verdict.stdout).not.toMatch(/^bad /mu);
    }
    expect(kakitome(["doctor", "--config", place.broker.config]).stdout).toMatch(/All well\.$/mu);
  }, 120_000);
});
