/** SIGHUP and `kakitome reload` on running processes: a broken file changes nothing and is named, a good one counts at once, and no connection is dropped. */
import { execFileSync, spawnSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { connect as connectPlain, type Socket } from "node:net";
import { join } from "node:path";
import { connect } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { parse, stringify } from "yaml";
import { canRunPostfix } from "../servers/postfix.ts";
import { kakitome, must } from "./kakitome.ts";
import { ALICE, BOB, passwordOf, startPlace, untilMail, type Place } from "./place.ts";

const suite = canRunPostfix ? describe : describe.skip;
if (!canRunPostfix) console.log("skipped: Postfix runs as root only");

/** A conversation in lines. */
class Line {
  readonly #socket: Socket;
  #heard = "";
  #wake: () => void = () => undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("utf8").on("data", (text: string) => {
      this.#heard += text;
      this.#wake();
    });
    socket.on("close", () => this.#wake()).on("error", () => this.#wake());
  }

  get isOpen(): boolean {
    return !this.#socket.destroyed;
  }

  async ask(command: string, answer: RegExp): Promise<string> {
    this.#heard = "";
    if (command !== "") this.#socket.write(`${command}\r\n`);
    while (!answer.test(this.#heard)) {
      if (!this.isOpen) throw new Error(`closed after ${command}: ${this.#heard}`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    return this.#heard;
  }

  end(): void {
    this.#socket.destroy();
  }
}

/** The fingerprint of the certificate that a TLS server shows. */
function shownAt(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false }, () => {
      resolve(socket.getPeerX509Certificate()?.fingerprint256 ?? "");
      socket.destroy();
    }).on("error", reject);
  });
}

const fingerprintOf = (path: string): string => new X509Certificate(readFileSync(path)).fingerprint256;

suite("a reload", () => {
  let place: Place;
  beforeAll(async () => {
    place = await startPlace();
  }, 60_000);
  afterAll(() => place?.stop());

  const certify = (): void => {
    const [key, out] = [join(place.folder, "door.key.pem"), place.doorCa];
    const made = ["req", "-x509", "-days", "3", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key];
    execFileSync("openssl", [...made, "-out", out, "-subj", "/CN=renewed", "-addext", "subjectAltName=IP:127.0.0.1"], { stdio: "ignore" });
  };
  const change = (file: string, edit: (config: Record<string, never>) => void): void => {
    const config = parse(readFileSync(file, "utf8")) as Record<string, never>;
    edit(config);
    writeFileSync(file, stringify(config));
  };

  test("with a broken file keeps serving, and the log names file, line, column and the mend", async () => {
    const good = readFileSync(place.a.config, "utf8");
    const shown = await shownAt(place.a.smtpsPort);
    writeFileSync(place.a.config, good.replace("mailboxes:", "mailboxs:"));
    place.a.process.signal("SIGHUP");
    const line = await place.a.process.until("the mistake", ({ event }) => event === "config.mistake");
    expect(line["mistake"]).toMatch(/a\.yaml:\d+:\d+ .*(?:mailboxs|mailboxes)/u);
    await place.a.process.until("what goes on", ({ event }) => event === "config.kept");
    expect(await shownAt(place.a.smtpsPort)).toBe(shown);
    expect(kakitome(["reload", "--config", place.a.config])).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/did you mean "mailboxes"/u),
    });
    writeFileSync(place.a.config, good);
  });

  test("with a key that is not the certificate's keeps the old pair, and names both files", async () => {
    const key = join(place.folder, "door.key.pem");
    const good = readFileSync(key);
    execFileSync("openssl", ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", key]);
    const { status, stderr } = kakitome(["reload", "--config", place.a.config]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/door\.crt\.pem and .*door\.key\.pem are no pair/u);
    writeFileSync(key, good);
  });

  test("with a good one serves the new certificate and lets the new user in; a connection from before stays and sends", async () => {
    const plain = new Line(connectPlain(place.a.smtpPort, "127.0.0.1"));
    await plain.ask("", /^220 /mu);
    await plain.ask("EHLO before.example", /^250 /mu);
    const secure = new Line(connect({ host: "127.0.0.1", port: place.a.smtpsPort, rejectUnauthorized: false }));
    await secure.ask("", /^220 /mu);
    await secure.ask("EHLO before.example", /^250 /mu);
    certify();
    must(["user", "add", "second", "--identity", ALICE, "--config", place.a.config], "second-secret\n");
    const { status, stdout } = kakitome(["reload", "--config", place.a.config]);
    expect([status, stdout]).toEqual([0, "Counts now: users, the door's certificate.\n"]);
    expect(await shownAt(place.a.smtpsPort)).toBe(fingerprintOf(place.doorCa));
    expect(plain.isOpen && secure.isOpen).toBe(true);
    await plain.ask("NOOP", /^250 /mu);
    const login = Buffer.from("\0second\0second-secret").toString("base64");
    await secure.ask(`AUTH PLAIN ${login}`, /^235 /mu);
    await secure.ask(`MAIL FROM:<${ALICE}>`, /^250 /mu);
    await secure.ask(`RCPT TO:<${BOB}>`, /^250 /mu);
    await secure.ask("DATA", /^354 /mu);
    await secure.ask(`From: ${ALICE}\r\nTo: ${BOB}\r\nSubject: over the reload\r\n\r\nText.\r\n.`, /^250 2\.0\.0 Accepted/mu);
    await untilMail(place, BOB, (mail) => mail.includes("Subject: over the reload"));
    for (const line of [plain, secure]) line.end();
  });

  test("a policy counts from the next recipient on", () => {
    change(place.a.config, (config) => Object.assign(config, { policy: { rules: { "b.example": { action: "refuse" } } } }));
    must(["reload", "--config", place.a.config]);
    const auth = ["--auth", "PLAIN", "--auth-user", ALICE, "--auth-password", passwordOf(ALICE), "-tls"];
    const server = ["--server", "127.0.0.1", "--port", String(place.a.smtpPort), "--from", ALICE, "--to", BOB];
    expect(spawnSync("swaks", [...server, ...auth], { encoding: "utf8" }).stdout).toMatch(
      /550 5\.7\.1 The policy of this gateway sends no mail/u,
    );
    change(place.a.config, (config) => Reflect.deleteProperty(config, "policy"));
    must(["reload", "--config", place.a.config]);
  });

  test("what needs a restart is named, each time until it is done, exit 3", () => {
    change(place.a.config, (config) => Object.assign(config, { name: "other.a.example" }));
    for (let times = 0; times < 2; times++) {
      const { status, stdout } = kakitome(["reload", "--config", place.a.config]);
      expect([status, stdout]).toEqual([3, expect.stringMatching(/Counts after a restart: name\./u)]);
    }
    change(place.a.config, (config) => Object.assign(config, { name: "gateway.a.example" }));
  });

  test("the broker takes new limits, and names what its data folder lacks", async () => {
    change(place.broker.config, (config) => Object.assign(config, { limits: { perAddress: { burst: 7, perSecond: 1 } } }));
    expect(must(["reload", "--config", place.broker.config])).toMatch(
      /^Counts now: limits\.perAddress\.burst, limits\.perAddress\.perSecond\.$/mu,
    );
  });

  test("of a process that does not run, says that there is nothing to reload", async () => {
    await place.b.process.stop();
    expect(kakitome(["reload", "--config", place.b.config])).toMatchObject({
      status: 1,
      stderr: expect.stringContaining("nothing to reload"),
    });
  });
});
