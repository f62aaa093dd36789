/** What an administrator sees of a letter that travels: one name in all three logs, counters, readiness; and of a part that is down, which one and why. */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { letterOf } from "../../config/log.ts";
import { freePort } from "../servers/ports.ts";
import { canRunPostfix } from "../servers/postfix.ts";
import { kakitome, type LogLine, type Process } from "./kakitome.ts";
import { ALICE, BOB, passwordOf, startPlace, type Place } from "./place.ts";

const suite = canRunPostfix ? describe : describe.skip;
if (!canRunPostfix) console.log("skipped: Postfix runs as root only");

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly text: string;
}

function ask(port: number, path: string, method = "GET"): Promise<Answer> {
  return new Promise((resolve, reject) => {
    request({ host: "127.0.0.1", port, path, method, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, type: response.headers["content-type"] ?? "", text }));
    })
      .on("error", reject)
      .end();
  });
}

/** The value of a metric, by its name and labels as they stand in the text. */
async function valueOf(port: number, series: string): Promise<number> {
  const { text } = await ask(port, "/metrics");
  const line = text.split("\n").find((one) => one.startsWith(`${series} `));
  return Number(line?.slice(series.length + 1));
}

const DAY_S = 86_400;

/** Lines that are about some letter. */
const isAboutLetter = ({ event = "" }: LogLine): boolean => /^(?:letter|relay|receipt|session)\./u.test(event);

