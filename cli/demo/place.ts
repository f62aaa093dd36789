/** Everything the demo needs on one machine: a broker, two offices with a gateway each, ordinary mail between them, mailboxes. */
import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { Writable } from "node:stream";
import { stringify } from "yaml";
import { inviteGateway, initBroker, issueServerCertificate, startBroker } from "../../broker/main.ts";
import { Lifecycle } from "../../config/lifecycle.ts";
import { loadBroker, loadGateway } from "../../config/load.ts";
import { createLog } from "../../config/log.ts";
import type { BrokerConfig, GatewayConfig } from "../../config/schema.ts";
import { enrol, hashPassword, startGateway } from "../../gateway/main.ts";
import { parseMailbox } from "../../mime/address.ts";
import type { Certificate } from "../../mime/certificate.ts";
import { startImapServer } from "./imap/server.ts";
import { MailStore } from "./imap/store.ts";
import { startNextHop } from "./next-hop.ts";

const LOOPBACK = "127.0.0.1";

export interface Office {
  readonly address: string;
  /** For AUTH at the gateway and for the mailbox. */
  readonly password: string;
  readonly config: GatewayConfig;
  readonly configFile: string;
  /** STARTTLS. */
  readonly smtpPort: number;
}

/** One line of the log, as it was written. */
export type LogLine = Readonly<Record<string, unknown>> & { readonly event?: string; readonly step?: string; readonly time?: string };

export interface Place {
  readonly alice: Office;
  readonly bob: Office;
  readonly store: MailStore;
  readonly broker: { readonly url: string; readonly root: Certificate; readonly caFile: string };
  readonly imapPort: number;
  readonly nextHopPort: number;
  stop(): Promise<void>;
}

export interface PlaceOptions {
  /** How Alice's letters travel. */
  readonly policy: object;
  /** Folder for keys, spools, journals and configurations. */
  readonly data: string;
  readonly onLog: (line: LogLine) => void;
  /** Sees every mail that travels. */
  readonly onMail: (recipient: string, mail: Buffer) => Promise<void>;
}

/** Finds a port that is free now. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, LOOPBACK, resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address ? address.port : 0;
}

/** Builds and starts everything. */
export async function startPlace(options: PlaceOptions): Promise<Place> {
  const running = new Lifecycle();
  const lines = new Writable({
    write(chunk: Buffer, _encoding, done) {
      for (const text of chunk.toString("utf8").split("\n").filter(Boolean)) options.onLog(JSON.parse(text) as LogLine);
      done();
    },
  });
  const log = createLog(lines);
  try {
    const store = new MailStore();
    const imap = await startImapServer({ store, host: LOOPBACK });
    running.onStop(() => imap.close());
    const nextHop = await startNextHop(store, options.onMail);
    running.onStop(() => nextHop.close());

    const url = `https://${LOOPBACK}:${await freePort()}`;
    const brokerConfig = await writeBroker(options.data, url, nextHop.port);
    const root = await initBroker(brokerConfig.data, { url, receiptsFrom: brokerConfig.receipts.from, now: new Date() });
    const broker = await startBroker(brokerConfig, log.with({ party: "broker" }));
    running.onStop(() => broker.stop());

    const openOffice = async (person: "alice" | "bob", domain: string): Promise<Office> => {
      const address = `${person}@${domain}`;
      const password = `${person}-${randomBytes(6).toString("hex")}`;
      store.addUser(address, password);
      const configFile = await writeGateway({
        folder: join(options.data, person),
        address,
        password,
        url,
        imapPort: imap.port,
        hopPort: nextHop.port,
        brokerConfig,
        policy: options.policy,
      });
      const config = loadGateway(configFile);
      const { token } = await inviteGateway(brokerConfig, [domain], new Date());
      await enrol(config, { fingerprint: root.fingerprint, token }, running.signal);
      const gateway = await startGateway(config, log.with({ party: person }));
      running.onStop(() => gateway.stop());
      return { address, password, config, configFile, smtpPort: gateway.ports[0] ?? 0 };
    };
    const alice = await openOffice("alice", "a.example");
    const bob = await openOffice("bob", "b.example");
    const caFile = join(brokerConfig.data, "ca.pem");
    return { alice, bob, store, broker: { url, root, caFile }, imapPort: imap.port, nextHopPort: nextHop.port, stop: () => running.stop() };
  } catch (thrown) {
    await running.stop();
    throw thrown;
  }
}

async function writeBroker(data: string, url: string, hopPort: number): Promise<BrokerConfig> {
  const folder = join(data, "broker");
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const file = join(folder, "broker.yaml");
  const receipts = { from: parseMailbox("registered-mail@broker.example").address, relay: { host: LOOPBACK, port: hopPort, tls: "none" } };
  writeFileSync(file, stringify({ url, listen: url.slice("https://".length), data: "data", table: "embedded", receipts }));
  return loadBroker(file);
}

async function writeGateway(office: {
  folder: string;
  address: string;
  password: string;
  url: string;
  imapPort: number;
  hopPort: number;
  brokerConfig: BrokerConfig;
  policy: object;
}): Promise<string> {
  const { folder, address, password } = office;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const name = `gateway.${address.split("@")[1]}`;
  const door = await issueServerCertificate(office.brokerConfig, [LOOPBACK, name], new Date());
  const put = (file: string, text: string): void => writeFileSync(join(folder, file), text, { mode: 0o600 });
  put("door.key.pem", door.key);
  put("door.crt.pem", door.certificate);
  put("imap.password", password);
  const file = join(folder, "gateway.yaml");
  writeFileSync(
    file,
    stringify({
      name,
      data: "data",
      broker: { url: office.url },
      submission: { listen: [{ address: `${LOOPBACK}:0`, tls: "starttls" }], certificate: "door.crt.pem", key: "door.key.pem" },
      users: [{ name: address, password: await hashPassword(password), identities: [address] }],
      mailboxes: [{ address, imap: { host: LOOPBACK, port: office.imapPort, tls: "none", user: address, passwordFile: "imap.password" } }],
      relay: { host: LOOPBACK, port: office.hopPort, tls: "none" },
      policy: office.policy,
      retry: { first: "1s" },
    }),
  );
  return file;
}
