/** The broker put together from its configuration: what it makes once, what it refuses to start on, and that a failed start leaves nothing behind. */
import { chmodSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "@jest/globals";
import { stringify } from "yaml";
import { BrokerClient, enrolGateway } from "../../broker/client.ts";
import { initBroker, inviteGateway, issueServerCertificate, rootOf, rotateKey, startBroker } from "../../broker/main.ts";
import { loadBroker } from "../../config/load.ts";
import type { BrokerConfig } from "../../config/schema.ts";
import { parseMailbox } from "../../mime/address.ts";
import { parseCertificate } from "../../mime/certificate.ts";
import { newKey } from "../../mime/request.ts";
import { startHop } from "../gateway/hop.ts";
import { freePort } from "../servers/ports.ts";
import { temporaryFolder } from "../servers/process.ts";
import { heardLog } from "./happenings.ts";
import { DAY, forever, confirmAs, letterFrom, type House, type Member } from "./house.ts";

let config: BrokerConfig;
let folder: string;

async function configure(relayPort = 1): Promise<void> {
  folder = await temporaryFolder("main");
  const port = await freePort();
  const file = join(folder, "broker.yaml");
  const receipts = { from: "receipts@broker.example", relay: { host: "127.0.0.1", port: relayPort, tls: "none" }, retryFirst: "20ms" };
  writeFileSync(file, stringify({ url: `https://127.0.0.1:${port}`, listen: `127.0.0.1:${port}`, data: "data", receipts }));
  config = loadBroker(file);
}

const init = () => initBroker(config.data, { url: config.url, receiptsFrom: config.receipts.from, now: new Date() });

beforeEach(() => configure());

test("init makes keys for their owner only, certificates for everyone, and is done once", async () => {
  await init();
  expect(statSync(config.data).mode & 0o777).toBe(0o700);
  for (const name of readdirSync(config.data)) {
    const secret = name.includes(".key");
    expect([name, (statSync(join(config.data, name)).mode & 0o777).toString(8)]).toEqual([name, secret ? "600" : "644"]);
  }
  const before = readdirSync(config.data).map((name) => readFileSync(join(config.data, name), "latin1"));
  await expect(init()).rejects.toMatchObject({ code: "forbidden" });
  expect(readdirSync(config.data).map((name) => readFileSync(join(config.data, name), "latin1"))).toEqual(before);
});

test("the signing certificate names the broker and the address receipts come from; the server's names the host", async () => {
  await init();
  const certificate = (name: string) => parseCertificate(readFileSync(join(config.data, name)));
  expect(certificate("signing.crt.pem")).toMatchObject({ uris: [config.url], mailboxes: ["receipts@broker.example"] });
  expect(certificate("server.crt.pem").x509.checkIP("127.0.0.1")).toBe("127.0.0.1");
  expect(certificate("session.crt.pem").mailboxes).toEqual([]);
});

test.each(["https://broker.example:8443", "https://127.0.0.1:8443", "https://[::1]:8443"])(
  "the server's certificate is good for %s",
  async (url) => {
    await initBroker(config.data, { url, receiptsFrom: config.receipts.from, now: new Date() });
    const { x509 } = parseCertificate(readFileSync(join(config.data, "server.crt.pem")));
    const host = new URL(url).hostname.replace(/^\[|\]$/gu, "");
    expect(x509.checkHost(host) ?? x509.checkIP(host)).toBe(host);
  },
);

describe("does not start, says why, and leaves its port free", () => {
  test.each<[string, () => Promise<void> | void, RegExp]>([
    ["on a folder without keys", () => rmSync(join(config.data, "signing.crt.pem")), /run "kakitome init broker" first/u],
    ["on a key that others can read", () => chmodSync(join(config.data, "root.key.pem"), 0o644), /root\.key\.pem can be read by others/u],
    [
      "on a master key of another length",
      () => writeFileSync(join(config.data, "master.key"), "c0ffee\n"),
      /master key must have 32 octets/u,
    ],
    ["on an empty key", () => writeFileSync(join(config.data, "session.key.pem"), ""), /session\.key\.pem is empty/u],
    ["on a table that is none", () => writeFileSync(join(config.data, "table.db"), "x".repeat(5_000)), /./u],
  ])("%s", async (_why, spoil, words) => {
    await init();
    await spoil();
    await expect(startBroker(config, heardLog().log)).rejects.toThrow(words);
    const server = createServer();
    await new Promise<void>((resolve, reject) => server.once("error", reject).listen(config.listen.port, "127.0.0.1", resolve));
    await new Promise((resolve) => server.close(resolve));
  });

  test("on a port that is taken", async () => {
    await init();
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(config.listen.port, "127.0.0.1", resolve));
    await expect(startBroker(config, heardLog().log)).rejects.toThrow(/EADDRINUSE/u);
    await new Promise((resolve) => server.close(resolve));
    const started = await startBroker(config, heardLog().log); // nothing of the failed start holds the table
    await started.stop();
  });
});

