/** A sending gateway with all of its parts: enrolled with a broker in this process, with one user, as the built command or in this process. */
import { createPublicKey } from "node:crypto";
import { readdirSync, watch, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { createRoot, issue } from "../../broker/authority.ts";
import { loadGateway } from "../../config/load.ts";
import type { Running } from "../../config/lifecycle.ts";
import { enrol, hashPassword, startGateway } from "../../gateway/main.ts";
import { newKey } from "../../mime/request.ts";
import { heardLog, type HeardLog } from "../broker/happenings.ts";
import { DAY, forever, type House } from "../broker/house.ts";
import { Talk } from "../gateway/talk.ts";
import { freePort } from "../servers/ports.ts";
import { temporaryFolder } from "../servers/process.ts";
import { startKakitome, type Process } from "../walks/kakitome.ts";

export const ALICE = "alice@a.example";
export const BOB = "bob@b.example";
const PASSWORD = "alice-secret";

export interface Sender {
  readonly config: string;
  readonly data: string;
  readonly spool: string;
  readonly port: number;
  /** Runs the built command until it is ready. */
  run(): Promise<Process>;
  /** Runs it in this process. @param now its clock */
  runHere(now?: () => Date): Promise<Running & { readonly heard: HeardLog }>;
  /** A client that is through STARTTLS and AUTH. */
  enter(): Promise<Talk>;
  /** Resolves when the names in the spool are so; those of finished letters are left out. */
  untilSpool(fits: (names: readonly string[]) => boolean): Promise<void>;
}

/** What a test wants otherwise. */
interface Changes {
  /** A folder that is there. */
  readonly data?: string;
  /** Of the relay. */
  readonly retry?: object;
  readonly policy?: object;
  readonly submission?: object;
  /** Of the one mailbox. */
  readonly aliases?: readonly string[];
}

/** @param hopPort of the next hop */
export async function prepareSender(house: House, hopPort: number, changes: Changes = {}): Promise<Sender> {
  const folder = await temporaryFolder("sender");
  const data = changes.data ?? join(folder, "data");
  const config = join(folder, "gateway.yaml");
  const port = await freePort();
  const ca = await writeDoorFiles(folder);
  const file = {
    name: "gateway.a.example",
    data,
    broker: { url: house.url },
    submission: {
      listen: [{ address: `127.0.0.1:${port}`, tls: "starttls" }],
      certificate: "door.crt.pem",
      key: "door.key.pem",
      ...changes.submission,
    },
    users: [{ name: ALICE, password: await hashPassword(PASSWORD), identities: [ALICE] }],
    mailboxes: [{ address: ALICE, aliases: changes.aliases ?? [] }],
    relay: { host: "127.0.0.1", port: hopPort, tls: "none" },
    retry: { first: "50ms", longest: "200ms", ...changes.retry },
    policy: changes.policy ?? {},
  };
  writeFileSync(config, stringify(file));
  const { fingerprint } = house.broker.root.certificate;
  await enrol(loadGateway(config), { fingerprint, token: await house.invite("a.example") }, forever);
  let isEnrolled = false;
  const enrolled = ({ event }: { readonly event?: string }): boolean => isEnrolled || event === "mailbox.enrolled";
  const sender: Sender = {
    config,
    data,
    spool: join(data, "spool"),
    port,
    async run() {
      const running = startKakitome(["gateway", "run", "--config", config]);
      await running.until("gateway.started", ({ event }) => event === "gateway.started");
      await running.until("mailbox.enrolled", enrolled);
      isEnrolled = true;
      return running;
    },
    async runHere(now) {
      const heard = heardLog();
      const running = await startGateway(loadGateway(config), heard.log, now);
      await heard.lines.until(enrolled);
      isEnrolled = true;
      return { heard, stop: () => running.stop() };
    },
    async enter() {
      const talk = await Talk.open(port);
      await talk.say("EHLO client.example");
      await talk.secure(ca);
      const answer = await talk.login(ALICE, PASSWORD);
      if (!answer.startsWith("235")) throw new Error(`not let in: ${answer}`);
      return talk;
    },
    untilSpool: (fits) =>
      new Promise((resolve) => {
        const look = (): void => {
          if (!fits(readdirSync(sender.spool).filter((name) => !name.endsWith(".done")))) return;
          watcher.close();
          resolve();
        };
        const watcher = watch(sender.spool, look);
        look();
      }),
  };
  return sender;
}

/** A door's certificate for the loopback. @returns its authority, PEM */
async function writeDoorFiles(folder: string): Promise<string> {
  const [from, until] = [new Date(Date.now() - DAY), new Date(Date.now() + DAY)];
  const root = await createRoot("Door root", from, until);
  const key = newKey();
  const order = { profile: "server" as const, publicKey: createPublicKey(key), commonName: "door", hosts: ["127.0.0.1"] };
  const certificate = await issue(root, { ...order, notBefore: from, notAfter: until });
  writeFileSync(join(folder, "door.crt.pem"), certificate.pem);
  writeFileSync(join(folder, "door.key.pem"), key.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
  return root.certificate.pem;
}

/** A message whose name is its Message-ID and its subject. */
export function letter(name: string, more = ""): string {
  return `From: ${ALICE}\r\nTo: ${BOB}\r\nSubject: ${name}\r\nMessage-ID: <${name}@a.example>\r\n\r\nThe text of ${name}.\r\n${more}`;
}

/** One transaction on a connection. @param recipients Bob, where none is named. @returns the final reply, or the first that refused */
export async function submit(talk: Talk, message: string, ...recipients: readonly string[]): Promise<string> {
  const to = recipients.length > 0 ? recipients : [BOB];
  for (const line of [`MAIL FROM:<${ALICE}>`, ...to.map((recipient) => `RCPT TO:<${recipient}>`)]) {
    const answer = await talk.say(line);
    if (answer.startsWith("250")) continue;
    await talk.say("RSET");
    return answer;
  }
  return talk.data(message);
}

/** The Message-ID of a mail, without its brackets and domain. */
export function nameOf(mail: Buffer): string {
  return /^Message-ID: <([^@>]+)@/imu.exec(mail.toString("latin1"))?.[1] ?? "";
}
