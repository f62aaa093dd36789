/** Who asks: the channel is the gateway, the actor is the mailbox that signed; a signed body says it once, here and now (docs/protocol.md, section 6). */
import { createPublicKey } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { createRoot, issue } from "../../broker/authority.ts";
import { signBody } from "../../broker/wire.ts";
import type { Channel } from "../../broker/client.ts";
import { newKey } from "../../mime/request.ts";
import { sign, type Signer } from "../../mime/sign.ts";
import { DAY, MINUTE, call, faceOf, headOf, openHouse, signedBy, ticketOf, wordOf, type House, type Member } from "./house.ts";

let house: House;
let alice: Member;
let bob: Member;
let mallory: Member;
let ticket: string;

beforeAll(async () => {
  house = await openHouse();
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  bob = await (await house.gateway("b.example")).enrol("bob@b.example");
  mallory = await (await house.gateway("m.example")).enrol("mallory@m.example");
  ticket = (await ticketOf(house, alice, "bob@b.example")).toString("base64");
});
afterAll(() => house?.stop());

const present = (channel: Pick<Channel, "certificate" | "key"> | undefined, body: Buffer) => call(house, channel, "/v1/present", { body });

/** A certificate of this mailbox profile under some root. */
async function signerUnder(root: Signer, address: string): Promise<Signer> {
  const key = newKey();
  const certificate = await issue(root, {
    profile: "mailbox-signing",
    publicKey: createPublicKey(key),
    commonName: address,
    mailboxes: [{ ...bob.mailbox, address, key: address }],
    notBefore: new Date(Date.now() - DAY),
    notAfter: new Date(Date.now() + DAY),
  });
  return { key, certificate };
}

test("an honest presentation is answered, so that each refusal below has one reason", async () => {
  const { status } = await present(bob.gateway.channel, signedBy(house, bob, "present", { ticket }));
  expect(status).toBe(200);
});

describe("a signed body is refused", () => {
  test.each<[string, string, () => Promise<Buffer> | Buffer]>([
    ["that was signed for another broker", "forbidden", () => signedBy(house, bob, "present", { ticket, broker: "https://other.example" })],
    ["that names another gateway", "forbidden", () => signedBy(house, bob, "present", { ticket, gateway: "0".repeat(64) })],
    ["that is for another step", "malformed", () => signedBy(house, bob, "confirm", { nextTicket: ticket, result: "opened" })],
    ["that carries what this step does not know", "malformed", () => signedBy(house, bob, "present", { ticket, extra: true })],
    ["with a short request ID", "malformed", () => signedBy(house, bob, "present", { ticket, request: "short" })],
    ["without a time", "malformed", () => signedBy(house, bob, "present", { ticket, time: undefined })],
    ["of a mailbox of another gateway", "forbidden", () => signedBy(house, mallory, "present", { ticket })],
    [
      "by a certificate of our root that is not the enrolled one",
      "forbidden",
      async () =>
        signBody({ ...headOf(house, bob, "present"), ticket }, await signerUnder(house.broker.root, "bob@b.example"), house.now()),
    ],
    [
      "by a mailbox that never enrolled",
      "forbidden",
      async () =>
        signBody({ ...headOf(house, bob, "present"), ticket }, await signerUnder(house.broker.root, "eve@b.example"), house.now()),
    ],
    [
      "by a certificate of another root",
      "signature-invalid",
      async () => {
        const foreign = await createRoot("Foreign", new Date(Date.now() - DAY), new Date(Date.now() + DAY));
        return signBody({ ...headOf(house, bob, "present"), ticket }, await signerUnder(foreign, "bob@b.example"), house.now());
      },
    ],
    [
      "by the encryption key, which is not for signing",
      "signature-invalid",
      () => signBody({ ...headOf(house, bob, "present"), ticket }, bob.identity.openers[0]!, house.now()),
    ],
    [
      "whose content stands outside",
      "signature-invalid",
      () =>
        sign(Buffer.from(JSON.stringify({ ...headOf(house, bob, "present"), ticket })), bob.identity.signer, {
          time: house.now(),
          detached: true,
        }).der,
    ],
    [
      "by the broker's own signing certificate",
      "forbidden",
      () => signBody({ ...headOf(house, bob, "present"), ticket }, house.broker.signer, house.now()),
    ],
  ])("%s: %s", async (_why, word, make) => {
    const answer = await present(bob.gateway.channel, await make());
    expect(wordOf(answer)).toBe(word);
  });

  test("that is replayed through another gateway", async () => {
    const body = signedBy(house, bob, "present", { ticket });
    expect((await present(bob.gateway.channel, body)).status).toBe(200);
    expect(wordOf(await present(mallory.gateway.channel, body))).toBe("forbidden");
  });

  test.each([
    ["eleven minutes behind", -11],
    ["eleven minutes ahead", 11],
    ["a day behind", -1_440],
  ])("of a clock %s, with the broker's time as advice", async (_why, minutes) => {
    const time = new Date(house.now().getTime() + minutes * MINUTE).toISOString();
    const answer = await present(bob.gateway.channel, signedBy(house, bob, "present", { ticket, time }));
    expect(wordOf(answer)).toBe("unavailable");
    const { detail } = JSON.parse(answer.body.toString()) as { detail: string };
    expect(detail).toMatch(/^The broker's clock says \d{4}-\d\d-\d\dT[\d:.]+Z; set the gateway's clock\.$/u);
  });

  test.each([
    ["nine minutes behind", -9],
    ["nine minutes ahead", 9],
  ])("but one of a clock %s is taken", async (_why, minutes) => {
    const time = new Date(house.now().getTime() + minutes * MINUTE).toISOString();
    expect((await present(bob.gateway.channel, signedBy(house, bob, "present", { ticket, time }))).status).toBe(200);
  });
});

