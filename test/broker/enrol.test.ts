/** S0: one token enrols one gateway once; a gateway enrols the mailboxes its invitation names; private keys stay where they were made. */
import { generateKeyPairSync, sign } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { enrolGateway } from "../../broker/client.ts";
import { invite } from "../../broker/enrol.ts";
import { pairsOf } from "../../broker/revoke.ts";
import type { MailboxRecord, Table } from "../../broker/table.ts";
import { parseMailbox } from "../../mime/address.ts";
import { parseCertificate } from "../../mime/certificate.ts";
import { Fault } from "../../mime/fault.ts";
import { OID } from "../../mime/oids.ts";
import { certificationRequest, newKey } from "../../mime/request.ts";
import { DAY, RECEIPTS, call, faceOf, forever, openHouse, wordOf, type Gateway, type House } from "./house.ts";

let house: House;
let b: Gateway;

beforeAll(async () => {
  house = await openHouse();
  b = await house.gateway("b.example", "one@shared.example");
  await b.enrol("bob@b.example");
});
afterAll(() => house?.stop());

const JSON_TYPE = "application/json";
const csr = (): string => certificationRequest(newKey(), "x").toString("base64");
const enrol = (body: object) => call(house, undefined, "/v1/gateways", { body: JSON.stringify(body), type: JSON_TYPE });
const mailbox = (body: object) => call(house, b.channel, "/v1/mailboxes", { body: JSON.stringify(body), type: JSON_TYPE });

/** A request whose signature was changed behind its back. */
function brokenRequest(): string {
  const request = certificationRequest(newKey(), "x");
  request[request.length - 1] = (request.at(-1) ?? 0) ^ 1;
  return request.toString("base64");
}

/** A request of another key type, from stock OpenSSL's shape: the key of an Ed25519 pair. */
function foreignKeyRequest(): string {
  const { privateKey } = generateKeyPairSync("ed25519");
  const request = certificationRequest(newKey(), "x");
  return Buffer.concat([request, sign(null, request, privateKey)]).toString("base64");
}

describe("an invitation", () => {
  test("enrols one gateway, once", async () => {
    const token = await house.invite("once.example");
    expect((await enrol({ token, name: "gw", request: csr() })).status).toBe(200);
    const again = await enrol({ token, name: "gw", request: csr() });
    expect([again.status, wordOf(again)]).toEqual([401, "unauthenticated"]);
  });

  test("whose answer was lost gives the same key the same certificate again, and another key the answer of an unknown one", async () => {
    const token = await house.invite("lost.example");
    const request = csr();
    const [first, again] = [await enrol({ token, name: "gw", request }), await enrol({ token, name: "gw", request })];
    expect([first.status, again.body.toString()]).toEqual([200, first.body.toString()]);
    const unknown = await enrol({ token: "unknown", name: "gw", request: csr() });
    expect(faceOf(await enrol({ token, name: "gw", request: csr() }))).toBe(faceOf(unknown));
    house.pass(7 * DAY + 1);
    expect(faceOf(await enrol({ token, name: "gw", request }))).toBe(faceOf(unknown));
  });

  test("asked for by the same key twice at once gives one certificate, and one gateway is enrolled", async () => {
    const before = (await house.table.gateways()).length;
    const token = await house.invite("twice.example");
    const request = csr();
    const answers = await Promise.all(Array.from({ length: 8 }, () => enrol({ token, name: "gw", request })));
    expect(new Set(answers.map(({ body }) => body.toString())).size).toBe(1);
    expect((await house.table.gateways()).length).toBe(before + 1);
  });

  test("leaves in the registry which root issued the channel's certificate and when that ends; so does a renewal", async () => {
    const { channel, client } = await house.gateway("ends.example");
    const renewed = await client.renewChannel(newKey(), "gw", forever);
    for (const { fingerprint, notAfter } of [channel.certificate, renewed]) {
      const facts = { root: house.broker.root.certificate.fingerprint, endsAt: notAfter.getTime() };
      expect(await house.table.findGateway(fingerprint)).toMatchObject(facts);
    }
  });

  test("taken by ten gateways at once enrols one of them", async () => {
    const token = await house.invite("race.example");
    const answers = await Promise.all(Array.from({ length: 10 }, () => enrol({ token, name: "gw", request: csr() })));
    expect(answers.map(({ status }) => status).sort((a, b) => a - b)).toEqual([200, ...Array.from({ length: 9 }, () => 401)]);
  });

  test("of seven days ago is gone, and gets the same answer as an unknown one", async () => {
    const { token } = await invite(house.table, ["late.example"], new Date(house.now().getTime() - 7 * DAY - 1));
    const expired = await enrol({ token, name: "gw", request: csr() });
    const unknown = await enrol({ token: "unknown", name: "gw", request: csr() });
    expect([expired.status, expired.body.toString()]).toEqual([401, unknown.body.toString()]);
  });

  test("is not used up by a request that is not signed by its key", async () => {
    const token = await house.invite("patient.example");
    const refused = await enrol({ token, name: "gw", request: brokenRequest() });
    expect([refused.status, wordOf(refused)]).toEqual([400, "malformed"]);
    expect((await enrol({ token, name: "gw", request: csr() })).status).toBe(200);
  });

  test.each([
    ["neither an address nor a domain", "not a domain"],
    ["an address without a domain", "bob@"],
    ["nothing", ""],
  ])("for %s is not made", async (_why, entry) => {
    await expect(invite(house.table, [entry], house.now())).rejects.toMatchObject({ code: "malformed" });
  });

  test("is not kept itself: the table knows its hash only", async () => {
    const token = await house.invite("hashed.example");
    expect(await house.table.findInvite(token, house.now().getTime())).toBeUndefined();
  });
});

