/** Examines a broker, one hop after the other: files, keys, table, mail server, its own door; nothing is sent and nothing is changed. */
import { createPublicKey } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { join } from "node:path";
import { demandRoom, demandTime, Wrong, type Examination } from "../config/findings.ts";
import { isLocked } from "../config/lock.ts";
import type { BrokerConfig } from "../config/schema.ts";
import { demandPrivate, readPrivateKey, readSecret } from "../config/secrets.ts";
import { issued } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { probe } from "./client-probe.ts";
import { FILES } from "./files.ts";
import { masterKeysAt } from "./master-files.ts";
import { fileIn, mailerOf, masterPlaceOf, openTable, readCertificate, rootOf } from "./open.ts";
import { countingIn, rootsAt } from "./roots.ts";
import { Witness } from "./witness.ts";

const LOOK_MS = 20_000;
const LARGEST_CLOCK_DIFFERENCE_MS = 2 * 60_000;

/** The broker's own certificates with their keys. */
const PAIRS = [
  ["server", FILES.server, FILES.serverKey],
  ["signing", FILES.signing, FILES.signingKey],
  ["session", FILES.session, FILES.sessionKey],
] as const;

interface Place {
  readonly config: BrokerConfig;
  /** The file, for commands in advice. */
  readonly file: string;
  readonly to: Examination;
  now(): Date;
}

export async function examineBroker({ config, file }: Pick<Place, "config" | "file">, to: Examination, now: () => Date): Promise<void> {
  const place = { config, file, to, now };
  const isMade = await to.look("data", config.data, `run "kakitome init broker", or set data in ${file}`, () => {
    if (!existsSync(fileIn(config, FILES.roots))) throw new Wrong("holds no broker", `run "kakitome init broker", or set data in ${file}`);
    return `the root's fingerprint is ${rootOf(config).fingerprint}`;
  });
  if (!isMade) return;
  await files(place);
  await certificates(place);
  await to.look("space", config.data, "make room", async () => demandRoom(await statfs(config.data), config.data));
  await table(place);
  await receipts(place);
  await process(place);
}

async function files({ config, to }: Place): Promise<void> {
  const keys = readdirSync(config.data).filter((name) => /\.key(?:\.|$)/u.test(name));
  const { admin, receipts, table } = config;
  const more = [
    admin?.tokenFile,
    receipts.relay.passwordFile,
    table === "embedded" ? undefined : table.passwordFile,
    config.masterKey?.file,
  ];
  for (const path of [...keys.map((name) => fileIn(config, name)), ...more]) {
    if (path === undefined) continue;
    await to.look("files", path, `write the file ${path}, mode 600`, () => {
      readSecret(path);
      return "readable by its owner only";
    });
  }
  const { dayKeys } = masterPlaceOf(config);
  for (const folder of [config.data, dayKeys]) {
    await to.look("files", folder, `make the folder ${folder}`, () => {
      demandPrivate(folder);
      return "for its owner only";
    });
  }
}

async function certificates({ config, to, now }: Place): Promise<void> {
  await to.look("certificates", "root", "bring ca.pem and root.key.pem back from one backup", () => rootWords(config, now()));
  for (const [use, certificate, key] of PAIRS) {
    const mend = `run "kakitome broker rotate ${use}"`;
    await to.look("certificates", use, `bring ${certificate} and ${key} back from a backup`, () => {
      const parsed = readCertificate(fileIn(config, certificate));
      if (!createPublicKey(readPrivateKey(fileIn(config, key))).equals(parsed.publicKey)) {
        throw new Wrong(`${certificate} is not of the key ${key}`, `bring the pair back from a backup, or ${mend}`);
      }
      return demandTime(parsed, now(), mend);
    });
  }
  await to.look("certificates", "chain", "bring ca.pem and root.key.pem back from a backup", () => {
    const { issuing, former } = rootsAt(config.data);
    for (const [use, name] of PAIRS) {
      const own = readCertificate(fileIn(config, name));
      if (issued(issuing.certificate, own)) continue;
      if (former.some(({ certificate }) => issued(certificate, own)))
        throw new Wrong(`${name} is of a former root`, `run "kakitome broker rotate ${use}"`);
      throw new Wrong(`${name} is not of this root`, "bring both back from one backup");
    }
    return "all of this root";
  });
}

