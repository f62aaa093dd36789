/** Five hundred real mails through the whole walk: what the recipient gets is what was sent, after CRLF canonicalisation and nothing else. */
import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { createTransport } from "nodemailer";
import { toCrlf } from "../../mime/entity.ts";
import { field, joinMessage, splitMessage, type HeaderField } from "../../mime/headers.ts";
import { canRunPostfix } from "../servers/postfix.ts";
import { ALICE, BOB, CAROL, passwordOf, startPlace, untilMail, type Place } from "./place.ts";

const CORPORA = process.env["KAKITOME_CORPORA"] ?? join(import.meta.dirname, "..", "..", "..", "shared", "corpora");
const WANTED = 500;
const runs = canRunPostfix && existsSync(CORPORA);
if (!runs) console.log(`skipped: ${canRunPostfix ? `no mail corpora at ${CORPORA}` : "Postfix runs as root only"}`);

/** Fields that say who writes to whom; the sender's gateway refuses foreign ones, so they are Alice's and Bob's here. */
const REPLACED = new Set(["from", "to", "cc", "bcc", "sender", "resent-from", "resent-sender", "message-id", "return-path", "date"]);

interface Mail {
  readonly name: string;
  readonly recipient: string;
  readonly bytes: Buffer;
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? filesBelow(path) : [path];
  });
}

/** Whether a file of the corpora is a mail: it begins with header fields. Expected outputs and parts cut out of mails are not. */
function isMail(path: string, bytes: Buffer): boolean {
  if (/_decoded_|\.(?:xml|json|bin|png|jpg|pdf|zip)$/u.test(path)) return false;
  return /^(?:From .*\r?\n)?(?:[!-9;-~]+[ \t]*:.*\r?\n(?:[ \t].*\r?\n)*){2}/u.test(bytes.subarray(0, 8_192).toString("latin1"));
}

function collect(): { mails: Mail[]; left: string[] } {
  const left: string[] = [];
  const mails: Mail[] = [];
  const sets = ["cpython-test-email", "thunderbird-smime", "mikel-mail", "rfc4134-bc", "nss-smime", "james-mime4j"];
  for (const path of sets.flatMap((name) => filesBelow(join(CORPORA, name)))) {
    if (mails.length === WANTED) break;
    const raw = readFileSync(path);
    const name = path.slice(CORPORA.length + 1);
    if (!isMail(path, raw)) continue;
    if (raw.includes(0)) left.push(`${name}: holds a NUL octet, which SMTP has no way to carry (RFC 5321 §4.1.1.4)`);
    else mails.push(dressed(name, raw, mails.length));
  }
  return { mails, left };
}

function dressed(name: string, raw: Buffer, index: number): Mail {
  const { fields, body } = splitMessage(toCrlf(raw));
  const recipient = index % 2 === 0 ? BOB : CAROL;
  const own = [
    field("From", ALICE),
    field("To", recipient),
    field("Date", "Mon, 23 Nov 2026 12:00:00 +0000"),
    field("Message-ID", `<corpus-${index}@a.example>`),
  ];
  const mail = joinMessage([...own, ...fields.filter((item) => !REPLACED.has(item.name))], body);
  return { name, recipient, bytes: mail.subarray(-2).toString() === "\r\n" ? mail : Buffer.concat([mail, Buffer.from("\r\n")]) };
}

/** The delivered letter without what Bob's gateway put on top. */
function withoutResults(mail: Buffer): Buffer {
  const { fields, body } = splitMessage(mail);
  const isOurs = ({ name, raw }: HeaderField): boolean =>
    name === "kakitome-session" || name === "kakitome-filing" || (name === "authentication-results" && raw.includes("gateway.b.example"));
  return joinMessage(
    fields.filter((item) => !isOurs(item)),
    body,
  );
}

(runs ? describe : describe.skip)("a corpus of real mails", () => {
  let place: Place;
  beforeAll(async () => {
    place = await startPlace({ mailbox: { deliver: "plain" } });
  });
  afterAll(() => place?.stop());

  test("every mail that SMTP can carry comes out of the walk byte for byte as it went in", async () => {
    const { mails, left } = collect();
    if (left.length > 0) console.log(`${left.length} files cannot be carried:\n${left.join("\n")}`);
    expect(mails).toHaveLength(WANTED);
    const client = createTransport({
      host: "127.0.0.1",
      port: place.a.smtpsPort,
      secure: true,
      pool: true,
      maxConnections: 5,
      maxMessages: 1_000,
      tls: { ca: readFileSync(place.doorCa) },
      auth: { user: ALICE, pass: passwordOf(ALICE) },
    });
    const refused: string[] = [];
    await Promise.all(
      mails.map(({ name, recipient, bytes }) =>
        client
          .sendMail({ envelope: { from: ALICE, to: recipient, use8BitMime: true }, raw: bytes })
          .catch((thrown: unknown) => refused.push(`${name}: ${String(thrown)}`)),
      ),
    );
    client.close();
    expect(refused).toEqual([]);
    const isOpened = (mail: Buffer): boolean => mail.includes("Kakitome-Session: ");
    const byId = new Map<string, Buffer>();
    for (const user of [BOB, CAROL]) {
      const count = mails.filter(({ recipient }) => recipient === user).length;
      for (const mail of await untilMail(place, user, isOpened, { count, timeout: 240_000 })) {
        byId.set(/^Message-ID: (<corpus-\d+@a\.example>)/mu.exec(mail.toString("latin1"))?.[1] ?? "", withoutResults(mail));
      }
    }
    const different = mails.filter(({ bytes }, index) => !byId.get(`<corpus-${index}@a.example>`)?.equals(bytes)).map(({ name }) => name);
    expect(different).toEqual([]);
    await untilMail(place, ALICE, (mail) => mail.includes("multipart/report"), { count: WANTED, timeout: 120_000 });
  }, 480_000);
});
