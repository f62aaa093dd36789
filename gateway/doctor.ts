/** Examines a gateway, one hop after the other in the order in which a letter meets them; nothing is sent and nothing is changed. */
import { createPrivateKey, createPublicKey } from "node:crypto";
import { existsSync, statSync } from "node:fs";
import { readFile, readdir, statfs } from "node:fs/promises";
import { join } from "node:path";
import { probe } from "../broker/client.ts";
import { demandRoom, demandTime, Wrong, type Examination } from "../config/findings.ts";
import { isLocked } from "../config/lock.ts";
import { createLog } from "../config/log.ts";
import type { GatewayConfig, OwnMailbox } from "../config/schema.ts";
import { demandPrivate, readSecret } from "../config/secrets.ts";
import { parseBundle, parseCertificate, serialOf, type Certificate } from "../mime/certificate.ts";
import { parseRevocationList } from "../mime/crl.ts";
import { Fault } from "../mime/fault.ts";
import { Delivery } from "./delivery.ts";
import { nextHopOf, pairAt, pemAt } from "./doors.ts";
import { deliveryServerOf } from "./inbound-doors.ts";
import { Logins } from "./login.ts";
import { KEY_FILES, openChannel, type OpenChannel } from "./identity.ts";
import { ImapMailbox } from "./mailbox.ts";
import { examineHop } from "./next-hop.ts";
import { openPolicy } from "./policy.ts";
import { Spool } from "./spool.ts";
import { FOLDERS } from "./status.ts";

/** The broker refuses what was signed ten minutes off. */
const LARGEST_CLOCK_DIFFERENCE_MS = 2 * 60_000;
/** Base64 in two layers, and headers. */
const GROWTH = 1.9;
const LOOK_MS = 20_000;

interface Place {
  readonly config: GatewayConfig;
  /** The file, for commands in advice. */
  readonly file: string;
  readonly to: Examination;
  now(): Date;
}

export async function examineGateway({ config, file }: Pick<Place, "config" | "file">, to: Examination, now: () => Date): Promise<void> {
  const place = { config, file, to, now };
  await files(place);
  await space(place);
  const channel = await theBroker(place);
  try {
    await certificates(place, channel);
  } finally {
    await channel?.broker.close();
  }
  await door(place);
  for (const own of config.mailboxes) await imap(place, own);
  await hop(place);
  await delivery(place);
  await to.look("process", undefined, "", () => running(place));
}

/** Every file with a secret, and the folder that nobody else may enter. */
async function files({ config, to }: Place): Promise<void> {
  const { data, submission, relay, mailboxes } = config;
  const secrets = [submission?.key, relay?.passwordFile, ...mailboxes.map(({ imap }) => imap?.passwordFile)];
  const keys = existsSync(join(data, "keys")) ? await readdir(join(data, "keys"), { recursive: true }) : [];
  const own = keys.filter((name) => name.endsWith(".key.pem")).map((name) => join(data, "keys", name));
  for (const path of new Set([...secrets, ...own])) {
    if (path === undefined) continue;
    await to.look("files", path, `write the file ${path}, mode 600`, () => {
      readSecret(path);
      return "readable by its owner only";
    });
  }
  await to.look("files", data, `make the folder ${data}, owned by the user the gateway runs as`, () => {
    demandPrivate(data);
    if (!statSync(data).isDirectory()) throw new Wrong("is no folder", "set data in the configuration to a folder");
    return "for its owner only";
  });
}

async function space({ config: { data, retry }, to, now }: Place): Promise<void> {
  await to.look("space", data, `make the folder ${data}`, async () => demandRoom(await statfs(data), data));
  const folder = join(data, FOLDERS.spool);
  await to.look("spool", folder, `see who may write to ${folder}`, async () => {
    const broken: string[] = [];
    const waiting = await new Spool(folder).all((id) => broken.push(id));
    if (broken.length > 0) {
      throw new Wrong(
        `${broken.length} entries cannot be read: ${broken.slice(0, 3).join(", ")}`,
        "bring them back from a backup, or move them away",
      );
    }
    const [oldest] = waiting;
    if (!oldest) return "empty";
    const age = now().getTime() - Date.parse(oldest.entry.acceptedAt);
    if (age > retry.giveUpAfter / 4) {
      throw new Wrong(
        `${waiting.length} letters wait, the oldest since ${oldest.entry.acceptedAt}`,
        "see below whether broker and next hop work",
      );
    }
    return `${waiting.length} letters wait`;
  });
}