describe("a gateway's certificate", () => {
  test("is for TLS clients only, of the broker's root, and says no address", () => {
    const { certificate } = b.channel;
    expect(certificate.purposes).toEqual([OID.clientAuth]);
    expect(certificate.mailboxes).toEqual([]);
    expect(certificate.x509.ca).toBe(false);
    expect(certificate.x509.checkIssued(house.broker.root.certificate.x509)).toBe(true);
  });

  test.each([
    ["no name", { name: "" }],
    ["a name of 65 characters", { name: "x".repeat(65) }],
    ["a request that is no request", { request: "AAAA" }],
    ["a request with more behind it", { request: foreignKeyRequest() }],
    ["a token beyond its limit", { token: "x".repeat(201) }],
  ])("is refused to %s", async (_why, changes) => {
    const answer = await enrol({ token: await house.invite("x.example"), name: "gw", request: csr(), ...changes });
    expect([answer.status, wordOf(answer)]).toEqual([400, "malformed"]);
  });
});

describe("enrolGateway", () => {
  test.each([
    ["a wrong fingerprint", (fingerprint: string) => fingerprint.replace(/^../u, (two) => (two === "00" ? "11" : "00"))],
    ["no fingerprint", () => ""],
    ["half a fingerprint", (fingerprint: string) => fingerprint.slice(0, 32)],
  ])("with %s sends no token", async (_why, change) => {
    const token = await house.invite("careful.example");
    const fingerprint = change(house.broker.root.certificate.fingerprint);
    const order = { url: house.url, fingerprint, token, name: "gw", key: newKey() };
    await expect(enrolGateway(order, forever)).rejects.toMatchObject({ code: "forbidden" });
    expect((await enrol({ token, name: "gw", request: csr() })).status).toBe(200); // the token is still good
  });

  test("reads a fingerprint with colons and in capitals, as openssl prints it", async () => {
    const fingerprint = (house.broker.root.certificate.fingerprint.toUpperCase().match(/../gu) ?? []).join(":");
    const order = { url: house.url, fingerprint, token: await house.invite("colons.example"), name: "gw", key: newKey() };
    await expect(enrolGateway(order, forever)).resolves.toHaveProperty("certificate");
  });

  test("under another name of the broker's host is refused, for envelopes name the broker by its address", async () => {
    const url = house.url.replace("127.0.0.1", "localhost");
    const order = { url, fingerprint: house.broker.root.certificate.fingerprint, token: "t", name: "gw", key: newKey() };
    await expect(enrolGateway(order, forever)).rejects.toMatchObject({ code: "forbidden" });
  });
});

