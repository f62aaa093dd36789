/** A registered letter travels the whole way on real servers (S0-S11). */
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { canRunPostfix } from "../servers/postfix.ts";
import { kakitome, must } from "./kakitome.ts";
import { ALICE, BOB, CAROL, mailsIn, passwordOf, startPlace, untilMail, type Place } from "./place.ts";

const suite = canRunPostfix ? describe : describe.skip;
if (!canRunPostfix) console.log("skipped: Postfix runs as root only");

/** Sends as any mail client would. @returns the transcript */
function swaks(
  place: Place,
  args: readonly string[],
  options: { user?: string; password?: string; tls?: boolean } = {},
): { status: number | null; text: string } {
  const { user = ALICE, password = passwordOf(user), tls = true } = options;
  const auth = ["--auth", "PLAIN", "--auth-user", user, "--auth-password", password];
  const server = ["--server", "127.0.0.1", "--port", String(place.a.smtpPort), "--helo", "client.a.example", "--suppress-data"];
  const { status, stdout, stderr } = spawnSync("swaks", [...server, ...(tls ? ["-tls"] : []), ...auth, ...args], { encoding: "utf8" });
  return { status, text: stdout + stderr };
}

const opened =
  (subject: string) =>
  (mail: Buffer): boolean =>
    mail.includes("Kakitome-Session: ") && mail.includes(`Subject: ${subject}`);
const receiptFor =
  (messageId: string) =>
  (mail: Buffer): boolean =>
    mail.includes("multipart/report") && mail.includes(`In-Reply-To: ${messageId}`);

