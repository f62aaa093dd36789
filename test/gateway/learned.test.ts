/** Certificates learned from signed mail: only the author's own, only with a signature that holds, and none is used before it is approved. */
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { stringify } from "yaml";
import { loadGateway } from "../../config/load.ts";
import { createLog } from "../../config/log.ts";
import { Learned } from "../../gateway/main.ts";
import { Policy } from "../../gateway/policy.ts";
import { NO_WISH } from "../../gateway/triggers.ts";
import { parseMailbox } from "../../mime/address.ts";
import { signLetter } from "../../mime/letter.ts";
import { whole } from "../../mime/pieces.ts";
import { MESSAGE, NONCE, makeParties, payloadOf, signingBy, type Parties } from "../mime/parties.ts";
import { temporaryFolder } from "../servers/process.ts";

let parties: Parties;
let folder: string;
beforeAll(async () => {
  parties = await makeParties();
});
beforeEach(async () => {
  folder = await temporaryFolder("learned");
});

/** A mail that this party signed, below a header with this author. */
function signedMail(author = "alice@a.example", text = MESSAGE): Buffer {
  const { entity } = signLetter(payloadOf(text), NONCE, signingBy(parties.alice.signer));
  return Buffer.concat([Buffer.from(`From: ${author}\r\nTo: bob@b.example\r\nMIME-Version: 1.0\r\n`), whole(entity)]);
}

function learned(settings: object = { certificates: "approved" }): Learned {
  const file = join(folder, "gateway.yaml");
  const config = {
    name: "gw.b.example",
    data: "data",
    broker: { url: "https://127.0.0.1:1" },
    mailboxes: [{ address: "bob@b.example" }],
    policy: settings,
  };
  writeFileSync(file, stringify(config));
  return new Learned(loadGateway(file), createLog({ write: () => undefined }));
}

const fingerprint = (): string => parties.alice.signer.certificate.fingerprint;

test("the author's certificate waits, is approved by its whole fingerprint, and then gives the author the enclosed form", async () => {
  const desk = learned();
  await desk.learn(signedMail());
  expect((await desk.waiting()).map((one) => one.fingerprint)).toEqual([fingerprint()]);
  await expect(desk.approve(fingerprint().slice(0, 20))).rejects.toMatchObject({ code: "malformed" });
  await desk.approve(fingerprint());
  expect(await desk.waiting()).toEqual([]);
  expect(readdirSync(join(folder, "approved"))).toEqual([`${fingerprint()}.pem`]);
  const rules = { ...loadGateway(join(folder, "gateway.yaml")).policy };
  const policy = new Policy(rules, { isEnrolled: async () => false }, new Map([["alice@a.example", parties.alice.signer.certificate]]));
  const alice = parseMailbox("alice@a.example");
  const admitted = await policy.decide(alice, new AbortController().signal);
  expect(admitted).toEqual({ decision: "seal", standing: "known" });
  const ruling = policy.settle({ mailbox: alice, ...admitted, notify: [] }, NO_WISH);
  expect(ruling).toMatchObject({ form: { hold: "enclosed", certificate: parties.alice.signer.certificate } });
});

test("an approved certificate does not wait again", async () => {
  const desk = learned();
  await desk.learn(signedMail());
  await desk.approve(fingerprint());
  await desk.learn(signedMail());
  expect(await desk.waiting()).toEqual([]);
});

describe("nothing is learned from", () => {
  test.each<[string, () => Buffer]>([
    ["a mail with another author than the signer", () => signedMail("mallory@a.example")],
    ["a mail with two authors", () => signedMail("alice@a.example, mallory@a.example")],
    ["an altered mail", () => Buffer.from(signedMail().toString().replace("The secret text", "The forged text"))],
    ["a mail that nobody signed", () => MESSAGE],
  ])("%s", async (_why, mail) => {
    const desk = learned();
    await expect(desk.learn(mail())).rejects.toThrow();
    expect(await desk.waiting()).toEqual([]);
  });
});