describe("the channel", () => {
  const stranger = async (root: Signer, profile: "channel" | "mailbox-signing", until = Date.now() + DAY) => {
    const key = newKey();
    const order = { profile, publicKey: createPublicKey(key), commonName: "gateway", notBefore: new Date(Date.now() - DAY) };
    return { key, certificate: await issue(root, { ...order, notAfter: new Date(until) }) };
  };
  const foreignRoot = () => createRoot("Foreign", new Date(Date.now() - DAY), new Date(Date.now() + DAY));

  test.each<[string, () => Promise<Pick<Channel, "certificate" | "key"> | undefined>]>([
    ["no client certificate", async () => undefined],
    ["a client certificate of a foreign authority", async () => stranger(await foreignRoot(), "channel")],
    ["a channel certificate of our root that was never enrolled", () => stranger(house.broker.root, "channel")],
    ["an expired channel certificate", () => stranger(house.broker.root, "channel", Date.now() - MINUTE)],
    ["a mailbox's signing certificate", async () => bob.identity.signer],
  ])("with %s is unauthenticated at every step, and the answers are the same", async (_why, make) => {
    const channel = await make();
    const faces = new Set<string>();
    for (const path of ["declare", "dispatched", "withdraw", "present", "confirm", "mailboxes"]) {
      const answer = await call(house, channel, `/v1/${path}`, { body: signedBy(house, bob, "present", { ticket }) });
      expect([path, answer.status, wordOf(answer)]).toEqual([path, 401, "unauthenticated"]);
      faces.add(faceOf(answer));
    }
    faces.add(faceOf(await call(house, channel, "/v1/directory/bob@b.example", { method: "GET" })));
    expect(faces.size).toBe(1);
  });

  test("may ask for the authority and whether the broker is ready without a certificate", async () => {
    const { pem } = house.broker.root.certificate;
    const authority = await call(house, undefined, "/v1/authority", { method: "GET" });
    expect(JSON.parse(authority.body.toString())).toEqual({ broker: house.url, root: pem, roots: [pem], links: [] });
    expect((await call(house, undefined, "/v1/ready", { method: "GET" })).status).toBe(200);
  });

  test("is looked at in every request: once its certificate expires, an open connection is no help", async () => {
    const gateway = await house.gateway("late.example");
    const late = await gateway.enrol("late@late.example");
    const { notAfter } = gateway.channel.certificate;
    house.pass(notAfter.getTime() - house.now().getTime() + MINUTE);
    try {
      await expect(gateway.client.lookUp(late.mailbox, new AbortController().signal)).rejects.toMatchObject({
        code: "unavailable",
        cause: { code: "unauthenticated" },
      });
    } finally {
      house.pass(Date.now() - house.now().getTime());
    }
  });
});
