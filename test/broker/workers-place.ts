/** A broker of several worker processes on a real Redis, as the built command; gateways that declare, present and confirm over it, and a next hop for receipts. */
import { writeFileSync } from "node:fs";
import { get } from "node:http";
import { get as getSecurely } from "node:https";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { connect } from "node:tls";
import { stringify } from "yaml";
import { BrokerClient, enrolGateway, type Identity } from "../../broker/client.ts";
import { initBroker, inviteGateway, rootOf } from "../../broker/main.ts";
import { loadBroker } from "../../config/load.ts";
import type { BrokerConfig } from "../../config/schema.ts";
import { parseMailbox } from "../../mime/address.ts";
import { Fault } from "../../mime/fault.ts";
import { readReceipt } from "../../mime/report.ts";
import { newKey } from "../../mime/request.ts";
import { startHop, type Hop } from "../gateway/hop.ts";
import { freePort } from "../servers/ports.ts";
import { temporaryFolder } from "../servers/process.ts";
import { startRedis, type RedisServer } from "../servers/redis.ts";
import { startKakitome, type LogLine, type Process } from "../walks/kakitome.ts";
import { confirmAs, forever, letterFrom, type House, type Member } from "./house.ts";

const TOKEN = "0123456789abcdefghijklmnop";
/** An answer that does not come is an answer that is asked for again. */
const ASKED_WITHIN_MS = 10_000;
const AGAIN_AFTER_MS = 20;
const ANSWERED_WITHIN_MS = 20_000;

/** A gateway for both sides of its letters. */
export interface Post {
  readonly client: BrokerClient;
  /** One letter from its declaration to its confirmation, each step repeated until it is answered. @returns its Message-ID */
  letter(): Promise<string>;
  /** One step: declares a letter. */
  declared(): Promise<unknown>;
  /** Declares and presents one. @returns its Message-ID, and what confirms it */
  begun(): Promise<{ messageId: string; confirm: () => Promise<unknown> }>;
}

export interface WorkersPlace {
  readonly redis: RedisServer;
  readonly hop: Hop;
  readonly file: string;
  readonly config: BrokerConfig;
  /** The primary's process, as it runs now. */
  readonly process: Process;
  /** Starts it, again where it ran before. */
  start(environment?: Readonly<Record<string, string>>): Promise<Process>;
  write(changes: object): void;
  post(): Promise<Post>;
  /** Message-IDs for which receipts came, one for each mail. */
  receipts(): string[];
  /** Fingerprints of the certificates that so many connections in a row were shown. */
  shown(count: number): Promise<string[]>;
  /** The status with which a gateway is told, over a connection of its own, whether the broker is ready. */
  ready(): Promise<number>;
  health(path: string): Promise<{ status: number; text: string }>;
  /** The operator's door. */
  admin(path: string): Promise<{ status: number; text: string }>;
  stop(): Promise<void>;
}

export const isStarted = ({ event }: LogLine): boolean => event === "broker.started";

/** Process ids of the workers as the log names them, the last one of each. */
export function workersOf(process: Process): Map<string, number> {
  const started = process.lines.filter(({ event }) => event === "worker.started");
  return new Map(started.map((line) => [String(line["worker"]), Number(line["pid"])]));
}

