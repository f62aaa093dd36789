/** Certificates over years: renewed while letters travel, on one side only; nothing fails, and what was sealed before still opens. */
import { createPublicKey } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { parse, stringify } from "yaml";
import { revoke } from "../../broker/revoke.ts";
import { duration } from "../../config/units.ts";
import { loadGateway } from "../../config/load.ts";
import { Identities } from "../../gateway/identities.ts";
import { enrol, openChannel } from "../../gateway/identity.ts";
import { renewDue } from "../../gateway/renewal.ts";
import { parseMailbox } from "../../mime/address.ts";
import { parseCertificate, serialOf } from "../../mime/certificate.ts";
import { makeReceipt } from "../../mime/receipt.ts";
import { heardLog } from "../broker/happenings.ts";
import { DAY, confirmAs, forever, openHouse, originalOf, ticketOf, type House, type Member } from "../broker/house.ts";
import { temporaryFolder } from "../servers/process.ts";
import { openAs, openOffice, type Copy } from "./outbound-place.ts";

const BOB = parseMailbox("bob@b.example");
let house: House;
let alice: Member;
/** Bob's gateway, one after the other life of it. */
let file: string;

beforeAll(async () => {
  house = await openHouse();
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  Object.assign(house.broker.limits, { certificateLifetime: duration("30d") });
  file = await openGateway();
});
afterAll(() => house?.stop());

/** A gateway on its data folder, as one life of its process has it. */
async function live(file: string) {
  const config = loadGateway(file);
  const { log, lines } = heardLog();
  const channel = await openChannel(config, log, house.now);
  const { broker } = channel;
  const identities = new Identities(config, log);
  await identities.prepare(broker, forever);
  const renew = () => renewDue({ channel, broker, identities, log, now: house.now }, forever);
  const member = (): Member => ({
    mailbox: BOB,
    identity: identities.of(BOB),
    gateway: {
      channel: { ...alice.gateway.channel, certificate: channel.channel() },
      client: broker,
      enrol: () => Promise.reject(new Error("no")),
    },
  });
  return {
    config,
    channel,
    broker,
    identities,
    log,
    lines,
    renew,
    member,
    keys: join(config.data, "keys"),
    own: join(config.data, "keys", encodeURIComponent(BOB.key)),
  };
}

async function openGateway() {
  const folder = await temporaryFolder("renewal");
  const file = join(folder, "gateway.yaml");
  const broker = { url: house.url, timeout: "5s" };
  writeFileSync(file, stringify({ name: `gateway.b.example`, data: "data", broker, mailboxes: [{ address: BOB.address }] }));
  const fingerprint = house.broker.root.certificate.fingerprint;
  await enrol(loadGateway(file), { fingerprint, token: await house.invite("b.example") }, forever);
  return file;
}

test("renewed on the recipient's side only, under traffic: no letter fails, and one sealed before the first of two rotations opens", async () => {
  const bob = await live(file);
  const [gatewayId, first] = [bob.channel.channel().fingerprint, bob.member().identity.openers[0]?.certificate.fingerprint];
  const before = await openOffice(house, alice, 1, { rules: { expiry: "80d" } });
  await before.send(
    "From: alice@a.example\r\nTo: bob@b.example\r\nSubject: before\r\nMessage-ID: <before@a.example>\r\n\r\nSealed before.\r\n",
    [BOB.address],
  );
  const [old] = (await before.copies()) as [Copy];
  expect(await alice.gateway.client.dispatched([old.ticket], forever)).toEqual([]); // it is on its way
  await before.close(); // or its relay gives up meanwhile

  for (let rotation = 0; rotation < 2; rotation++) {
    house.pass(21 * DAY);
    const state = { going: true };
    let letters = 0;
    /** Letters one after the other, each with the identity of its first step for the second one too. */
    const traffic = async (): Promise<void> => {
      while (state.going || letters < 12) {
        const presenting = bob.member();
        const release = await presenting.gateway.client.present(await ticketOf(house, alice, BOB.address), presenting.identity, forever);
        release.key?.wipe();
        await confirmAs(house, presenting, release);
        letters++;
      }
    };
    const running = Promise.all([traffic(), traffic(), traffic()]);
    expect(await bob.renew()).toBe(true);
    state.going = false;
    await running;
    expect(letters).toBeGreaterThanOrEqual(12);
    expect(bob.member().identity.openers).toHaveLength(rotation + 2);
  }

  const now = bob.member().identity.openers[0]?.certificate.fingerprint;
  expect(now).not.toBe(first);
  expect((await alice.gateway.client.lookUp(BOB, forever))?.fingerprint).toBe(now); // the directory gives the newest
  expect(bob.channel.channel().fingerprint).not.toBe(gatewayId);
  expect(String((await openAs(house, bob.member(), old)).payload.body)).toContain("Sealed before.");
  await bob.broker.close();
}, 60_000);

