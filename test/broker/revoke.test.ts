/** Revocation: it counts from the next request on, also over a connection that is open, and the list that says so verifies with stock OpenSSL (RFC 5280 §5). */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { revocationList } from "../../broker/authority.ts";
import { revoke, type Revocable } from "../../broker/revoke.ts";
import { parseMailbox } from "../../mime/address.ts";
import { serialOf } from "../../mime/certificate.ts";
import { parseRevocationList, type RevocationReason } from "../../mime/crl.ts";
import { newKey } from "../../mime/request.ts";
import { holder } from "../mime/parties.ts";
import { temporaryFolder } from "../servers/process.ts";
import { call, confirmAs, declaredTo, faceOf, forever, letterFrom, openHouse, proofBy, signedBy, ticketOf, type House } from "./house.ts";

let house: House;
let folder: string;
let count = 0;

beforeAll(async () => {
  house = await openHouse();
  folder = await temporaryFolder("revoke");
});
afterAll(() => house?.stop());

/** A gateway with one mailbox, of a domain of its own. */
async function newcomer(name: string) {
  const domain = `${name}${count++}.example`;
  const gateway = await house.gateway(domain);
  return { domain, gateway, member: await gateway.enrol(`someone@${domain}`) };
}

const revokeNow = (what: Revocable, reason: RevocationReason = "unspecified") => revoke(house.table, what, reason, house.now(), "test");
const crl = async () => (await call(house, undefined, "/v1/crl", { method: "GET" })).body;
/** Past the second in which one list is made at most. */
const freshList = async () => {
  house.pass(1_000);
  return parseRevocationList(await crl(), [house.broker.root.certificate]);
};

test("a gateway that is revoked in mid-connection is refused at its next request over that very connection", async () => {
  const sender = await newcomer("a");
  const { gateway, member } = await newcomer("mid");
  const ticket = (await ticketOf(house, sender.member, member.mailbox.address)).toString("base64");
  const { certificate, key } = gateway.channel;
  const tls = {
    ca: house.broker.root.certificate.pem,
    cert: certificate.pem,
    key: key.export({ type: "pkcs8", format: "pem" }).toString(),
  };
  const agent = new Agent({ ...tls, keepAlive: true, maxSockets: 1 });
  const present = () =>
    new Promise<{ status: number; port: number | undefined }>((resolve, reject) => {
      const sent = request(new URL("/v1/present", house.url), { method: "POST", agent }, (response) => {
        const port = response.socket.localPort;
        response.resume().on("end", () => resolve({ status: response.statusCode ?? 0, port }));
      });
      sent.on("error", reject).end(signedBy(house, member, "present", { ticket }));
    });
  const before = await present();
  await revokeNow({ gateway: certificate.fingerprint });
  const after = await present();
  agent.destroy();
  expect([before.status, after.status]).toEqual([200, 401]);
  expect(after.port).toBe(before.port);
});

test("a revoked gateway gets the answer of one that was never enrolled", async () => {
  const { gateway } = await newcomer("gone");
  await revokeNow({ gateway: gateway.channel.certificate.fingerprint });
  const key = newKey();
  const { certificate } = await holder(house.broker.root, "channel", [], { key });
  const ask = (channel: { certificate: typeof certificate; key: typeof key }) =>
    call(house, channel, "/v1/directory/someone@nowhere.example", { method: "GET" });
  expect(faceOf(await ask(gateway.channel))).toBe(faceOf(await ask({ certificate, key })));
});

test("a revoked gateway learns nothing of what is wrong with its body", async () => {
  const { gateway, member } = await newcomer("body");
  await revokeNow({ gateway: gateway.channel.certificate.fingerprint });
  const faces = [];
  for (const body of [signedBy(house, member, "present", { ticket: "AAAA" }), Buffer.from("no CMS"), Buffer.alloc(0)])
    faces.push(faceOf(await call(house, gateway.channel, "/v1/present", { body })));
  expect(new Set(faces).size).toBe(1);
  expect(faces[0]).toContain("urn:kakitome:fault:unauthenticated");
});

test("a revoked mailbox's signed bodies get the answer of a foreign one, at every step", async () => {
  const [foreign, own] = [await newcomer("foreign"), await newcomer("own")];
  const intruder = { ...foreign.member, gateway: own.gateway };
  await revokeNow({ mailbox: own.member.mailbox.address }, "key-compromise");
  for (const [path, step] of [
    ["/v1/declare", "declare"],
    ["/v1/present", "present"],
    ["/v1/confirm", "confirm"],
  ] as const) {
    const faces = [];
    for (const member of [own.member, intruder])
      faces.push(faceOf(await call(house, own.gateway.channel, path, { body: signedBy(house, member, step, {}) })));
    expect(faces[0]).toBe(faces[1]);
    expect(faces[0]).toContain("urn:kakitome:fault:forbidden");
  }
});