/** A broker that runs, with a next hop, and Alice enrolled with it through a gateway of her own. */
async function openAlice() {
  const hop = await startHop();
  await configure(hop.port);
  await init();
  const heard = heardLog();
  const started = await startBroker(config, heard.log);
  const { token } = await inviteGateway(config, ["a.example"], new Date());
  const key = newKey();
  const enrolled = await enrolGateway({ url: config.url, fingerprint: rootOf(config).fingerprint, token, name: "gw", key }, forever);
  const now = (): Date => new Date();
  const channel = { url: config.url, ...enrolled, key, timeout: 5_000, now };
  const client = new BrokerClient(channel);
  const [signingKey, encryptionKey] = [newKey(), newKey()];
  const mailbox = parseMailbox("alice@a.example");
  const { signing, encryption } = await client.enrolMailbox({ address: mailbox, aliases: [], signingKey, encryptionKey }, forever);
  const identity = { signer: { key: signingKey, certificate: signing }, openers: [{ key: encryptionKey, certificate: encryption }] };
  const house = { now, url: config.url, broker: { root: { certificate: rootOf(config) } } } as House;
  const alice = { mailbox, identity, gateway: { client } } as unknown as Member;
  return { hop, heard, started, token, client, identity, house, alice };
}

test("a whole letter through the configured broker, and its receipt mailed", async () => {
  const { hop, started, token, client, identity, house, alice } = await openAlice();
  const [grant] = await client.declare(letterFrom(house, alice, ["alice@a.example"]), identity, forever);
  const release = await client.present(grant?.ticket ?? Buffer.alloc(0), identity, forever);
  await confirmAs(house, alice, release);
  const [receipt] = await hop.attempts.until(() => true);
  expect([receipt?.from, receipt?.to]).toEqual(["", ["alice@a.example"]]);
  await client.close();
  await started.stop();
  await hop.close();
  const stored = readdirSync(config.data)
    .filter((name) => name.startsWith("table.db"))
    .map((name) => readFileSync(join(config.data, name), "latin1"))
    .join("");
  expect(stored).not.toContain(token);
});

test("a ticket opens after its session key was rotated, and new tickets are sealed to the new one", async () => {
  const { hop, heard, started, client, identity, house, alice } = await openAlice();
  const [grant] = await client.declare(letterFrom(house, alice, ["alice@a.example"]), identity, forever);
  const former = readFileSync(join(config.data, "session.crt.pem"), "utf8");
  await started.stop();
  const { fingerprint } = await rotateKey(config, "session", new Date());
  const again = await startBroker(config, heard.log);
  const release = await client.present(grant?.ticket ?? Buffer.alloc(0), identity, forever);
  await confirmAs(house, alice, release);
  const [next] = await client.declare(letterFrom(house, alice, ["alice@a.example"]), identity, forever);
  const serials = [former, readFileSync(join(config.data, "session.crt.pem"), "utf8")].map((pem) => parseCertificate(pem).serial);
  expect([grant, next].map((one) => serials.findIndex((serial) => one?.ticket.includes(serial)))).toEqual([0, 1]);
  expect(parseCertificate(readFileSync(join(config.data, "session.crt.pem"))).fingerprint).toBe(fingerprint);
  await hop.attempts.until(() => true);
  await client.close();
  await again.stop();
  await hop.close();
});

test("a key and a certificate that do not belong together are refused with the mend", async () => {
  await init();
  writeFileSync(join(config.data, "session.key.pem"), newKey().export({ type: "pkcs8", format: "pem" }));
  await expect(startBroker(config, heardLog().log)).rejects.toThrow(/session\.key\.pem and session\.crt\.pem .* do not belong together/u);
});

test("a server certificate for a door is of the broker's root and not for longer than configured", async () => {
  await init();
  const { certificate } = await issueServerCertificate(config, ["127.0.0.1", "door.example"], new Date());
  const { x509, notAfter } = parseCertificate(certificate);
  expect(x509.checkHost("door.example")).toBe("door.example");
  expect(x509.checkIssued(rootOf(config).x509)).toBe(true);
  expect(notAfter.getTime()).toBeLessThanOrEqual(Date.now() + 365 * DAY);
});
