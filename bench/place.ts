/** The sender's side on this machine: a broker on Redis with `appendfsync always`, a gateway, a sink behind it; every process is the built command. */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { Talk } from "../test/gateway/talk.ts";
import { freePort } from "../test/servers/ports.ts";
import { temporaryFolder } from "../test/servers/process.ts";
import { startRedis } from "../test/servers/redis.ts";
import { must, startKakitome } from "../test/walks/kakitome.ts";
import { atRedis, startBroker } from "./broker.ts";
import { inTheClear, type Target } from "./load.ts";
import { startSink, type Sink } from "./sink.ts";

const BOB = "bob@b.example";
const PASSWORD = "alice-secret";

export interface SendingPlace {
  readonly sink: Sink;
  readonly target: Target;
  /** Of all senders; the first one is `target`. */
  readonly targets: readonly Target[];
  /** The same people, from a network that needs no password, in the clear. */
  readonly trusted: Target;
  /** Of the gateway. */
  readonly pid: number;
  stop(): Promise<void>;
}

export interface SendingOrder {
  /** How many mailboxes send. */
  readonly senders: number;
  /** Processes of the gateway. */
  readonly workers: number;
}

export async function startSending({ senders, workers }: SendingOrder = { senders: 1, workers: 1 }): Promise<SendingPlace> {
  const people = ["alice@a.example", ...Array.from({ length: senders - 1 }, (_, at) => `alice${at + 2}@a.example`)];
  const folder = await temporaryFolder("bench");
  const [redis, sink] = await Promise.all([startRedis(), startSink()]);
  const broker = await startBroker({ ...atRedis(redis), relayPort: sink.port });
  const relay = { host: "127.0.0.1", port: sink.port, tls: "none" };

  const [port, plainPort] = [await freePort(), await freePort()];
  const gatewayFile = join(folder, "gateway.yaml");
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", join(folder, "door.key.pem")];
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"];
  execFileSync("openssl", ["req", "-x509", "-days", "2", ...key, "-out", join(folder, "door.crt.pem"), ...subject], { stdio: "ignore" });
  writeFileSync(
    gatewayFile,
    stringify({
      name: "gateway.a.example",
      data: "gateway",
      broker: { url: broker.url },
      submission: {
        listen: [
          { address: `127.0.0.1:${port}`, tls: "implicit" },
          { address: `127.0.0.1:${plainPort}`, tls: "starttls" },
        ],
        trustedNetworks: ["127.0.0.1"],
        certificate: "door.crt.pem",
        key: "door.key.pem",
        limits: { perMinute: 1_000_000 },
      },
      mailboxes: [...people, BOB].map((address) => ({ address })),
      workers,
      relay,
    }),
  );
  must(["user", "add", "alice", "--identity", ...people, "--config", gatewayFile], `${PASSWORD}\n`);
  const { token, fingerprint } = broker.invite("a.example", "b.example");
  must(["enrol", "--config", gatewayFile, "--broker", broker.url, "--fingerprint", fingerprint, "--token", token]);
  const gateway = startKakitome(["gateway", "run", "--config", gatewayFile]);
  for (const address of [...people, BOB]) {
    await gateway.until(address, (log) => log.event === "mailbox.enrolled" && log["mailbox"] === address);
  }
  await gateway.until("gateway.started", ({ event }) => event === "gateway.started");
  const ca = readFileSync(join(folder, "door.crt.pem"), "utf8");
  const targetOf = (from: string): Target => ({
    from,
    to: BOB,
    async connect() {
      const talk = await Talk.openTls(port, ca);
      await talk.say("EHLO client.a.example");
      const reply = await talk.login("alice", PASSWORD);
      if (!reply.startsWith("235")) throw new Error(reply);
      return talk;
    },
  });
  const [first = "", ...others] = people;
  const target = targetOf(first);
  return {
    sink,
    pid: gateway.pid,
    trusted: inTheClear(plainPort),
    target,
    targets: [target, ...others.map(targetOf)],
    async stop() {
      await gateway.stop();
      await broker.stop();
      await Promise.all([redis.stop(), sink.stop()]);
    },
  };
}