suite("watching", () => {
  let place: Place;
  let ports: { a: number; b: number; broker: number };

  beforeAll(async () => {
    ports = { a: await freePort(), b: await freePort(), broker: await freePort() };
    const health = (port: number) => ({ health: { listen: `127.0.0.1:${port}` } });
    place = await startPlace({ a: health(ports.a), b: health(ports.b), broker: health(ports.broker) });
  }, 60_000);
  afterAll(() => place?.stop());

  const send = (id: string): void => {
    const auth = ["--auth", "PLAIN", "--auth-user", ALICE, "--auth-password", passwordOf(ALICE), "-tls"];
    const server = ["--server", "127.0.0.1", "--port", String(place.a.smtpPort), "--from", ALICE, "--to", BOB];
    expect(spawnSync("swaks", [...server, ...auth, "--header", `Message-Id: ${id}`], { encoding: "utf8" }).status).toBe(0);
  };
  const processes = (): readonly Process[] => [place.a.process, place.b.process, place.broker.process];

  test("everything lives and is ready, and says of what it depends on", async () => {
    for (const port of Object.values(ports)) expect(await ask(port, "/livez")).toMatchObject({ status: 200, text: '{"alive":true}\n' });
    for (const config of [place.a.config, place.b.config, place.broker.config]) {
      const { status, stdout } = kakitome(["readyz", "--config", config, "--wait", "10s"]);
      expect([status, stdout]).toEqual([0, expect.not.stringContaining("✗")]);
    }
    const { text } = await ask(ports.b, "/readyz");
    const { dependencies } = JSON.parse(text) as { dependencies: { name: string; of?: string }[] };
    expect(dependencies.map(({ name, of }) => [name, of].filter(Boolean).join(" "))).toEqual([
      "broker",
      "identities gateway",
      `identities ${BOB}`,
      "identities carol@b.example",
      "spool",
      "next-hop",
      `imap ${BOB}`,
      "imap carol@b.example",
    ]);
  });

  test("a letter has one name in every line about it, at both gateways and the broker", async () => {
    const id = "<one-name@a.example>";
    send(id);
    await place.a.process.until("the receipt", ({ event }) => event === "receipt.verified");
    await place.broker.process.until("the receipt's end", ({ event }) => event === "receipt.sent");
    const lines = processes().map(({ lines }) => lines.filter((line) => isAboutLetter(line)));
    for (const some of lines) expect(some.length).toBeGreaterThan(2);
    expect(lines.flat().filter(({ letter }) => letter !== letterOf(id))).toEqual([]);
    const sessions = new Set(lines.flat().flatMap(({ session }) => (session === undefined ? [] : [session])));
    expect(sessions.size).toBe(1);
  });

  test("is counted by what became of it, and how long that took; no label holds an address", async () => {
    expect(await valueOf(ports.a, 'kakitome_letters_sent_total{state="accepted"}')).toBe(1);
    expect(await valueOf(ports.a, 'kakitome_letters_sent_total{state="relayed"}')).toBe(1);
    expect(await valueOf(ports.a, 'kakitome_letters_sent_total{state="opened"}')).toBe(1);
    expect(await valueOf(ports.a, "kakitome_letter_receipt_seconds_count")).toBe(1);
    expect(await valueOf(ports.a, 'kakitome_letter_opened_seconds_bucket{le="60"}')).toBe(1);
    expect(await valueOf(ports.b, 'kakitome_letters_received_total{state="confirmed"}')).toBe(1);
    expect(await valueOf(ports.b, 'kakitome_watchers{state="connected"}')).toBe(2);
    expect(await valueOf(ports.broker, 'kakitome_key_releases_total{again="no"}')).toBe(1);
    expect(await valueOf(ports.broker, 'kakitome_sessions_total{step="confirmed"}')).toBe(1);
    expect(await valueOf(ports.broker, 'kakitome_certificate_left_seconds{certificate="server"}')).toBeGreaterThan(1_800 * DAY_S);
    expect(await valueOf(ports.b, 'kakitome_certificate_left_seconds{certificate="mailbox"}')).toBeGreaterThan(360 * DAY_S);
    for (const port of Object.values(ports)) {
      const { text, type } = await ask(port, "/metrics");
      expect(type).toMatch(/^text\/plain; version=0\.0\.4/u);
      expect(text).not.toContain("@");
      const { stderr } = spawnSync("promtool", ["check", "metrics"], { input: text, encoding: "utf8" });
      expect(stderr).not.toMatch(/kakitome_|error/u); // of Node's own names it has an opinion
    }
  });

  test("takes no orders and knows three places", async () => {
    expect((await ask(ports.a, "/")).status).toBe(404);
    expect((await ask(ports.a, "/livez", "POST")).status).toBe(405);
  });

  test("with the mail server down, readiness names the mailbox and its server's words, exit 3; and is ready again by itself", async () => {
    await place.dovecot.stop();
    await place.b.process.until("the broken line", (line) => line.event === "mailbox.waits" && line["mailbox"] === BOB);
    const { status, stdout } = kakitome(["readyz", "--config", place.b.config]);
    expect(status).toBe(3);
    expect(stdout).toMatch(/✗ imap bob@b\.example: .*(?:ended|cannot be opened)/u);
    expect((await ask(ports.b, "/readyz")).status).toBe(503);
    expect((await ask(ports.b, "/readyz?dependency=broker")).status).toBe(200);
    expect(await valueOf(ports.b, 'kakitome_dependency_ready{dependency="imap"}')).toBe(0);
    await place.dovecot.restart();
    expect(kakitome(["readyz", "--config", place.b.config, "--wait", "30s"]).status).toBe(0);
    expect(await valueOf(ports.b, "kakitome_watcher_breaks_total")).toBeGreaterThan(0);
  }, 60_000);

  test("with Redis down the broker and its gateways say so, each in its words", async () => {
    await place.redis.stop();
    expect(kakitome(["readyz", "--config", place.broker.config]).stdout).toMatch(/✗ table: /u);
    expect(kakitome(["readyz", "--config", place.a.config]).stdout).toMatch(/✗ broker: /u);
    await place.redis.restart();
    expect(kakitome(["readyz", "--config", place.a.config, "--wait", "30s"]).status).toBe(0);
  }, 60_000);

  test("of a process that does not run readyz says so, exit 4; of one without a health listener what to write", async () => {
    await place.a.process.stop();
    expect(kakitome(["readyz", "--config", place.a.config])).toMatchObject({
      status: 4,
      stderr: expect.stringContaining("nobody answers"),
    });
    const file = join(place.folder, "silent.yaml");
    writeFileSync(file, readFileSync(place.a.config, "utf8").replace(/^health:\n.*\n/mu, ""));
    const { status, stderr } = kakitome(["readyz", "--config", file]);
    expect([status, stderr]).toEqual([1, expect.stringContaining('write health: { listen: "127.0.0.1:9464" } and restart')]);
  });
});
