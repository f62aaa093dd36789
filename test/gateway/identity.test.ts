/** A gateway's keys: an enrolment whose answer was lost is repeated with the same key, and a key that others can read is refused. */
import { createServer, connect, type Socket } from "node:net";
import { chmodSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { stringify } from "yaml";
import { loadGateway } from "../../config/load.ts";
import { Identities } from "../../gateway/identities.ts";
import { enrol, openChannel } from "../../gateway/identity.ts";
import { heardLog } from "../broker/happenings.ts";
import { forever, openHouse, type House } from "../broker/house.ts";
import { freePort } from "../servers/ports.ts";
import { temporaryFolder } from "../servers/process.ts";

let house: House;
/** Lets every octet to the broker through, and as many answers back as it is told. */
let line: { readonly close: () => void; answers: boolean; readonly lost: () => Promise<void> };

beforeAll(async () => {
  house = await openHouse(undefined, async (port) => {
    const front = await freePort();
    line = await fragileLine(front, port);
    return front;
  });
});
afterAll(async () => {
  await house?.stop();
  line?.close();
});

/** A line that swallows what comes back and breaks, once the broker has done what it was asked. */
async function fragileLine(front: number, back: number): Promise<typeof line> {
  const sockets = new Set<Socket>();
  const state = {
    answers: true,
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
    lost: async () => void (await house.heard.lines.until(({ event }) => event === "gateway.enrolled")),
  };
  const server = createServer((client) => {
    const broker = connect(back, "127.0.0.1");
    for (const socket of [client, broker]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
    }
    client.pipe(broker);
    let handshake = true;
    broker.on("data", (octets) => {
      // TLS 1.3 begins with the server's flight; the answer of the second connection comes after the client's request.
      if (state.answers || handshake) client.write(octets);
      if (client.bytesRead > 900) handshake = false;
    });
    client.on("close", () => broker.destroy());
    broker.on("close", () => client.destroy());
  });
  await new Promise<void>((resolve) => server.listen(front, "127.0.0.1", resolve));
  return state;
}

async function configured(domain: string) {
  const folder = await temporaryFolder("identity");
  const file = join(folder, "gateway.yaml");
  const broker = { url: house.url, timeout: "5s" };
  writeFileSync(file, stringify({ name: `gateway.${domain}`, data: "data", broker, mailboxes: [{ address: `someone@${domain}` }] }));
  return { config: loadGateway(file), keys: join(folder, "data", "keys") };
}
const invitation = async (domain: string) => ({
  fingerprint: house.broker.root.certificate.fingerprint,
  token: await house.invite(domain),
});

test("an enrolment whose answer was lost is repeated with the same token: the broker has one gateway, and it works", async () => {
  const { config, keys } = await configured("lost.example");
  const order = await invitation("lost.example");
  const before = (await house.table.gateways()).length;
  const stopping = new AbortController();
  line.answers = false;
  const first = enrol(config, order, stopping.signal);
  const failed = expect(first).rejects.toMatchObject({ code: "unavailable" });
  await line.lost();
  stopping.abort();
  await failed;
  line.answers = true;
  expect(readdirSync(keys)).toEqual(["gateway.key.pem"]);
  expect(statSync(join(keys, "gateway.key.pem")).mode & 0o777).toBe(0o600);
  const certificate = await enrol(config, order, forever);
  expect((await house.table.gateways()).length).toBe(before + 1);
  expect(readFileSync(join(keys, "gateway.crt.pem"), "utf8")).toBe(certificate.pem);
  const { broker } = await openChannel(config, heardLog().log, house.now);
  await expect(broker.lookUp(config.mailboxes[0]!.address, forever)).resolves.toBeUndefined();
  await broker.close();
});

test("the channel's key that others can read is refused", async () => {
  const { config, keys } = await configured("channel.example");
  await enrol(config, await invitation("channel.example"), forever);
  chmodSync(join(keys, "gateway.key.pem"), 0o640);
  await expect(openChannel(config, heardLog().log, house.now)).rejects.toThrow(/gateway\.key\.pem can be read by others/u);
});

test.each(["signing", "encryption"])("a mailbox's %s key that others can read is refused, with its certificate and before", async (use) => {
  const domain = `${use}.example`;
  const { config, keys } = await configured(domain);
  await enrol(config, await invitation(domain), forever);
  const heard = heardLog();
  const { broker } = await openChannel(config, heard.log, house.now);
  await new Identities(config, heard.log).prepare(broker, forever);
  const folder = join(keys, encodeURIComponent(`someone@${domain}`));
  chmodSync(join(folder, `${use}.key.pem`), 0o644);
  for (const hasCertificate of [true, false]) {
    if (!hasCertificate) rmSync(join(folder, "signing.crt.pem"));
    const [stopping, said] = [new AbortController(), heardLog()];
    const preparing = new Identities(config, said.log).prepare(broker, stopping.signal);
    const [refused] = await said.lines.until(({ event }) => event === "mailbox.not-enrolled");
    stopping.abort();
    await preparing;
    expect(refused?.["reason"]).toMatch(/key\.pem can be read by others/u);
  }
  await broker.close();
});
