/** The whole system on real servers: broker on Redis, two gateways, Postfix between them, Dovecot's mailboxes; every process is the built command. */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ImapFlow } from "imapflow";
import { parse, stringify } from "yaml";
import { startDovecot, type DovecotServer } from "../servers/dovecot.ts";
import { freePort } from "../servers/ports.ts";
import { startPostfix, type PostfixServer } from "../servers/postfix.ts";
import { temporaryFolder } from "../servers/process.ts";
import { startRedis, type RedisServer } from "../servers/redis.ts";
import { must, startKakitome, type Process } from "./kakitome.ts";

export const ALICE = "alice@a.example";
export const BOB = "bob@b.example";
export const CAROL = "carol@b.example";
export const DAVE = "dave@b.example";
const PASSWORDS: Readonly<Record<string, string>> = {
  [ALICE]: "alice-secret",
  [BOB]: "bob-secret",
  [CAROL]: "carol-secret",
  [DAVE]: "dave-secret",
};

export interface Gateway {
  readonly config: string;
  /** Folder of keys, spool and journal. */
  readonly data: string;
  readonly smtpPort: number;
  readonly smtpsPort: number;
  process: Process;
  /** Stops it and starts it again on the same data. */
  restart(): Promise<void>;
}

export interface Place {
  readonly folder: string;
  readonly redis: RedisServer;
  readonly dovecot: DovecotServer;
  readonly postfix: PostfixServer;
  readonly broker: { readonly config: string; readonly url: string; process: Process; restart(): Promise<void> };
  readonly a: Gateway;
  readonly b: Gateway;
  /** Authority of the doors, PEM file. */
  readonly doorCa: string;
  stop(): Promise<void>;
}

export const passwordOf = (address: string): string => PASSWORDS[address] ?? "";

export interface PlaceOptions {
  /** Merged into the gateways' files. */
  readonly a?: object;
  readonly b?: object;
  /** Merged into the broker's. */
  readonly broker?: object;
  readonly mailbox?: object;
  readonly largest?: string;
  /** The gateways' control address. */
  readonly control?: string;
  /** Mailboxes of gateway B. */
  readonly recipients?: readonly string[];
  /** Done when gateway A has enrolled and gateway B has not. */
  readonly between?: (broker: Place["broker"]) => void;
  /** Lines of main.cf. */
  readonly postfix?: Record<string, string>;
  /** Further lines of dovecot.conf. */
  readonly dovecot?: string;
  /** Further lines of main.cf and master.cf. */
  readonly services?: (dovecot: DovecotServer) => { readonly main: string; readonly services: string };
}

/** @param options what a test wants otherwise */
export async function startPlace(options: PlaceOptions = {}): Promise<Place> {
  const folder = await temporaryFolder("walk");
  const [redis, dovecot] = await Promise.all([startRedis(), startDovecot({ users: PASSWORDS, configuration: options.dovecot ?? "" })]);
  const postfix = await startPostfix({
    domains: ["a.example", "b.example"],
    transport: `lmtp:inet:127.0.0.1:${dovecot.lmtpPort}`,
    settings: options.postfix ?? {},
    ...options.services?.(dovecot),
  });
  const door = doorCertificate(folder);
  const broker = await openBroker(folder, redis, postfix.port, options.broker ?? {});
  const invite = (domain: string) =>
    JSON.parse(must(["broker", "invite", "--config", broker.config, "--for", domain, "--json"])) as { token: string; fingerprint: string };
  const open = async (name: string, addresses: readonly string[], extra: object): Promise<Gateway> => {
    const [smtpPort, smtpsPort] = [await freePort(), await freePort()];
    const config = join(folder, `${name}.yaml`);
    for (const address of addresses) writeFileSync(join(folder, `${address}.password`), passwordOf(address), { mode: 0o600 });
    const imap = (user: string) => ({
      host: "127.0.0.1",
      port: dovecot.imapPort,
      tls: "starttls",
      ca: dovecot.ca,
      user,
      passwordFile: `${user}.password`,
      poll: "1s",
    });
    const file = {
      name: `gateway.${name}.example`,
      data: name,
      broker: { url: broker.url },
      submission: {
        listen: [
          { address: `127.0.0.1:${smtpPort}`, tls: "starttls" },
          { address: `127.0.0.1:${smtpsPort}`, tls: "implicit" },
        ],
        ...door,
        largest: options.largest ?? "35MiB",
        ...(options.control !== undefined && { control: options.control }),
      },
      mailboxes: addresses.map((address) => ({ address, imap: imap(address), ...options.mailbox })),
      relay: { host: "127.0.0.1", port: postfix.port, tls: "none" },
      retry: { first: "500ms", longest: "2s" },
      ...extra,
    };
    writeFileSync(config, stringify(file));
    for (const address of addresses) must(["user", "add", address, "--identity", address, "--config", config], `${passwordOf(address)}\n`);
    const { token, fingerprint } = invite(`${name}.example`);
    must(["enrol", "--config", config, "--broker", broker.url, "--fingerprint", fingerprint, "--token", token]);
    const run = async (): Promise<Process> => {
      const started = startKakitome(["gateway", "run", "--config", config]);
      await started.until("gateway.started", ({ event }) => event === "gateway.started");
      return started;
    };
    const gateway: Gateway = {
      config,
      data: join(folder, name),
      smtpPort,
      smtpsPort,
      process: await run(),
      async restart() {
        await gateway.process.stop();
        gateway.process = await run();
      },
    };
    for (const address of addresses)
      await gateway.process.until(`enrolment of ${address}`, (line) => line.event === "mailbox.enrolled" && line["mailbox"] === address);
    for (const own of file.mailboxes) {
      if (!("imap" in own)) continue; // its mail comes in by the gateway
      const { address } = own;
      await gateway.process.until(`watch of ${address}`, (line) => line.event === "mailbox.watched" && line["mailbox"] === address);
    }
    return gateway;
  };
  const a = await open("a", [ALICE], options.a ?? {});
  options.between?.(broker);
  const b = await open("b", options.recipients ?? [BOB, CAROL], options.b ?? {});
  return {
    folder,
    redis,
    dovecot,
    postfix,
    broker,
    a,
    b,
    doorCa: join(folder, door.certificate),
    async stop() {
      await Promise.all([a.process.stop(), b.process.stop()]);
      await broker.process.stop();
      await Promise.all([redis.stop(), dovecot.stop(), postfix.stop()]);
    },
  };
}