test("a letter that was opened before a renewal is confirmed after it, with the receipt of then", async () => {
  const bob = await live(file);
  house.pass(21 * DAY);
  const opening = bob.member();
  const release = await opening.gateway.client.present(await ticketOf(house, alice, BOB.address), opening.identity, forever);
  const receipt = makeReceipt(originalOf(house, release.commit), opening.identity.signer, house.now());
  expect(await bob.renew()).toBe(true);
  const later = bob.member();
  expect(later.identity.signer.certificate.fingerprint).not.toBe(opening.identity.signer.certificate.fingerprint);
  await expect(
    later.gateway.client.confirm(release.nextTicket, { receipt, openingValue: undefined }, later.identity, forever),
  ).resolves.toMatchObject({
    evidence: expect.any(String),
  });
  await bob.broker.close();
});

test("after a restart the renewed ones are there, the channel is the same gateway, and nothing is renewed before its time", async () => {
  const bob = await live(file);
  const openers = bob.member().identity.openers.length;
  expect(openers).toBeGreaterThan(2);
  expect(await bob.renew()).toBe(true);
  expect(bob.member().identity.openers).toHaveLength(openers);
  const release = await bob.broker.present(await ticketOf(house, alice, BOB.address), bob.member().identity, forever);
  await expect(confirmAs(house, bob.member(), release)).resolves.toBeDefined();
  await bob.broker.close();
});

test.each(["with the pair complete and nothing moved", "with half of it moved"])(
  "a power cut %s is finished at the next start",
  async (how) => {
    house.pass(21 * DAY);
    const bob = await live(file);
    const before = bob.member().identity.signer.certificate.fingerprint;
    expect(await bob.renew()).toBe(true);
    const after = bob.member().identity.signer.certificate.fingerprint;
    await bob.broker.close();
    // As it lay on the disk before the renewed pair was moved into its place.
    const next = join(bob.own, "next");
    const former = readdirSync(bob.own).filter((name) => name.startsWith("former-"));
    const kept = former.find((name) => readFileSync(join(bob.own, name, "signing.crt.pem"), "utf8") === keptAs(former, bob.own, before));
    expect(kept).toBeDefined();
    mkdirSync(next, { mode: 0o700 });
    const pair = ["signing.key.pem", "signing.crt.pem", "encryption.key.pem", "encryption.crt.pem"];
    for (const name of how.includes("half") ? pair.slice(2) : pair) {
      renameSync(join(bob.own, name), join(next, name));
      copyFileSync(join(bob.own, kept ?? "", name), join(bob.own, name));
    }
    writeFileSync(join(next, "complete"), "");
    const again = await live(file);
    expect(again.member().identity.signer.certificate.fingerprint).toBe(after);
    expect(existsSync(next)).toBe(false);
    const release = await again.broker.present(await ticketOf(house, alice, BOB.address), again.member().identity, forever);
    await expect(confirmAs(house, again.member(), release)).resolves.toBeDefined();
    await again.broker.close();
  },
);

test("a renewal that failed half-way through moving the pair is ended by the next attempt, and the former key is still there", async () => {
  const [bob, other] = [await live(file), await live(file)];
  const office = await openOffice(house, alice, 1, { rules: { expiry: "80d" } });
  await office.send("From: alice@a.example\r\nTo: bob@b.example\r\n\r\nSealed before the failure.\r\n", [BOB.address]);
  const [old] = (await office.copies()) as [Copy];
  expect(await alice.gateway.client.dispatched([old.ticket], forever)).toEqual([]); // it is on its way
  await office.close();
  const former = bob.member().identity.openers[0]?.certificate.fingerprint ?? "";
  house.pass(21 * DAY);
  expect(await other.renew()).toBe(true);
  // As it lies on the disk where the last file could not be moved.
  const [next, name] = [join(bob.own, "next"), "encryption.crt.pem"];
  mkdirSync(next, { mode: 0o700 });
  renameSync(join(bob.own, name), join(next, name));
  copyFileSync(join(bob.own, `former-${former.slice(0, 16)}`, name), join(bob.own, name));
  writeFileSync(join(next, "complete"), "");
  expect(await bob.renew()).toBe(true);
  const [now] = bob.member().identity.openers;
  expect(now?.certificate.fingerprint).toBe(other.member().identity.openers[0]?.certificate.fingerprint);
  expect(now?.certificate.publicKey.equals(createPublicKey(now.key))).toBe(true);
  expect(String((await openAs(house, bob.member(), old)).payload.body)).toContain("Sealed before the failure.");
  await Promise.all([bob.broker.close(), other.broker.close()]);
});