describe.each([
  ["its mailbox", (name: Awaited<ReturnType<typeof newcomer>>): Revocable => ({ mailbox: name.member.mailbox.address })],
  ["its gateway", (name): Revocable => ({ gateway: name.gateway.channel.certificate.fingerprint })],
  ["its encryption certificate alone", (name): Revocable => ({ serial: serialOf(name.member.identity.openers[0]!.certificate) })],
] as [string, (name: Awaited<ReturnType<typeof newcomer>>) => Revocable][])("a recipient, %s revoked,", (_what, revocable) => {
  test("has no certificate in the directory, and no letter can be declared to it", async () => {
    const [sender, recipient] = [await newcomer("s"), await newcomer("r")];
    const { client } = sender.gateway;
    expect(await client.lookUp(recipient.member.mailbox, forever)).toBeDefined();
    await revokeNow(revocable(recipient));
    expect(await client.lookUp(recipient.member.mailbox, forever)).toBeUndefined();
    const declared = client.declare(letterFrom(house, sender.member, [recipient.member.mailbox.address]), sender.member.identity, forever);
    await expect(declared).rejects.toMatchObject({ code: "no-certificate" });
  });
});

test("a revoked mailbox enrols anew with other keys and works; with the revoked keys it does not", async () => {
  const [sender, { gateway, member }] = [await newcomer("s"), await newcomer("again")];
  await revokeNow({ mailbox: member.mailbox.address }, "key-compromise");
  const withOldKeys = gateway.client.enrolMailbox(
    { address: member.mailbox, aliases: [], signingKey: member.identity.signer.key, encryptionKey: newKey() },
    forever,
  );
  const folder = `keys/${encodeURIComponent(member.mailbox.key)}`; // as the gateway names it
  await expect(withOldKeys).rejects.toMatchObject({ code: "forbidden", advice: expect.stringContaining(`(${folder})`) });
  const renewed = await gateway.enrol(member.mailbox.address);
  const release = await gateway.client.present(await ticketOf(house, sender.member, member.mailbox.address), renewed.identity, forever);
  expect((await confirmAs(house, renewed, release)).evidence).toBeDefined();
});

test("a receipt by a former certificate counts until that one is revoked: whoever verifies it later knows the revocation", async () => {
  const [sender, { gateway, member: former }] = [await newcomer("s"), await newcomer("former")];
  const { address } = former.mailbox;
  const renewed = await gateway.enrol(address);
  const confirmed = async () => {
    const release = await gateway.client.present(await ticketOf(house, sender.member, address), renewed.identity, forever);
    return gateway.client.confirm(release.nextTicket, proofBy(house, former, release.commit), renewed.identity, forever);
  };
  expect((await confirmed()).evidence).toBeDefined();
  await revokeNow({ serial: serialOf(former.identity.signer.certificate) });
  await expect(confirmed()).rejects.toMatchObject({ code: "signature-invalid" });
});

test("the addresses of a revoked gateway can be invited to another one, and of one that is not they cannot", async () => {
  const { domain, gateway, member } = await newcomer("moving");
  const heir = await house.gateway(domain);
  await expect(heir.enrol(member.mailbox.address)).rejects.toMatchObject({ code: "forbidden" });
  await revokeNow({ gateway: gateway.channel.certificate.fingerprint }, "cessation-of-operation");
  const { identity } = await heir.enrol(member.mailbox.address);
  expect(identity.signer.certificate.mailboxes).toEqual([member.mailbox.key]);
});

test.each<[string, Revocable]>([
  ["a gateway that is not enrolled", { gateway: "ab".repeat(32) }],
  ["a mailbox that is not enrolled", { mailbox: "nobody@nowhere.example" }],
  ["an address that is none", { mailbox: "nobody" }],
  ["a serial number that is none", { serial: "xyz" }],
  ["a serial number of 21 octets", { serial: "ab".repeat(21) }],
])("%s cannot be revoked", async (_what, revocable) => {
  await expect(revokeNow(revocable)).rejects.toMatchObject({ code: "malformed" });
});