function doorCertificate(folder: string): { certificate: string; key: string } {
  const names = { certificate: "door.crt.pem", key: "door.key.pem" };
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", join(folder, names.key)];
  execFileSync("openssl", ["req", "-x509", "-days", "90", ...key, "-out", join(folder, names.certificate), ...subject], {
    stdio: "ignore",
  });
  return names;
}

async function openBroker(folder: string, redis: RedisServer, relayPort: number, extra: object): Promise<Place["broker"]> {
  const url = `https://127.0.0.1:${await freePort()}`;
  const home = join(folder, "broker");
  const config = join(home, "broker.yaml");
  must([
    "init",
    "broker",
    "--dir",
    home,
    "--url",
    url,
    "--receipts-from",
    "receipts@broker.example",
    "--relay",
    `127.0.0.1:${relayPort}`,
    "--relay-tls",
    "none",
  ]);
  writeFileSync(join(home, "redis.password"), redis.password, { mode: 0o600 });
  writeFileSync(
    config,
    stringify({
      url,
      listen: url.slice("https://".length),
      data: "data",
      table: { redis: `redis://default@127.0.0.1:${redis.port}`, passwordFile: "redis.password" },
      receipts: {
        from: "receipts@broker.example",
        relay: { host: "127.0.0.1", port: relayPort, tls: "none" },
        retryFirst: "500ms",
        retryLongest: "2s",
      },
      ...extra,
    }),
  );
  const run = async (): Promise<Process> => {
    const started = startKakitome(["broker", "run", "--config", config]);
    await started.until("broker.started", ({ event }) => event === "broker.started");
    return started;
  };
  const broker: Place["broker"] = {
    config,
    url,
    process: await run(),
    async restart() {
      await broker.process.stop();
      broker.process = await run();
    },
  };
  return broker;
}

/** Has the running broker issue certificates for so long from now on. */
export function setLifetime(config: string, lifetime: string): void {
  const file = parse(readFileSync(config, "utf8")) as Record<string, unknown>;
  writeFileSync(config, stringify({ ...file, certificates: { lifetime } }));
  must(["reload", "--config", config]);
}

/** Mails of a folder in Dovecot, once there are as many as wanted that fit; news come by IDLE. */
export async function untilMail(
  place: Pick<Place, "dovecot"> & Partial<Pick<Place, "postfix">>,
  user: string,
  fits: (mail: Buffer) => boolean,
  options: { folder?: string; count?: number; timeout?: number } = {},
): Promise<Buffer[]> {
  const { folder = "INBOX", count = 1, timeout = 30_000 } = options;
  const client = new ImapFlow({
    host: "127.0.0.1",
    port: place.dovecot.imapPort,
    secure: false,
    doSTARTTLS: false,
    auth: { user, pass: passwordOf(user) },
    logger: false,
    disableAutoIdle: true,
  });
  client.on("error", () => undefined);
  await client.connect();
  const deadline = AbortSignal.timeout(timeout);
  try {
    await client.mailboxOpen(folder);
    for (;;) {
      const changed = new Promise<void>((resolve, reject) => {
        client.once("exists", () => resolve());
        const log = (): string => place.postfix?.log().split("\n").slice(-20).join("\n") ?? "";
        const late = (): Error => new Error(`no ${count} such mail for ${user} in ${folder} within ${timeout} ms; Postfix says:\n${log()}`);
        deadline.addEventListener("abort", () => reject(late()), { once: true });
      });
      changed.catch(() => undefined);
      const mails: Buffer[] = [];
      for await (const { source } of client.fetch("1:*", { source: true })) if (source) mails.push(source);
      const found = mails.filter(fits);
      if (found.length >= count) return found;
      void client.idle().catch(() => undefined);
      await changed;
    }
  } finally {
    client.close();
  }
}

/** All mails of a folder now. */
export async function mailsIn(place: Pick<Place, "dovecot">, user: string, folder = "INBOX"): Promise<Buffer[]> {
  return untilMail(place, user, () => true, { folder, count: 0 });
}