describe("another process reads while a renewed pair is being moved into its place", () => {
  const PAIR = ["signing.key.pem", "signing.crt.pem", "encryption.key.pem", "encryption.crt.pem"] as const;
  /** Long enough for whoever does not read again. */
  const turns = async (): Promise<void> => {
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
  };

  /** The gateway has renewed; its folder is then as it was when so many files of the mailbox were moved. */
  async function halfMoved(moved: number) {
    const bob = await live(file);
    const former = bob.member().identity.openers[0]?.certificate.fingerprint ?? "";
    house.pass(21 * DAY);
    expect(await bob.renew()).toBe(true);
    await bob.broker.close();
    const next = join(bob.own, "next");
    mkdirSync(next, { mode: 0o700 });
    for (const name of PAIR.slice(moved)) {
      renameSync(join(bob.own, name), join(next, name));
      copyFileSync(join(bob.own, `former-${former.slice(0, 16)}`, name), join(bob.own, name));
    }
    writeFileSync(join(next, "complete"), "");
    const finish = (): void => {
      for (const name of PAIR.slice(moved)) renameSync(join(next, name), join(bob.own, name));
      rmSync(next, { recursive: true });
    };
    return { ...bob, former, renewed: bob.member().identity, finish };
  }

  test.each([1, 2, 3])("with %i of four files moved, a mailbox's: it waits for all of them", async (moved) => {
    const { config, log, renewed, finish } = await halfMoved(moved);
    const other = new Identities(config, log);
    const following = other.follow();
    await turns();
    expect(() => other.of(BOB)).toThrow(expect.objectContaining({ code: "unavailable" }));
    finish();
    await following;
    const { signer, openers } = other.of(BOB);
    for (const { key, certificate } of [signer, ...openers]) expect(certificate.publicKey.equals(createPublicKey(key))).toBe(true);
    expect(openers[0]?.certificate.fingerprint).toBe(renewed.openers[0]?.certificate.fingerprint);
    expect(signer.certificate.fingerprint).toBe(renewed.signer.certificate.fingerprint);
  });

  test("and nobody ends it: it takes none of them, and says so", async () => {
    const { config, log, lines, finish } = await halfMoved(1);
    const other = new Identities(config, log);
    await other.follow();
    expect(() => other.of(BOB)).toThrow(expect.objectContaining({ code: "unavailable" }));
    expect(lines.all.find(({ event }) => event === "mailbox.not-read")?.["reason"]).toMatch(
      /do not belong together, or are being renewed/u,
    );
    finish();
  });

  test("the channel's: it shows no certificate with the key of another one", async () => {
    const bob = await live(file);
    const [key, certificate] = [join(bob.keys, "gateway.key.pem"), join(bob.keys, "gateway.crt.pem")];
    const before = readFileSync(certificate);
    house.pass(21 * DAY);
    expect(await bob.renew()).toBe(true);
    const after = readFileSync(certificate);
    writeFileSync(certificate, before); // of the key that is there already
    const opening = openChannel(bob.config, bob.log, house.now);
    await turns();
    writeFileSync(certificate, after);
    const other = await opening;
    expect(other.channel().publicKey.equals(createPublicKey(readFileSync(key)))).toBe(true);
    expect(await other.broker.lookUp(BOB, forever)).toBeDefined();
    await Promise.all([bob.broker.close(), other.broker.close()]);
  });
});

test("with other aliases come other certificates, and what was sealed to the former ones opens", async () => {
  const before = await live(file);
  const office = await openOffice(house, alice);
  await office.send("From: alice@a.example\r\nTo: bob@b.example\r\n\r\nSealed before the alias.\r\n", [BOB.address]);
  const [old] = (await office.copies()) as [Copy];
  expect(await alice.gateway.client.dispatched([old.ticket], forever)).toEqual([]); // it is on its way
  await office.close();
  await before.broker.close();

  const aliases = ["robert@b.example"];
  writeFileSync(file, stringify({ ...(parse(readFileSync(file, "utf8")) as object), mailboxes: [{ address: BOB.address, aliases }] }));
  const after = await live(file);
  const { signer, openers } = after.member().identity;
  expect(signer.certificate.mailboxes.toSorted()).toEqual([BOB.key, ...aliases]);
  expect(openers[0]?.certificate.fingerprint).not.toBe(before.member().identity.openers[0]?.certificate.fingerprint);
  expect(String((await openAs(house, after.member(), old)).payload.body)).toContain("Sealed before the alias.");
  await after.broker.close();
});

test("a gateway that is revoked by any of its certificates is out with all of them, and the former pairs of its mailboxes too", async () => {
  const bob = await live(file);
  const former = bob.member().identity;
  house.pass(21 * DAY);
  expect(await bob.renew()).toBe(true);
  const revoked = await revoke(house.table, { gateway: bob.channel.channel().fingerprint }, "key-compromise", house.now(), "test");
  expect(revoked.length).toBeGreaterThan(4);
  const serials = new Set(revoked.map(({ name }) => name));
  expect(serials.has(serialOf(former.signer.certificate))).toBe(true);
  await expect(bob.broker.lookUp(BOB, forever)).rejects.toMatchObject({ code: "unavailable" });
  await bob.broker.close();
  const restarted = await openChannel(bob.config, heardLog().log, house.now);
  await expect(restarted.broker.lookUp(BOB, forever)).rejects.toMatchObject({ code: "unavailable" });
  await restarted.broker.close();
});

/** The certificate of this fingerprint among the kept ones, as its file holds it. */
function keptAs(former: readonly string[], own: string, fingerprint: string): string {
  const texts = former.map((name) => readFileSync(join(own, name, "signing.crt.pem"), "utf8"));
  return texts.find((pem) => parseCertificate(pem).fingerprint === fingerprint) ?? "";
}