suite("a registered letter on real servers", () => {
  let place: Place;
  beforeAll(async () => {
    place = await startPlace({ largest: "2MiB" });
  });
  afterAll(() => place?.stop());

  test("from swaks by Postfix to Bob's Dovecot mailbox, and its receipt back to Alice, which stock OpenSSL verifies", async () => {
    const id = "<whole-way@a.example>";
    const sent = swaks(place, [
      "--from",
      ALICE,
      "--to",
      BOB,
      "--header",
      "Subject: whole way",
      "--header",
      `Message-Id: ${id}`,
      "--body",
      "The text of the letter.",
    ]);
    expect(sent.text).toMatch(/<~  250 2\.0\.0 Accepted as [0-9a-f]{24}/u);
    const [letter] = await untilMail(place, BOB, opened("whole way"));
    expect(String(letter)).toContain("The text of the letter.");
    expect(String(letter)).toMatch(/^Authentication-Results: gateway\.b\.example; smime=pass/mu);
    const [receipt] = await untilMail(place, ALICE, receiptFor(id));
    const file = join(place.folder, "receipt.eml");
    writeFileSync(file, receipt ?? "");
    const ca = join(place.folder, "broker", "data", "ca.pem");
    const verified = spawnSync("openssl", ["cms", "-verify", "-in", file, "-CAfile", ca, "-verify_email", "receipts@broker.example"], {
      encoding: "utf8",
    });
    expect(verified.stderr).toContain("CMS Verification successful");
    await place.a.process.until("receipt.verified", (line) => line.event === "receipt.verified");
    const status = JSON.parse(must(["status", id, "--config", place.a.config, "--json"])) as {
      sent: { recipients: { state: string; receipt: string }[] }[];
    };
    expect(status.sent[0]?.recipients[0]?.state).toBe("opened");
    expect(readFileSync(status.sent[0]?.recipients[0]?.receipt ?? "").equals(receipt ?? Buffer.alloc(0))).toBe(true);
  });

  test("the sealed original is gone from Bob's mailbox, and it never showed the subject or the text", async () => {
    const mails = await mailsIn(place, BOB);
    expect(mails.filter((mail) => mail.includes("registered.p7m"))).toEqual([]);
    expect(place.postfix.log()).not.toContain("whole way");
  });

  test("to two recipients it is two sessions, two copies, two receipts", async () => {
    const id = "<two@a.example>";
    swaks(place, ["--from", ALICE, "--to", `${BOB},${CAROL}`, "--header", "Subject: for two", "--header", `Message-Id: ${id}`]);
    await Promise.all([untilMail(place, BOB, opened("for two")), untilMail(place, CAROL, opened("for two"))]);
    await untilMail(place, ALICE, receiptFor(id), { count: 2 });
    const status = JSON.parse(must(["status", id, "--config", place.a.config, "--json"])) as {
      sent: { recipients: { session: string }[] }[];
    };
    expect(new Set(status.sent[0]?.recipients.map(({ session }) => session)).size).toBe(2);
  });

  test("a blind recipient opens the letter, and no other copy names that recipient", async () => {
    swaks(place, ["--from", ALICE, "--to", `${BOB},${CAROL}`, "--header", `To: ${BOB}`, "--header", "Subject: in confidence"]);
    const [toBob] = await untilMail(place, BOB, opened("in confidence"));
    const [toCarol] = await untilMail(place, CAROL, opened("in confidence"));
    expect(String(toBob)).not.toContain(CAROL);
    expect(String(toCarol)).toContain(`Bcc: ${CAROL}`);
  });

  test("s-nail as a mail client over implicit TLS is accepted and its letter delivered", async () => {
    const settings = [
      "-S",
      "v15-compat",
      "-S",
      `mta=smtps://${encodeURIComponent(ALICE)}:${passwordOf(ALICE)}@localhost:${place.a.smtpsPort}`,
      "-S",
      "smtp-auth=plain",
      "-S",
      `tls-ca-file=${place.doorCa}`,
      "-S",
      "tls-ca-no-defaults",
      "-S",
      `from=${ALICE}`,
      "-S",
      "hostname=a.example",
    ];
    execFileSync("s-nail", ["-:/", ...settings, "-s", "from s-nail", BOB], {
      input: "Hello from a mail client.\n",
      env: { ...process.env, HOME: place.folder },
    });
    const [letter] = await untilMail(place, BOB, opened("from s-nail"));
    expect(String(letter)).toContain("Hello from a mail client.");
  });

  test.each([
    ["a wrong password", ["--from", ALICE, "--to", BOB], { password: "wrong-secret" }, /535 5\.7\.8 User name or password is wrong/u],
    [
      "a foreign MAIL FROM",
      ["--from", "ceo@a.example", "--to", BOB],
      {},
      /550 5\.7\.1 alice@a\.example may not send as ceo@a\.example \(MAIL FROM\)/u,
    ],
    [
      "a foreign From",
      ["--from", ALICE, "--h-From", "ceo@a.example", "--to", BOB],
      {},
      /550 5\.7\.1 alice@a\.example may not send as ceo@a\.example \(From\)/u,
    ],
    [
      "an unknown recipient",
      ["--from", ALICE, "--to", "dave@nowhere.example"],
      {},
      /550 5\.7\.5 dave@nowhere\.example is not enrolled for registered mail\. Ask/u,
    ],
    ["no TLS", ["--from", ALICE, "--to", BOB], { tls: false }, /(?:530|538|AUTH|authentication)/iu],
  ] as const)("refuses with the right code and a helpful text: %s", (_why, args, options, expected) => {
    const before = readdirSync(join(place.a.data, "spool"));
    const { status, text } = swaks(place, args, options);
    expect(status).not.toBe(0);
    expect(text).toMatch(expected);
    expect(readdirSync(join(place.a.data, "spool"))).toEqual(before);
  });

  test("a message beyond the size limit is refused after DATA, and the connection goes on", () => {
    const big = join(place.folder, "big.eml");
    writeFileSync(big, `From: ${ALICE}\r\nTo: ${BOB}\r\n\r\n${"x".repeat(70)}\r\n`.padEnd(3 << 20, "y\r\n"));
    const { text } = swaks(place, ["--from", ALICE, "--to", BOB, "--data", `@${big}`]);
    expect(text).toMatch(/552 5\.3\.4 The message is larger than 2097152 octets/u);
  });

  test("a sealed letter from a stranger stays where it is, is flagged, and no mail goes out", async () => {
    const [sealedEarlier] = [readFileSync(join(import.meta.dirname, "..", "vectors", "stranger.eml"))];
    const file = join(place.folder, "stranger.eml");
    writeFileSync(file, sealedEarlier ?? "");
    const server = ["--server", "127.0.0.1", "--port", String(place.postfix.port), "--from", "mallory@a.example", "--to", CAROL];
    execFileSync("swaks", [...server, "--data", `@${file}`]);
    await place.b.process.until("letter.not-opened", (line) => line.event === "letter.not-opened");
    const kept = (await mailsIn(place, CAROL)).filter((mail) => mail.includes("registered.p7m"));
    expect(kept).toHaveLength(1);
    expect(place.postfix.log()).not.toContain("to=<mallory@a.example>");
    const { stdout } = kakitome(["status", "--config", place.b.config]);
    expect(stdout).toMatch(/not opened {2}carol@b\.example/u);
  });

  test("Redis holds no key in the clear, no text and no session ID; after the confirmation no wrapped key either", async () => {
    const rows = place.redis.cli("--scan", "--pattern", "*row:*").trim().split("\n").filter(Boolean);
    expect(rows.length).toBeGreaterThan(3);
    for (const row of rows) {
      const fields = place.redis.cli("hgetall", row);
      expect(fields).toContain("confirmed");
      expect(fields).not.toContain("wrappedKey");
      expect(fields).not.toContain("nextTicket");
    }
    const dump = readdirSync(place.redis.folder, { recursive: true, encoding: "utf8" })
      .filter((name) => name.includes("appendonly") || name.endsWith(".rdb"))
      .flatMap((name) => {
        try {
          return [readFileSync(join(place.redis.folder, name), "latin1")];
        } catch {
          return [];
        }
      })
      .join("");
    expect(dump.length).toBeGreaterThan(1_000);
    expect(dump).not.toContain("The text of the letter.");
    expect(dump).not.toContain("whole way");
  });

  test("with the broker stopped the client keeps its letter: 451, and nothing goes out", async () => {
    await place.broker.process.stop();
    const before = place.postfix.log().length;
    const { text } = swaks(place, ["--from", ALICE, "--to", "erin@b.example"]);
    expect(text).toMatch(/451 4\.4\.1 The broker cannot be reached; the letter was not accepted, try again later/u);
    const known = swaks(place, ["--from", ALICE, "--to", BOB]);
    expect(known.text).toMatch(/451 4\.4\.1/u);
    expect(place.postfix.log().slice(before)).not.toContain("b.example");
    await place.broker.restart();
    swaks(place, ["--from", ALICE, "--to", BOB, "--header", "Subject: broker is back"]);
    await untilMail(place, BOB, opened("broker is back"));
  });
});