export async function openPlace(): Promise<WorkersPlace> {
  const [redis, hop] = await Promise.all([startRedis(), startHop()]);
  const folder = await temporaryFolder("workers");
  const [port, healthPort, adminPort] = [await freePort(), await freePort(), await freePort()];
  const file = join(folder, "broker.yaml");
  writeFileSync(join(folder, "redis.password"), redis.password, { mode: 0o600 });
  writeFileSync(join(folder, "admin.token"), TOKEN, { mode: 0o600 });
  const settings = {
    url: `https://127.0.0.1:${port}`,
    listen: `127.0.0.1:${port}`,
    workers: 2,
    data: "data",
    table: { redis: `redis://default@127.0.0.1:${redis.port}`, passwordFile: "redis.password" },
    receipts: { from: "receipts@broker.example", relay: { host: "127.0.0.1", port: hop.port, tls: "none" }, retryFirst: "50ms" },
    limits: { perAddress: { burst: 10_000, perSecond: 1_000 } },
    health: { listen: `127.0.0.1:${healthPort}` },
    admin: { listen: `127.0.0.1:${adminPort}`, tokenFile: "admin.token" },
  };
  writeFileSync(file, stringify(settings));
  const config = loadBroker(file);
  await initBroker(config.data, { url: config.url, receiptsFrom: config.receipts.from, now: new Date() });
  const clients: BrokerClient[] = [];
  let number = 0;
  let process: Process | undefined;
  const place: WorkersPlace = {
    redis,
    hop,
    file,
    config,
    get process() {
      if (!process) throw new Error("the broker was not started");
      return process;
    },
    async start(environment = {}) {
      process = startKakitome(["broker", "run", "--config", file], environment);
      await process.until("start", isStarted);
      return process;
    },
    write: (changes) => writeFileSync(file, stringify({ ...settings, ...changes })),
    async post() {
      const post = await openPost(config, number++);
      clients.push(post.client);
      return post;
    },
    receipts() {
      const trust = clients[0]?.trust;
      if (!trust) return [];
      return hop.attempts.all.map(({ mail }) => readReceipt(mail, trust)?.evidence.messageId ?? "no receipt");
    },
    async shown(count) {
      const fingerprints: string[] = [];
      for (let at = 0; at < count; at++) fingerprints.push(await shownAt(port));
      return fingerprints;
    },
    ready: () =>
      new Promise((resolve, reject) => {
        getSecurely({ host: "127.0.0.1", port, path: "/v1/ready", agent: false, rejectUnauthorized: false }, (response) => {
          response.resume().on("end", () => resolve(response.statusCode ?? 0));
        }).on("error", reject);
      }),
    health: (path) => asked(healthPort, path),
    admin: (path) => asked(adminPort, path, { authorization: `Bearer ${TOKEN}` }),
    async stop() {
      await Promise.all(clients.map((client) => client.close()));
      await process?.stop();
      await Promise.all([redis.stop(), hop.close()]);
    },
  };
  return place;
}

function shownAt(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false }, () => {
      resolve(socket.getPeerX509Certificate()?.fingerprint256 ?? "");
      socket.destroy();
    }).on("error", reject);
  });
}

function asked(port: number, path: string, headers = {}): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    get({ host: "127.0.0.1", port, path, headers, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
    }).on("error", reject);
  });
}

async function openPost(config: BrokerConfig, number: number): Promise<Post> {
  const [sender, recipient] = [`alice${number}@a.example`, `bob${number}@b.example`];
  const now = (): Date => new Date();
  const root = rootOf(config);
  const { token } = await inviteGateway(config, [sender, recipient], now());
  const key = newKey();
  const enrolled = await enrolGateway({ url: config.url, fingerprint: root.fingerprint, token, name: "gw", key }, forever);
  const client = new BrokerClient({ url: config.url, ...enrolled, key, timeout: ASKED_WITHIN_MS, now });
  const [alice, bob] = [await memberOf(client, sender), await memberOf(client, recipient)];
  const house = { now, url: config.url, broker: { root: { certificate: root } } } as House;
  const begun: Post["begun"] = async () => {
    const letter = letterFrom(house, alice, [recipient]);
    const [grant] = await repeated(() => client.declare(letter, alice.identity, forever));
    const ticket = grant?.ticket ?? Buffer.alloc(0);
    await repeated(() => client.dispatched([ticket], forever));
    const release = await repeated(() => client.present(ticket, bob.identity, forever));
    return { messageId: letter.messageId, confirm: () => confirmAs(house, bob, release) };
  };
  return {
    client,
    begun,
    declared: () => repeated(() => client.declare(letterFrom(house, alice, [recipient]), alice.identity, forever)),
    async letter() {
      const { messageId, confirm } = await begun();
      await repeated(confirm);
      return messageId;
    },
  };
}

async function memberOf(client: BrokerClient, address: string): Promise<Member> {
  const mailbox = parseMailbox(address);
  const [signingKey, encryptionKey] = [newKey(), newKey()];
  const { signing, encryption } = await client.enrolMailbox({ address: mailbox, aliases: [], signingKey, encryptionKey }, forever);
  const identity: Identity = {
    signer: { key: signingKey, certificate: signing },
    openers: [{ key: encryptionKey, certificate: encryption }],
  };
  return { mailbox, identity, gateway: { client } as Member["gateway"] };
}

/** As a gateway does it: what was not answered is asked again. */
async function repeated<T>(step: () => Promise<T>): Promise<T> {
  const until = performance.now() + ANSWERED_WITHIN_MS;
  for (;;) {
    try {
      return await step();
    } catch (thrown) {
      if (!(thrown instanceof Fault) || thrown.code !== "unavailable" || performance.now() > until) throw thrown;
      await pause(AGAIN_AFTER_MS);
    }
  }
}
