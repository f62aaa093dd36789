/** The inbound hop for tests: real doors with a real broker behind them, journals that can lose power, and whatever delivery server is at a port. */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { Lifecycle } from "../../config/lifecycle.ts";
import { gatewaySchema, type GatewayConfig } from "../../config/schema.ts";
import { Elsewhere } from "../../gateway/elsewhere.ts";
import { openInboundDoors, type InboundDoors, type InboundDoorsParts } from "../../gateway/inbound-doors.ts";
import { toCrlf } from "../../mime/entity.ts";
import { heardLog, type HeardLog } from "../broker/happenings.ts";
import type { House, Member } from "../broker/house.ts";
import type { DovecotServer } from "../servers/dovecot.ts";
import { freePort } from "../servers/ports.ts";
import { temporaryFolder } from "../servers/process.ts";
import { CountedClient, FragileJournal } from "./inbound-place.ts";
import { Talk } from "./talk.ts";

export interface PostOptions {
  /** Of the door; `lmtp` where left out. */
  readonly protocol?: "lmtp" | "smtp";
  readonly deliver: { readonly port: number; readonly protocol?: "lmtp" | "smtp" };
  /** Merged into the section. */
  readonly inbound?: object;
  /** Merged into each mailbox. */
  readonly mailbox?: object;
  readonly onReport?: InboundDoorsParts["onReport"];
  readonly onSigned?: InboundDoorsParts["onSigned"];
  /** Named as they are given, each the owner of a mailbox. */
  readonly members?: readonly Member[];
}

/** What a mail server says beside the mail itself. */
interface Envelope {
  readonly from?: string;
  readonly mail?: string;
  readonly rcpt?: string;
}

/** One gateway whose mail comes in by it. */
export interface Post {
  readonly port: number;
  readonly broker: CountedClient;
  readonly journal: FragileJournal;
  readonly heard: HeardLog;
  readonly config: GatewayConfig;
  readonly doors: InboundDoors;
  /** A client that was greeted and has said LHLO or EHLO; `features` has the answer. */
  enter(): Promise<{ talk: Talk; features: string }>;
  /** Hands a mail over as a mail server would. @returns the last reply */
  bring(to: string, mail: Buffer | string, envelope?: Envelope): Promise<string>;
  /** The next life of the process, on the same journal. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** @param house undefined where no letter is opened */
export async function openPost(house: House | undefined, options: PostOptions): Promise<Post> {
  const { members = [], protocol = "lmtp", deliver } = options;
  const port = await freePort();
  const config = gatewaySchema.parse({
    name: "gateway.b.example",
    data: "nowhere",
    broker: { url: house?.url ?? "https://broker.example" },
    mailboxes: [{ address: "nobody@b.example" }, ...members.map(({ mailbox }) => ({ address: mailbox.address, ...options.mailbox }))],
    inbound: {
      listen: [{ address: `127.0.0.1:${port}`, protocol }],
      deliver: { host: "127.0.0.1", tls: "none", protocol: "lmtp", ...deliver },
      ...options.inbound,
    },
  });
  const journal = new FragileJournal(await temporaryFolder("journal"));
  await journal.prepare();
  const heard = house?.heard ?? heardLog();
  const [first] = members;
  const broker = first ? new CountedClient(first.gateway.channel) : (undefined as unknown as CountedClient);
  const walkOf: InboundDoorsParts["walkOf"] = (own) => ({
    broker,
    brokerUrl: config.broker.url,
    journal,
    log: heard.log,
    language: "en",
    name: config.name,
    own,
    elsewhere: new Elsewhere(),
    identity() {
      const member = members.find(({ mailbox }) => mailbox.key === own.address.key);
      if (!member) throw new Error("nobody's");
      return member.identity;
    },
    now: house?.now ?? (() => new Date()),
  });
  const nothing = async (): Promise<void> => undefined;
  let running = new Lifecycle();
  const open = async (): Promise<InboundDoors> => {
    const parts = {
      walkOf,
      log: heard.log,
      now: () => new Date(),
      onReport: options.onReport ?? nothing,
      onSigned: options.onSigned ?? nothing,
    };
    const opened = await openInboundDoors(config, parts, running);
    if (!opened) throw new Error("no doors");
    return opened;
  };
  let doors = await open();
  const post: Post = {
    port,
    broker,
    journal,
    heard,
    config,
    get doors() {
      return doors;
    },
    async enter() {
      const talk = await Talk.open(port);
      return { talk, features: await talk.say(protocol === "lmtp" ? "LHLO mx.b.example" : "EHLO mx.b.example") };
    },
    async bring(to, mail, { from = "alice@a.example", mail: mailWords = "", rcpt = "" } = {}) {
      const { talk } = await post.enter();
      try {
        for (const line of [`MAIL FROM:<${from}>${mailWords}`, `RCPT TO:<${to}>${rcpt}`]) {
          const reply = await talk.say(line);
          if (!reply.startsWith("250")) return reply;
        }
        return await talk.data(Buffer.from(mail).subarray(0, -2)); // its last CRLF is that before the dot
      } finally {
        talk.close();
      }
    },
    async restart() {
      await running.stop();
      running = new Lifecycle();
      doors = await open();
    },
    async stop() {
      await running.stop();
      await broker?.close();
    },
  };
  return post;
}

/** Mails in Dovecot's files, whole, with CRLF. */
export function mailsOf(dovecot: DovecotServer, user: string): Buffer[] {
  const folder = (part: string): string[] => {
    try {
      return readdirSync(join(dovecot.maildir(user), part)).map((name) => join(dovecot.maildir(user), part, name));
    } catch {
      return []; // nothing has come yet
    }
  };
  return [...folder("new"), ...folder("cur")].map((path) => toCrlf(readFileSync(path)));
}

/** Without the trace that mail servers put on top. */
export function withoutTrace(mail: Buffer): string {
  return mail.toString("latin1").replace(/^(?:(?:Return-Path|Delivered-To|Received):[^\r]*\r\n(?:[ \t][^\r]*\r\n)*)+/u, "");
}