/** How the roots stand, and which step is due. */
function rootWords(config: BrokerConfig, now: Date): string {
  const { issuing, next, former } = rootsAt(config.data);
  const mend = next
    ? `the root ${next.certificate.fingerprint} is announced: run "kakitome broker rotate root --use"`
    : 'run "kakitome broker rotate root"';
  const time = demandTime(issuing.certificate, now, mend, true);
  return [
    time,
    ...(next ? [`${next.certificate.fingerprint} is announced and issues after "kakitome broker rotate root --use"`] : []),
    ...former.map(({ certificate, until }) => `${certificate.fingerprint} counts until ${until.toISOString()}`),
  ].join("; ");
}

/** Whether the table can lose what it acknowledged, whether it went back in time, and whether its letters can be opened. */
async function table({ config, to }: Place): Promise<void> {
  const home =
    config.table === "embedded" ? fileIn(config, FILES.table) : (config.table.redis ?? config.table.sentinel?.name ?? "a cluster");
  const mend = "see whether the server runs and lets this broker in (user, passwordFile)";
  await to.look("table", home, mend, async () => {
    const opened = await openTable(config, new Witness(fileIn(config, FILES.witness)));
    try {
      await opened.ready().catch(asWrong);
      const [days, pending] = [await opened.daysInUse(), await opened.pending()];
      const { dayKeys } = masterPlaceOf(config);
      const names = existsSync(dayKeys) ? readdirSync(dayKeys) : [];
      const missing = [...days].filter((day) => !names.some((name) => name.split(".")[0] === String(day)));
      if (missing.length > 0)
        throw new Wrong(
          `keys of ${missing.length} days on which letters wait are missing in ${dayKeys}`,
          "bring them back, or let their senders send again",
        );
      return `answers and loses nothing; letters of ${days.size} days wait, ${pending.length} receipts wait`;
    } finally {
      await opened.close();
    }
  });
  await to.look("master key", undefined, "bring master.key back from its own backup", () => {
    return `${masterKeysAt(masterPlaceOf(config)).length - 1} former ones`;
  });
}

/** A table that answers, and says itself what it lacks. */
function asWrong(thrown: unknown): never {
  if (thrown instanceof Fault && thrown.advice !== undefined) throw new Wrong(thrown.message, thrown.advice);
  throw thrown;
}

async function receipts({ config, to }: Place): Promise<void> {
  const { host, port, tls, user } = config.receipts.relay;
  const where = `${host}:${port}`;
  await to.look(
    "receipts",
    where,
    `see whether ${where} answers with tls ${tls}, and whether it lets ${user ?? "this machine"} send`,
    async () => {
      const mailer = mailerOf(config);
      try {
        await mailer.greet?.();
        return `answers${user === undefined ? "" : `, lets ${user} in`}`;
      } finally {
        mailer.close();
      }
    },
  );
}

async function process({ config, file, to, now }: Place): Promise<void> {
  const start = `start it: kakitome broker run --config ${file}`;
  const runs = await to.look("process", undefined, start, () => {
    if (isLocked(config.data)) return "the broker runs";
    throw new Wrong("no broker works on this configuration now", start);
  });
  if (!runs) return;
  const mend = `see whether ${config.url} leads to ${config.listen.host}:${config.listen.port}: name service, firewall, proxy`;
  await to.look("door", config.url, mend, async () => {
    const { complaint, date, certificate } = await probe(
      config.url,
      countingIn(rootsAt(config.data)).map(({ certificate }) => certificate),
      AbortSignal.timeout(LOOK_MS),
    );
    if (complaint !== undefined)
      throw new Wrong(`shows a certificate that gateways refuse (${complaint})`, `${mend}; or run "kakitome broker rotate server"`);
    if (date && Math.abs(now().getTime() - date.getTime()) > LARGEST_CLOCK_DIFFERENCE_MS)
      throw new Wrong("another clock answers there", mend);
    const here = readCertificate(fileIn(config, FILES.server));
    if (here.fingerprint !== certificate.fingerprint)
      throw new Wrong(`shows another certificate than ${join(config.data, FILES.server)}`, `run "kakitome reload --config ${file}"`);
    return "answers with this broker's certificate";
  });
}