describe("the revocation list", () => {
  test("names every certificate of a revoked gateway with its time, and its number grows", async () => {
    const { gateway, member } = await newcomer("listed");
    const before = await freshList();
    const at = house.now();
    await revokeNow({ gateway: gateway.channel.certificate.fingerprint }, "key-compromise");
    const after = await freshList();
    const { signer, openers } = member.identity;
    for (const certificate of [gateway.channel.certificate, signer.certificate, openers[0]!.certificate]) {
      expect(before.revoked.has(serialOf(certificate))).toBe(false);
      expect(after.revoked.get(serialOf(certificate))?.getTime()).toBe(Math.floor(at.getTime() / 1_000) * 1_000);
    }
    expect(after.number).toBeGreaterThan(before.number);
    expect(after.nextUpdate.getTime() - after.thisUpdate.getTime()).toBe(7 * 86_400_000);
  });

  test("verifies with stock OpenSSL, with its number and reasons, and so does what is in it and what is not", async () => {
    const [bad, good] = [await newcomer("bad"), await newcomer("good")];
    await revokeNow({ mailbox: bad.member.mailbox.address }, "key-compromise");
    await freshList();
    const path = (name: string): string => join(folder, name);
    writeFileSync(path("ca.pem"), house.broker.root.certificate.pem);
    writeFileSync(path("crl.der"), await crl());
    writeFileSync(path("bad.pem"), bad.member.identity.signer.certificate.pem);
    writeFileSync(path("good.pem"), good.member.identity.signer.certificate.pem);
    const openssl = (...args: string[]): string => {
      try {
        return execFileSync("openssl", args, { encoding: "utf8", cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
      } catch (thrown) {
        return String((thrown as { stderr?: string }).stderr);
      }
    };
    const text = openssl("crl", "-inform", "DER", "-in", "crl.der", "-CAfile", "ca.pem", "-noout", "-text");
    expect(text).toMatch(/X509v3 CRL Number/u);
    expect(text).toMatch(/X509v3 Authority Key Identifier/u);
    expect(text).toMatch(/Key Compromise/u);
    execFileSync("openssl", ["crl", "-inform", "DER", "-in", "crl.der", "-CAfile", "ca.pem", "-noout"], { cwd: folder, stdio: "pipe" }); // exit 0: verified
    openssl("crl", "-inform", "DER", "-in", "crl.der", "-out", "crl.pem");
    // The clock of the house is some seconds ahead.
    const at = String(Math.floor(house.now().getTime() / 1_000) + 1);
    const check = (name: string): string =>
      openssl("verify", "-crl_check", "-attime", at, "-CAfile", "ca.pem", "-CRLfile", "crl.pem", name);
    expect(check("good.pem")).toBe("good.pem: OK\n");
    expect(check("bad.pem")).toMatch(/certificate revoked/u);
  });

  test("without anything in it verifies too, and after 2049 its times are written another way", async () => {
    const { root } = house.broker;
    const thisUpdate = new Date("2051-01-02T03:04:05Z");
    const nextUpdate = new Date("2051-02-02T03:04:05Z");
    const entries = [{ serial: "80", at: thisUpdate, reason: "unspecified" as const }];
    const [empty, late] = [
      await revocationList(root, { number: 1, thisUpdate, nextUpdate, entries: [] }),
      await revocationList(root, { number: 2, thisUpdate, nextUpdate, entries }),
    ];
    expect(parseRevocationList(empty, [root.certificate])).toEqual({ number: 1, thisUpdate, nextUpdate, revoked: new Map() });
    expect(parseRevocationList(late, [root.certificate]).revoked).toEqual(new Map([["80", thisUpdate]]));
    writeFileSync(join(folder, "empty.der"), empty);
    writeFileSync(join(folder, "root.pem"), root.certificate.pem);
    execFileSync("openssl", ["crl", "-inform", "DER", "-in", "empty.der", "-CAfile", "root.pem", "-noout"], { cwd: folder, stdio: "pipe" });
  });

  test("is given to who shows no certificate", async () => {
    const answer = await call(house, undefined, "/v1/crl", { method: "GET" });
    expect([answer.status, answer.headers["content-type"]]).toEqual([200, "application/pkix-crl"]);
  });
});

test("what a mailbox declared before it was revoked can still be opened: the letter was good when it was sent", async () => {
  const [sender, recipient] = [await newcomer("before"), await newcomer("r")];
  const ticket = await ticketOf(house, sender.member, recipient.member.mailbox.address);
  await revokeNow({ mailbox: sender.member.mailbox.address });
  const { declaredAt, sender: declarer } = await recipient.gateway.client.present(ticket, recipient.member.identity, forever);
  expect(declarer).toEqual(parseMailbox(sender.member.mailbox.address));
  expect(declaredAt.getTime()).toBeLessThanOrEqual(house.now().getTime());
  expect(() => declaredTo(house, sender.member, "x@y.example")).not.toThrow();
});
