/** Searches everything that the system leaves on disks for the texts of letters and for their keys, after many letters and kills. */
import { createPrivateKey } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { Redis } from "ioredis";
import { localMasterKey } from "../../broker/master-key.ts";
import { sessionOf } from "../../broker/table-row.ts";
import { Chance } from "../fuzz/mutate.ts";
import { temporaryFolder } from "../servers/process.ts";
import { filesBelow, filesWith } from "./disk.ts";
import { Ledger, type Finding } from "./ledger.ts";
import { RECIPIENTS, startCrashPlace, type CrashPlace } from "./place.ts";

export interface Leaks {
  readonly mails: number;
  readonly kills: number;
  readonly keys: number;
  /** Files in which a text or a key stands. */
  readonly found: readonly string[];
  readonly findings: readonly Finding[];
}

const SENDERS = 8;
const STILL_MS = 200_000;
const MOST_KEYS = 200;

/** @param mails how many are sent @param between milliseconds between two kills */
export async function runLeaks({ mails, seed, between }: { mails: number; seed: number; between: number }): Promise<Leaks> {
  const place = await startCrashPlace();
  const ledger = new Ledger(place);
  const stop = new AbortController();
  const keys = new Keys(place);
  const watching = keys.collect(stop.signal);
  let kills = 0;
  try {
    const send = async (): Promise<void> => {
      while (ledger.accounts.length < mails) await ledger.send(ledger.open(RECIPIENTS), stop.signal);
    };
    const sent = Promise.all(Array.from({ length: SENDERS }, send));
    const chance = new Chance(seed);
    const ended = sent.then(() => true);
    while (!(await Promise.race([ended, pause(between, false)]))) {
      const part = chance.of(Object.values(place.parts));
      await part.kill();
      kills++;
      await part.start();
    }
    const findings = await ledger.settleAll(STILL_MS);
    stop.abort();
    await watching;
    const found = await keys.found(ledger);
    return { mails: ledger.accounts.length, kills, keys: keys.count, found, findings };
  } finally {
    stop.abort();
    ledger.close();
    keys.close();
    await place.stop();
  }
}

/** The secret number of a private key. */
function scalarIn(file: string): Buffer {
  return Buffer.from(createPrivateKey(readFileSync(file)).export({ format: "jwk" }).d ?? "", "base64url");
}

/** Content keys of letters that are on their way, which only who has the broker's table, its master key and its day keys can know. */
class Keys {
  readonly #place: CrashPlace;
  readonly #redis: Redis;
  readonly #known = new Map<string, Buffer>();

  constructor(place: CrashPlace) {
    this.#place = place;
    this.#redis = new Redis(place.redis.url, { retryStrategy: () => 100 });
    this.#redis.on("error", () => undefined); // Redis is killed now and then
  }

  get count(): number {
    return this.#known.size;
  }

  close(): void {
    this.#redis.disconnect();
  }

  async collect(signal: AbortSignal): Promise<void> {
    const data = join(this.#place.broker.config, "..", "data");
    const master = localMasterKey(() => [Buffer.from(readFileSync(join(data, "master.key"), "utf8").trim(), "hex")], join(data, "days"));
    while (!signal.aborted && this.#known.size < MOST_KEYS) {
      const [, names] = await this.#redis.scan(0, "MATCH", "kakitome:row:*", "COUNT", 100).catch(() => ["0", []] as [string, string[]]);
      for (const name of names) {
        const fields = await this.#redis.hgetallBuffer(name).catch(() => undefined);
        if (!fields?.["wrappedKey"]) continue;
        const row = sessionOf({ ...fields, session: name.slice(name.lastIndexOf(":") + 1) });
        if ("wrappedKey" in row)
          this.#known.set(
            name,
            master.unwrap(row.wrappedKey, row).lend((octets) => Buffer.from(octets)),
          );
      }
      await pause(200, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Everything but the recipients' mailboxes is searched for texts, and these too for keys. */
  async found(ledger: Ledger): Promise<string[]> {
    this.#place.redis.cli("SAVE"); // a dump beside the append-only file
    const logs = await temporaryFolder("logs");
    for (const { name, lives } of [this.#place.parts.a, this.#place.parts.b, this.#place.parts.c])
      lives.forEach((process, at) => writeFileSync(join(logs, `${name}${at}`), process.text()));
    const { folder, redis, postfix, dovecot } = this.#place;
    const folders = [folder, redis.folder, postfix.folder, logs];
    const keys = [...this.#known.values()];
    const found = [...filesWith(folders, ledger.secret, ...keys), ...filesWith([dovecot.folder], ...keys)];
    const own = filesBelow(folder).filter((file) => file.endsWith(".key.pem"));
    for (const file of own) found.push(...filesWith([...folders, dovecot.folder], scalarIn(file)).filter((other) => other !== file));
    return [...new Set(found)];
  }
}
