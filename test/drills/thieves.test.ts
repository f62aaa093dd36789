/** The thief table of SECURITY.md, row by row: who has a copy of what can read which letters, and no others. */
import { cpSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { Redis } from "ioredis";
import { localMasterKey, type MasterKey } from "../../broker/master-key.ts";
import { sessionOf } from "../../broker/table-row.ts";
import type { Opener } from "../../mime/open.ts";
import { filesWith } from "../crash/disk.ts";
import { send } from "../crash/sender.ts";
import { openSsl, type OpenSsl } from "../mime/openssl.ts";
import { canRunPostfix } from "../servers/postfix.ts";
import { temporaryFolder } from "../servers/process.ts";
import { kakitome, must } from "../walks/kakitome.ts";
import { BOB, CAROL, startPlace, untilMail, type Place } from "../walks/place.ts";
import { openersIn, read, type Loot } from "./thief.ts";

const suite = canRunPostfix ? describe : describe.skip;
if (!canRunPostfix) console.log("skipped: Postfix runs as root only");

/** Held for Bob, enclosed for Carol; of each one letter that was opened and one that waits. */
const OPENED = ["K-opened-held", "K-opened-enclosed"];
const WAITING = ["K-waiting-held", "K-waiting-enclosed"];
const ALL = [...OPENED, ...WAITING];
const ENCLOSED = ["K-opened-enclosed", "K-waiting-enclosed"];

suite("a thief of", () => {
  let place: Place;
  let ssl: OpenSsl;
  /** Every sealed mail that ever travelled. */
  const mails: Buffer[] = [];
  let [a, b, c]: [Opener[], Opener[], Opener[]] = [[], [], []];
  let rows: { readonly wrapped: Buffer; readonly unwrap: (master: MasterKey) => Buffer }[] = [];
  let master: MasterKey;

  beforeAll(async () => {
    ssl = await openSsl("thief");
    place = await startPlace({ recipients: [BOB, CAROL], a: { policy: { rules: { [CAROL]: { hold: "enclosed" } } } } });
    await place.b.process.stop();
    await post(OPENED);
    await place.b.restart();
    for (const owner of [BOB, CAROL]) await untilMail(place, owner, (mail) => mail.includes("Kakitome-Session: "));
    await place.b.process.until("both confirmations", () => confirmations() === 2);
    await place.b.process.stop();
    await post(WAITING);
    [a, b, c] = [place.a.data, place.b.data, join(place.broker.config, "..", "data")].map(openersIn) as [Opener[], Opener[], Opener[]];
    const data = join(place.broker.config, "..", "data");
    master = localMasterKey(() => [Buffer.from(readFileSync(join(data, "master.key"), "utf8").trim(), "hex")], join(data, "days"));
    rows = await rowsWithKeys();
  }, 120_000);
  afterAll(() => place?.stop());

  const confirmations = (): number => place.b.process.lines.filter(({ event }) => event === "letter.confirmed").length;

  /** Sends one letter to Bob and one to Carol, and keeps what lies in their mailboxes sealed. */
  async function post(words: readonly string[]): Promise<void> {
    for (const [at, recipient] of [BOB, CAROL].entries()) {
      const word = words[at] ?? "";
      const messageId = `<letter-${mails.length}@a.example>`; // no secret
      await send(place, { token: word, messageId, recipients: [recipient] }, () => undefined, AbortSignal.timeout(20_000));
      mails.push(...(await untilMail(place, recipient, (mail) => mail.includes(messageId) && mail.includes("pkcs7-mime"))));
    }
  }

  async function rowsWithKeys(): Promise<typeof rows> {
    const redis = new Redis(place.redis.url);
    const names = await redis.keys("kakitome:row:*");
    const all = await Promise.all(
      names.map(async (name) => ({ ...(await redis.hgetallBuffer(name)), session: name.slice(name.lastIndexOf(":") + 1) })),
    );
    redis.disconnect();
    return all.map(sessionOf).flatMap((row) =>
      "wrappedKey" in row && row.wrappedKey.length > 32 // of the enclosed form the broker keeps no key
        ? [{ wrapped: row.wrappedKey, unwrap: (by: MasterKey) => by.unwrap(row.wrappedKey, row).lend((key) => Buffer.from(key)) }]
        : [],
    );
  }

  const steals = (loot: Omit<Loot, "mails">): string[] => read({ mails, ...loot }, ssl, ALL);
  const kcs = (): Buffer[] => rows.map(({ unwrap }) => unwrap(master));

  test("all mail that ever travelled, with every private key but the recipients' own, reads nothing", () => {
    expect(mails).toHaveLength(4);
    expect(steals({ openers: [...a, ...c] })).toEqual([]);
    expect(filesWith([place.postfix.folder], ...ALL)).toEqual([]);
  });

  test("that and the recipients' private keys reads enclosed letters, and no held one, opened or waiting", () => {
    expect(b.length).toBeGreaterThan(3);
    expect(steals({ openers: b }).sort()).toEqual([...ENCLOSED].sort());
  });

  test("that and the session table without its master key reads no held letter; no key stands in the table's files", () => {
    expect(rows.length).toBeGreaterThan(0);
    const pieces = rows.flatMap(({ wrapped }) => [wrapped.subarray(0, 32), wrapped.subarray(12, 44), wrapped.subarray(-32)]);
    expect(steals({ openers: b, keys: pieces }).sort()).toEqual([...ENCLOSED].sort());
    place.redis.cli("SAVE");
    expect(filesWith([place.redis.folder], ...kcs(), ...ALL)).toEqual([]);
    expect(filesWith([place.redis.folder], rows[0]?.wrapped ?? "")).not.toEqual([]); // the search finds what is there
  });

  test("the whole broker and all mail reads nothing: the inner layer is the recipient's", () => {
    expect(kcs().length).toBeGreaterThan(0);
    expect(steals({ openers: c, keys: kcs() })).toEqual([]);
  });

  test("the whole broker, all mail and the recipients' private keys reads what waits, and no held letter that was opened", () => {
    expect(steals({ openers: [...b, ...c], keys: kcs() }).sort()).toEqual([...WAITING, "K-opened-enclosed"].sort());
  });

  test("the whole broker cannot speak as Alice: no key of hers was ever there", () => {
    const hers = new Set(a.map(({ certificate }) => certificate.fingerprint));
    expect(c.some(({ certificate }) => hers.has(certificate.fingerprint))).toBe(false);
    expect(c.flatMap(({ certificate }) => certificate.mailboxes)).not.toContain("alice@a.example");
  });

  test("the sender's gateway reads no letter of the past", () => {
    expect(filesWith([place.a.data], ...ALL, ...kcs())).toEqual([]);
    expect(steals({ openers: a })).toEqual([]);
  });

  test("the recipient's gateway finds no text and no key on its disk, and reads no held letter that is not released", () => {
    expect(filesWith([place.b.data], ...ALL, ...kcs())).toEqual([]);
    expect(steals({ openers: b })).not.toContain("K-waiting-held");
  });

  test("an administrator's screen sees no private key, no content key and no text", async () => {
    const folder = await temporaryFolder("screen");
    const file = join(folder, "backup");
    const secrets = [...kcs(), ...ALL, "PRIVATE KEY", readFileSync(join(place.broker.config, "..", "data", "master.key"), "utf8").trim()];
    const said = [
      must(["broker", "backup", file, "--config", place.broker.config]),
      must(["status", "--json", "--config", place.a.config]),
      must(["status", "--config", place.b.config]),
      must(["config", "check", place.a.config]),
      kakitome(["status", "--json", "--config", place.broker.config]).stderr,
    ];
    cpSync(file, join(folder, "copy"));
    expect(filesWith([folder], ...secrets)).toEqual([]);
    for (const text of said) for (const secret of secrets) expect(text).not.toContain(secret.toString());
    expect(readdirSync(folder)).toHaveLength(2);
  });
});
