/** A gateway that never heard of the broker's new root meets an answer under it: it asks for the root, and the letter goes on. */
import { createPublicKey } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { stringify } from "yaml";
import { certifyRoot, createRoot, issue } from "../../broker/authority.ts";
import { loadGateway } from "../../config/load.ts";
import { Identities } from "../../gateway/identities.ts";
import { enrol, openChannel } from "../../gateway/identity.ts";
import { parseMailbox } from "../../mime/address.ts";
import { newKey } from "../../mime/request.ts";
import { heardLog } from "../broker/happenings.ts";
import { DAY, RECEIPTS, forever, openHouse, ticketOf, type House, type Member } from "../broker/house.ts";
import { temporaryFolder } from "../servers/process.ts";

let house: House;
let alice: Member;

beforeAll(async () => {
  house = await openHouse();
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
});
afterAll(() => house?.stop());

async function openBob(domain: string) {
  const mailbox = parseMailbox(`bob@${domain}`);
  const file = join(await temporaryFolder("next-root"), "gateway.yaml");
  const broker = { url: house.url, timeout: "5s" };
  writeFileSync(file, stringify({ name: `gateway.${domain}`, data: "data", broker, mailboxes: [{ address: mailbox.address }] }));
  const config = loadGateway(file);
  await enrol(config, { fingerprint: house.broker.root.certificate.fingerprint, token: await house.invite(domain) }, forever);
  const heard = heardLog();
  const channel = await openChannel(config, heard.log, house.now);
  const identities = new Identities(config, heard.log);
  await identities.prepare(channel.broker, forever);
  return { ...channel, heard, mailbox, identity: identities.of(mailbox) };
}

/** The broker goes on to another root, by which it signs at once. @param isVouchedFor by the root that issued until then */
async function nextRoot(isVouchedFor: boolean): Promise<void> {
  const { root: former, url } = house.broker;
  const times = { notBefore: new Date(house.now().getTime() - DAY), notAfter: new Date(house.now().getTime() + DAY) };
  const root = await createRoot("Kakitome root 2", times.notBefore, times.notAfter);
  const key = newKey();
  const order = {
    profile: "broker-signing" as const,
    publicKey: createPublicKey(key),
    commonName: "broker",
    mailboxes: [parseMailbox(RECEIPTS)],
    url,
  };
  const signer = { key, certificate: await issue(root, { ...order, ...times }) };
  const links = isVouchedFor ? [await certifyRoot(former, root.certificate, times)] : [];
  Object.assign(house.broker, { root, roots: [root, former], links, signer });
}

test("the first answer under a root that the known one vouches for makes the gateway learn it", async () => {
  const bob = await openBob("b.example");
  const { root, roots, links, signer } = house.broker;
  const ticket = await ticketOf(house, alice, bob.mailbox.address);
  try {
    await nextRoot(true);
    const release = await bob.broker.present(ticket, bob.identity, forever);
    expect(release.sender.key).toBe("alice@a.example");
    expect(bob.heard.lines.all.map(({ event }) => event)).toContain("root.learned");
    expect(bob.broker.trust.roots).toHaveLength(2);
  } finally {
    Object.assign(house.broker, { root, roots, links, signer });
    await bob.broker.close();
  }
});

test("an answer under a root that nobody vouches for is refused, and nothing is learned", async () => {
  const bob = await openBob("c.example");
  const { root, roots, links, signer } = house.broker;
  const ticket = await ticketOf(house, alice, bob.mailbox.address);
  try {
    await nextRoot(false);
    await expect(bob.broker.present(ticket, bob.identity, forever)).rejects.toMatchObject({ code: "signature-invalid" });
    expect(bob.broker.trust.roots).toEqual([root.certificate]);
  } finally {
    Object.assign(house.broker, { root, roots, links, signer });
    await bob.broker.close();
  }
});