/** The line to the broker: its door, its clock, its certificate; and whether it knows us. @returns the channel, where there is one */
async function theBroker({ config, file, to, now }: Place): Promise<OpenChannel | undefined> {
  const { url } = config.broker;
  const rootsFile = join(config.data, "keys", KEY_FILES.roots);
  const enrolling = `ask the broker's operator for an invitation and run "kakitome enrol --config ${file}"`;
  const isEnrolled = await to.look("enrolment", config.name, enrolling, async () => {
    for (const name of [KEY_FILES.roots, KEY_FILES.channel, KEY_FILES.channelKey]) {
      if (!existsSync(join(config.data, "keys", name))) throw new Wrong(`${name} is missing: the gateway is not enrolled`, enrolling);
    }
    const fingerprints = parseBundle(await readFile(rootsFile)).map(({ fingerprint }) => fingerprint);
    return `enrolled; the broker's fingerprint is ${fingerprints.join(", or ")}`;
  });
  if (!isEnrolled) return undefined;
  const roots = parseBundle(await readFile(rootsFile));
  const probing = probe(url, roots, AbortSignal.timeout(LOOK_MS));
  const away = `see whether the broker runs, and whether this machine may reach ${url}`;
  if (!(await to.look("broker", url, away, async () => ((await probing).ready ? "answers" : notReady((await probing).words))))) {
    if (!(await probing.catch(() => undefined))) return undefined;
  }
  const probed = await probing;
  const isTrusted = await to.look("broker TLS", url, "", () => {
    if (probed.complaint === undefined)
      return `shows a certificate of a root that is trusted since enrolment, until ${probed.certificate.notAfter.toISOString()}`;
    const mend = `compare the broker's root with its operator: it must have the fingerprint ${roots.map(({ fingerprint }) => fingerprint).join(" or ")}; somebody may stand in between, or broker.url names another broker`;
    throw new Wrong(`the certificate does not hold (${probed.complaint})`, mend);
  });
  await to.look("clock", undefined, "", () => {
    if (!probed.date) return "the broker does not tell its time";
    const off = now().getTime() - probed.date.getTime();
    if (Math.abs(off) > LARGEST_CLOCK_DIFFERENCE_MS) {
      throw new Wrong(
        `${Math.round(Math.abs(off) / 1_000)} s ${off > 0 ? "ahead of" : "behind"} the broker's`,
        "set this machine's clock, by NTP",
      );
    }
    return `within ${Math.ceil(Math.abs(off) / 1_000)} s of the broker's`;
  });
  if (!isTrusted) return undefined;
  let channel: OpenChannel | undefined;
  await to.look("channel", undefined, enrolling, async () => {
    channel = await openChannel(config, createLog({ write: () => undefined }), now);
    const [mailbox] = config.mailboxes;
    if (mailbox) await knows(channel, mailbox, enrolling);
    return "the broker accepts this gateway's certificate";
  });
  return channel;
}

function notReady(words: string): never {
  throw new Wrong(`answers that it is not ready: ${words}`, 'its operator runs "kakitome doctor" there; letters wait meanwhile');
}

/** A revoked or unknown channel is told apart from a broker that is away. */
async function knows({ broker }: OpenChannel, { address }: OwnMailbox, mend: string): Promise<Certificate | undefined> {
  try {
    return await broker.lookUp(address, AbortSignal.timeout(LOOK_MS));
  } catch (cause) {
    const isRefused = Fault.from(Fault.from(cause).cause).code === "unauthenticated";
    if (!isRefused) throw cause;
    throw new Wrong("the broker does not accept this gateway's certificate: revoked, ended, or of another broker", mend);
  }
}

/** By the list that the broker has now; the one that the gateway keeps may be older. */
async function isRevoked({ broker }: OpenChannel, keys: string, certificate: Certificate): Promise<boolean> {
  const list = await broker.revocationList(AbortSignal.timeout(LOOK_MS));
  const roots = parseBundle(await readFile(join(keys, KEY_FILES.roots)));
  return parseRevocationList(list, roots).revoked.has(serialOf(certificate));
}