describe("a mailbox", () => {
  test("gets two certificates that name it and its aliases, one for signatures, one for envelopes", async () => {
    const { identity } = await b.enrol("Carol@b.example", ["c@b.example", "one@shared.example"]);
    const signing = identity.signer.certificate;
    const encryption = identity.openers[0]?.certificate;
    const names = ["c@b.example", "carol@b.example", "one@shared.example"];
    expect([...signing.mailboxes].sort()).toEqual(names);
    expect([...(encryption?.mailboxes ?? [])].sort()).toEqual(names);
    expect(signing.publicKey.equals(encryption?.publicKey ?? signing.publicKey)).toBe(false);
    expect([signing.uris, encryption?.uris]).toEqual([[], []]);
  });

  test("with an address outside ASCII is enrolled and found", async () => {
    const { identity } = await b.enrol("böb@b.example");
    expect(identity.signer.certificate.mailboxes).toEqual(["böb@b.example"]);
    expect((await b.client.lookUp(parseMailbox("BÖB@b.example"), forever))?.mailboxes).toEqual(["böb@b.example"]);
  });

  test.each([
    ["outside the invitation", { address: "eve@elsewhere.example" }],
    ["in a domain below the invited one", { address: "eve@sub.b.example" }],
    ["in a domain that only ends alike", { address: "eve@xb.example" }],
    ["beside the one address that was invited", { address: "two@shared.example" }],
    ["with a foreign alias", { address: "eve@b.example", aliases: ["ceo@elsewhere.example"] }],
  ])("%s is refused, and who asks is told which address", async (_why, changes) => {
    const answer = await mailbox({ aliases: [], signing: csr(), encryption: csr(), ...changes });
    expect([answer.status, wordOf(answer)]).toEqual([403, "forbidden"]);
    expect(answer.body.toString()).toMatch(/may not enrol (?:eve@|two@|ceo@)/u);
  });

  test("that another gateway has is refused, even where the invitation names its domain", async () => {
    const rival = await house.gateway("b.example");
    await expect(rival.enrol("bob@b.example")).rejects.toMatchObject({ code: "forbidden" });
    await expect(rival.enrol("new@b.example", ["BOB@b.example"])).rejects.toMatchObject({ code: "forbidden" });
  });

  test("with the address that receipts come from is refused, or a receipt could be forged", async () => {
    const greedy = await house.gateway("broker.example");
    await expect(greedy.enrol(RECEIPTS)).rejects.toMatchObject({ code: "forbidden" });
    await expect(greedy.enrol("x@broker.example", [RECEIPTS.toUpperCase()])).rejects.toMatchObject({ code: "forbidden" });
  });

  test.each([
    ["a broken signing request", { signing: brokenRequest() }],
    ["a broken encryption request", { encryption: brokenRequest() }],
    ["more than fifty aliases", { aliases: Array.from({ length: 51 }, (_none, at) => `a${at}@b.example`) }],
    ["an address with a line end", { address: "a\r\n@b.example" }],
  ])("with %s is malformed, and stays unknown", async (_why, changes) => {
    const answer = await mailbox({ address: "dave@b.example", aliases: [], signing: csr(), encryption: csr(), ...changes });
    expect([answer.status, wordOf(answer)]).toEqual([400, "malformed"]);
    expect(await house.table.findMailbox("dave@b.example")).toBeUndefined();
  });

  test("enrols anew with new keys, and the directory names the new ones", async () => {
    const first = await b.enrol("again@b.example");
    const second = await b.enrol("again@b.example");
    const known = await b.client.lookUp(first.mailbox, forever);
    expect(known?.fingerprint).toBe(second.identity.openers[0]?.certificate.fingerprint);
  });

  test("that failed half-way is whole once it is asked for again with the same keys: each address has the certificates", async () => {
    const [address, alias] = ["half@b.example", "alias@b.example"];
    const body = { address, aliases: [alias], signing: csr(), encryption: csr() };
    let left = 1;
    const putMailbox = async (...given: Parameters<typeof house.table.putMailbox>): Promise<boolean> => {
      if (left-- === 0) throw new Fault("unavailable", "the table is away");
      return Object.getPrototypeOf(house.table).putMailbox.apply(house.table, given) as Promise<boolean>;
    };
    Object.assign(house.table, { putMailbox });
    expect((await mailbox(body)).status).toBe(503);
    Reflect.deleteProperty(house.table, "putMailbox");
    const given = JSON.parse(String((await mailbox(body)).body)) as Pick<MailboxRecord, "signingCertificate" | "encryptionCertificate">;
    for (const one of [address, alias]) expect(await house.table.findMailbox(one)).toMatchObject(given);
  });

  test("never outlives the root", async () => {
    const record = await house.table.findMailbox("bob@b.example");
    const { notAfter } = parseCertificate(record?.signingCertificate ?? "");
    expect(notAfter.getTime()).toBeLessThanOrEqual(house.broker.root.certificate.notAfter.getTime());
  });
});

describe("a mailbox of which several gateways have read the record before one of them writes it", () => {
  /** Holds the first so many writes until all of them have come. */
  function gather(count: number): void {
    let open = (): void => undefined;
    const all = new Promise<void>((resolve) => (open = resolve));
    let come = 0;
    const putMailbox = async (...given: Parameters<Table["putMailbox"]>): Promise<boolean> => {
      if (++come === count) open();
      await all;
      return (Object.getPrototypeOf(house.table) as Table).putMailbox.apply(house.table, given);
    };
    Object.assign(house.table, { putMailbox });
  }
  afterEach(() => void Reflect.deleteProperty(house.table, "putMailbox"));

  test("has the certificates of all of them where they have one enrolment and renew to keys of their own", async () => {
    gather(4);
    const members = await Promise.all(Array.from({ length: 4 }, () => b.enrol("shared@b.example")));
    const record = await house.table.findMailbox("shared@b.example");
    const known = record && pairsOf(record).map(({ signingCertificate }) => parseCertificate(signingCertificate).fingerprint);
    expect(known?.toSorted()).toEqual(members.map(({ identity }) => identity.signer.certificate.fingerprint).toSorted());
  });

  test("is the first one's, and the other one is told so", async () => {
    const gateways = await Promise.all(["one", "two"].map(() => house.gateway("contested.example")));
    gather(2);
    const enrolled = await Promise.allSettled(gateways.map((gateway) => gateway.enrol("x@contested.example")));
    expect(enrolled.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
    const record = await house.table.findMailbox("x@contested.example");
    const owner = gateways[enrolled.findIndex(({ status }) => status === "fulfilled")];
    expect(record?.gateway).toBe(owner?.channel.certificate.fingerprint);
  });
});
