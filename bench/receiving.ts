/** The recipient's side on this machine: Dovecot's mailboxes, a gateway that watches them by IMAP over TLS, and a sender whose letters are sealed here. */
import { chownSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ImapFlow } from "imapflow";
import { stringify } from "yaml";
import { parseMailbox } from "../mime/address.ts";
import { startDovecot, type DovecotServer } from "../test/servers/dovecot.ts";
import { temporaryFolder } from "../test/servers/process.ts";
import { startRedis } from "../test/servers/redis.ts";
import { must, startKakitome, type Process } from "../test/walks/kakitome.ts";
import { atRedis, startBroker } from "./broker.ts";
import { enrolHere } from "./enrolled.ts";
import { sealedLetters, type Sealed } from "./sealed.ts";
import { startSink, type Sink } from "./sink.ts";

export const PASSWORD = "bench-secret";

export interface ReceivingPlace {
  readonly dovecot: DovecotServer;
  /** Where receipts go. */
  readonly sink: Sink;
  /** A gateway with these mailboxes, enrolled; each call makes another one. */
  gateway(name: string, addresses: readonly string[]): ReceivingGateway;
  /** Letters of Alice to a mailbox that is enrolled. */
  letters(to: string, order: { count: number; octets: number }): Promise<Sealed[]>;
  stop(): Promise<void>;
}

export interface ReceivingGateway {
  /** @returns when every mailbox is watched. @param within milliseconds */
  start(within?: number): Promise<Process>;
}

/** A bare client with a folder open, over TLS as the gateway's. */
export async function openInbox({ dovecot }: Pick<ReceivingPlace, "dovecot">, user: string): Promise<ImapFlow> {
  const client = new ImapFlow({
    host: "127.0.0.1",
    port: dovecot.imapsPort,
    secure: true,
    tls: { ca: readFileSync(dovecot.ca) },
    auth: { user, pass: PASSWORD },
    logger: false,
    disableAutoIdle: true,
  });
  client.on("error", () => undefined);
  await client.connect();
  await client.mailboxOpen("INBOX");
  return client;
}

/** Puts letters into an inbox that Dovecot has made, as a delivery into the Maildir would. */
export function putInto({ dovecot }: Pick<ReceivingPlace, "dovecot">, user: string, letters: readonly Sealed[]): void {
  const { uid, gid } = statSync(dovecot.maildir(user));
  for (const [at, { mail }] of letters.entries()) {
    const path = join(dovecot.maildir(user), "new", `${Math.floor(Date.now() / 1_000)}.M${at}P${process.pid}.bench.example`);
    writeFileSync(path, mail, { mode: 0o600 });
    chownSync(path, uid, gid);
  }
}

/** @param users addresses at Dovecot @param configuration lines of dovecot.conf */
export async function startReceiving(users: readonly string[], configuration = ""): Promise<ReceivingPlace> {
  const folder = await temporaryFolder("bench-receiving");
  const passwords = Object.fromEntries(users.map((user) => [user, PASSWORD]));
  const [redis, sink, dovecot] = await Promise.all([startRedis(), startSink(), startDovecot({ users: passwords, configuration })]);
  const broker = await startBroker({ ...atRedis(redis), relayPort: sink.port });
  const sender = await enrolHere(broker, "a.example");
  const alice = await sender.enrol("alice@a.example");
  writeFileSync(join(folder, "password"), PASSWORD, { mode: 0o600 });
  return {
    dovecot,
    sink,
    gateway(name, addresses) {
      const config = join(folder, `${name}.yaml`);
      const imap = { host: "127.0.0.1", port: dovecot.imapsPort, tls: "implicit", ca: dovecot.ca, passwordFile: "password" };
      const mailboxes = addresses.map((address) => ({ address, imap: { ...imap, user: address } }));
      writeFileSync(config, stringify({ name: `${name}.b.example`, data: name, broker: { url: broker.url }, mailboxes }));
      const { token, fingerprint } = broker.invite("b.example");
      must(["enrol", "--config", config, "--broker", broker.url, "--fingerprint", fingerprint, "--token", token]);
      let events = ["mailbox.enrolled", "mailbox.watched"];
      return {
        async start(within) {
          const gateway = startKakitome(["gateway", "run", "--config", config]);
          for (const event of events) {
            const missing = new Set<unknown>(addresses);
            await gateway.until(
              `${event} of all`,
              (log) => log.event === event && missing.delete(log["mailbox"]) && missing.size === 0,
              within,
            );
          }
          events = ["mailbox.watched"];
          return gateway;
        },
      };
    },
    letters: (to, order) => sealedLetters(sender, alice, { mailbox: parseMailbox(to) }, order),
    async stop() {
      await sender.client.close();
      await broker.stop();
      await Promise.all([redis.stop(), sink.stop(), dovecot.stop()]);
    },
  };
}
