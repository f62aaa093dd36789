/** The broker's client: it believes only the broker whose root it enrolled with, and waits no longer than it was told. */
import { createPublicKey } from "node:crypto";
import { createServer } from "node:https";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { createRoot, issue, type Profile } from "../../broker/authority.ts";
import { BrokerClient } from "../../broker/client.ts";
import { SIGNED_TYPE, signBody } from "../../broker/wire.ts";
import { newKey } from "../../mime/request.ts";
import type { Signer } from "../../mime/sign.ts";
import { freePort } from "../servers/ports.ts";
import { DAY, forever, letterFrom, openHouse, ticketOf, type House, type Member } from "./house.ts";

let house: House;
let alice: Member;
let bob: Member;
const running: (() => Promise<void>)[] = [];

beforeAll(async () => {
  house = await openHouse();
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  bob = await (await house.gateway("b.example")).enrol("bob@b.example");
});
afterEach(async () => {
  for (let stop = running.pop(); stop; stop = running.pop()) await stop();
});
afterAll(() => house?.stop());

async function own(root: Signer, profile: Profile, url?: string): Promise<Signer> {
  const key = newKey();
  const times = { notBefore: new Date(Date.now() - DAY), notAfter: new Date(Date.now() + DAY) };
  const order = {
    profile,
    publicKey: createPublicKey(key),
    commonName: "fake",
    hosts: profile === "server" ? ["127.0.0.1"] : [],
    ...times,
  };
  return { key, certificate: await issue(root, { ...order, ...(url !== undefined && { url }) }) };
}

/** Another HTTPS server that answers everything in one way, and a client of it with Alice's channel. */
async function fakeBroker(root: Signer, answer: (url: string) => Promise<{ status?: number; body: Buffer | string } | undefined>) {
  const server = await own(root, "server");
  const port = await freePort();
  const url = `https://127.0.0.1:${port}`;
  const key = server.key.export({ type: "pkcs8", format: "pem" }).toString();
  const listening = createServer({ key, cert: server.certificate.pem, minVersion: "TLSv1.3" }, (request, response) => {
    request.resume();
    request.on("end", () => {
      void answer(url).then((given) => given && response.writeHead(given.status ?? 200, { "content-type": SIGNED_TYPE }).end(given.body));
    });
  });
  await new Promise<void>((resolve) => listening.listen(port, "127.0.0.1", () => resolve()));
  const client = new BrokerClient({ ...alice.gateway.channel, url, timeout: 300 });
  running.push(async () => {
    await client.close();
    listening.closeAllConnections();
    await new Promise((resolve) => listening.close(resolve));
  });
  return client;
}

const PROOF = { receipt: Buffer.from("receipt"), openingValue: undefined };
const foreignRoot = () => createRoot("Foreign", new Date(Date.now() - DAY), new Date(Date.now() + DAY));

describe("a fake broker", () => {
  test("with another root is not even asked: the client refuses its TLS certificate", async () => {
    let asked = 0;
    const client = await fakeBroker(await foreignRoot(), async () => {
      asked++;
      return { body: "" };
    });
    const order = letterFrom(house, alice, ["bob@b.example"]);
    await expect(client.declare(order, alice.identity, forever)).rejects.toMatchObject({ code: "unavailable" });
    expect(asked).toBe(0);
  });

  test.each<[string, (url: string) => Promise<Signer>]>([
    ["a mailbox of the same root", async () => bob.identity.signer],
    ["a signer of another root that calls itself the broker", async (url) => own(await foreignRoot(), "broker-signing", url)],
    ["the broker's signer of another address", async () => house.broker.signer],
    ["a signer of the root that names no broker", async () => own(house.broker.root, "broker-signing")],
  ])("whose answers are signed by %s is refused", async (_why, signer) => {
    const client = await fakeBroker(house.broker.root, async (url) => ({
      body: signBody({ request: "x", evidence: "e", confirmedAt: new Date().toISOString() }, await signer(url), new Date()),
    }));
    await expect(client.confirm(Buffer.from("next"), PROOF, alice.identity, forever)).rejects.toMatchObject({ code: "signature-invalid" });
  });

  test("that repeats a genuine answer to another request is refused", async () => {
    const client = await fakeBroker(house.broker.root, async (url) => ({
      body: signBody(
        { request: "another request", evidence: "e", confirmedAt: new Date().toISOString() },
        await own(house.broker.root, "broker-signing", url),
        new Date(),
      ),
    }));
    await expect(client.confirm(Buffer.from("next"), PROOF, alice.identity, forever)).rejects.toMatchObject({ code: "internal" });
  });

  test.each([
    ["words", { body: "hello" }, "malformed"],
    ["nothing", { body: "" }, "malformed"],
    ["a page of a proxy", { status: 502, body: "<html>Bad gateway</html>" }, "unavailable"],
    ["a redirection, which is not followed", { status: 302, body: "" }, "unavailable"],
    ["a problem of no fault", { status: 404, body: '{"type":"about:blank"}' }, "unavailable"],
    ["more than four times the largest body", { body: Buffer.alloc((4 << 20) + 1) }, "unavailable"],
  ])("that answers %s makes one fault", async (_why, answer, code) => {
    const client = await fakeBroker(house.broker.root, async () => answer);
    await expect(client.confirm(Buffer.from("next"), PROOF, alice.identity, forever)).rejects.toMatchObject({ code });
  });

  test("that never answers is unavailable after the timeout", async () => {
    const client = await fakeBroker(house.broker.root, async () => undefined);
    await expect(client.ready(forever)).rejects.toMatchObject({ code: "unavailable" });
  });

  test("that never answers is left when the signal aborts", async () => {
    const stopping = new AbortController();
    let asked = (): void => undefined;
    const reached = new Promise<void>((resolve) => (asked = resolve));
    const client = await fakeBroker(house.broker.root, async () => {
      asked();
      return undefined;
    });
    const ended = expect(client.ready(stopping.signal)).rejects.toMatchObject({ code: "unavailable" });
    await reached;
    stopping.abort();
    await ended;
  });
});

test("a broker that is not there is unavailable", async () => {
  const client = new BrokerClient({ ...alice.gateway.channel, url: `https://127.0.0.1:${await freePort()}` });
  await expect(client.ready(forever)).rejects.toMatchObject({ code: "unavailable", retry: "later" });
  await client.close();
});

test("an answer that is sealed to a certificate which is not here is asked for again: the next one may come in a moment", async () => {
  const ticket = await ticketOf(house, alice, "bob@b.example");
  const late = { signer: bob.identity.signer, openers: alice.identity.openers };
  await expect(bob.gateway.client.present(ticket, late, forever)).rejects.toMatchObject({ code: "unavailable", retry: "later" });
  const release = await bob.gateway.client.present(ticket, bob.identity, forever);
  expect(release.recipient.key).toBe("bob@b.example");
  release.key?.wipe();
});

test("after close every call is unavailable", async () => {
  const client = new BrokerClient(alice.gateway.channel);
  await client.ready(forever);
  await client.close();
  await expect(client.ready(forever)).rejects.toMatchObject({ code: "unavailable" });
});