/** Our own certificates, and whether the directory gives the same ones to those who write to us. */
async function certificates({ config, to, now, file }: Place, channel: OpenChannel | undefined): Promise<void> {
  const keys = join(config.data, "keys");
  const restart = `renewal does not work: see the log for "not-renewed", and whether the broker answers; then restart the gateway`;
  const check = (of: string, certificate: string, key: string, mend = restart) =>
    to.look("certificates", of, mend, async () => {
      const parsed = parseCertificate(await readFile(certificate));
      if (!createPublicKey(createPrivateKey(readSecret(key).reveal())).equals(parsed.publicKey)) {
        throw new Wrong(
          `${certificate} is not of the key ${key}`,
          "bring the pair back from a backup, or remove both and restart the gateway",
        );
      }
      return demandTime(parsed, now(), mend);
    });
  if (existsSync(join(keys, KEY_FILES.channel))) await check("gateway", join(keys, KEY_FILES.channel), join(keys, KEY_FILES.channelKey));
  for (const own of config.mailboxes) {
    const { address } = own.address;
    const folder = join(keys, encodeURIComponent(own.address.key));
    const missing = `start the gateway: it enrols its mailboxes by itself; "mailbox.not-enrolled" in its log says why it cannot (kakitome gateway run --config ${file})`;
    for (const use of ["signing", "encryption"] as const) {
      const isThere = existsSync(join(folder, KEY_FILES[use]));
      await check(`${use} of ${address}`, join(folder, KEY_FILES[use]), join(folder, KEY_FILES[`${use}Key`]), isThere ? restart : missing);
    }
    if (channel) {
      await to.look("directory", address, missing, async () => {
        const listed = await knows(channel, own, missing);
        const path = join(folder, KEY_FILES.encryption);
        if (!listed) {
          const gone = "the broker's directory does not have it: nobody can send it a letter";
          if (!existsSync(path) || !(await isRevoked(channel, keys, parseCertificate(await readFile(path)))))
            throw new Wrong(gone, missing);
          throw new Wrong(
            `${gone}, for its certificates were revoked`,
            `remove ${folder} and restart the gateway: it enrols with other keys`,
          );
        }
        const ours = parseCertificate(await readFile(path));
        if (listed.fingerprint === ours.fingerprint) return "gives our certificate";
        throw new Wrong(
          "the directory gives another certificate than ours: letters would be sealed to a key that is not here",
          `another gateway enrolled it, or an old backup was restored here: remove ${folder} and restart the gateway`,
        );
      });
    }
  }
  await to.look("policy", config.policy.certificates, "mend or remove that file", () => {
    openPolicy(config.policy, { isEnrolled: async () => false }, () => new Date());
    return `${Object.keys(config.policy.rules).length} rules`;
  });
}

async function door({ config, to, now }: Place): Promise<void> {
  const { submission } = config;
  if (!submission) return;
  const mend = `put a new certificate at ${submission.certificate} and run "kakitome reload"`;
  await to.look("door", submission.certificate, mend, () => {
    const certificate = parseCertificate(pairAt({ ...config, submission }).certificate);
    const time = demandTime(certificate, now(), mend);
    return `${time}, for ${certificate.x509.subjectAltName ?? certificate.commonName}`;
  });
}

async function imap({ to, now }: Place, own: OwnMailbox): Promise<void> {
  const { imap: account, address } = own;
  if (!account) return;
  const where = `${account.host}:${account.port}`;
  const mend = `see whether ${where} answers with tls ${account.tls}, whether user and passwordFile (or oauth) of ${address.address} are right, and whether the folder ${account.watch} exists`;
  let mailbox: ImapMailbox | undefined;
  await to.look("imap", address.address, mend, async () => {
    const access = { config: account, login: new Logins(now).of(account), ca: pemAt(account.ca) };
    mailbox = await ImapMailbox.open(access, () => undefined);
    const { canIdle, canExpungeExactly, folders } = await mailbox.survey();
    const lacks = [account.opened, account.sealed].filter(
      (name) => name !== "remove" && name.toUpperCase() !== "INBOX" && !folders.includes(name),
    );
    return [
      `opens ${account.watch} at ${where}`,
      canIdle ? "IDLE" : `no IDLE: asked every ${account.poll / 1_000} s`,
      canExpungeExactly ? "UIDPLUS" : "no UIDPLUS: sealed originals are marked deleted and stay until the mail client expunges",
      ...lacks.map((name) => `${name} will be made`),
    ].join("; ");
  });
  await mailbox?.close();
}

async function hop({ config, to, now }: Place): Promise<void> {
  const { relay, submission } = config;
  if (!relay) return;
  const where = `${relay.host}:${relay.port}`;
  await to.look(
    "next hop",
    where,
    `see whether ${where} answers with tls ${relay.tls}, and whether it lets ${relay.user ?? "this machine"} send`,
    async () => {
      const nextHop = nextHopOf(config, new Logins(now));
      if (!nextHop) return "none";
      const size = await examineHop(nextHop);
      const needed = Math.ceil((submission?.largest ?? 0) * GROWTH);
      if (size !== undefined && size < needed) {
        const most = Math.floor(size / GROWTH / (1 << 20));
        throw new Wrong(
          `takes ${size} octets, and a letter of submission.largest grows to ${needed} when it is sealed`,
          `raise its limit (message_size_limit in Postfix), or set submission.largest to ${most}MiB`,
        );
      }
      return `answers${relay.user === undefined ? "" : `, lets ${relay.user} in`}${size === undefined ? "" : `, takes ${size} octets`}`;
    },
  );
}

/** Where mail goes on to that comes in by us. */
async function delivery({ config: { inbound, name }, to }: Place): Promise<void> {
  if (!inbound) return;
  const { host, port, protocol, tls } = inbound.deliver;
  const where = `${host}:${port}`;
  await to.look("delivery", where, `see whether ${where} speaks ${protocol.toUpperCase()} and answers with tls ${tls}`, () =>
    new Delivery(deliveryServerOf(inbound, name)).look(AbortSignal.timeout(LOOK_MS)),
  );
}

function running({ config, file }: Place): string {
  if (isLocked(config.data)) return "the gateway runs";
  throw new Wrong("no gateway works on this configuration now", `start it: kakitome gateway run --config ${file}`);
}
