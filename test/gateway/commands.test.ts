/** Commands beside a gateway one of whose mailboxes cannot enrol: the others' letters are sealed, asked after and recalled, and they enrol nobody. */
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { stringify } from "yaml";
import { loadGateway } from "../../config/load.ts";
import type { GatewayConfig } from "../../config/schema.ts";
import { askBroker, recallHere } from "../../gateway/commands.ts";
import { sealFilter } from "../../gateway/filter.ts";
import { enrol, openChannel } from "../../gateway/identity.ts";
import { Identities } from "../../gateway/identities.ts";
import { Letters } from "../../gateway/letters.ts";
import { FOLDERS, readStatus } from "../../gateway/status.ts";
import { parseMailbox } from "../../mime/address.ts";
import { heardLog } from "../broker/happenings.ts";
import { forever, openHouse, type House } from "../broker/house.ts";
import { temporaryFolder } from "../servers/process.ts";

const ALICE = parseMailbox("alice@a.example");
const CAROL = parseMailbox("carol@out-of-scope.example");

let house: House;
let config: GatewayConfig;

beforeAll(async () => {
  house = await openHouse();
  const file = join(await temporaryFolder("commands"), "gateway.yaml");
  const mailboxes = [{ address: ALICE.address }, { address: CAROL.address }];
  writeFileSync(file, stringify({ name: "gateway.a.example", data: "data", broker: { url: house.url }, mailboxes }));
  config = loadGateway(file);
  const { fingerprint } = house.broker.root.certificate;
  await enrol(config, { fingerprint, token: await house.invite("a.example") }, forever);
  const { log, lines } = heardLog();
  const { broker } = await openChannel(config, log, house.now);
  const stopping = new AbortController();
  const preparing = new Identities(config, log).prepare(broker, stopping.signal);
  for (const event of ["mailbox.enrolled", "mailbox.not-enrolled"]) await lines.until((line) => line.event === event);
  stopping.abort();
  await Promise.all([preparing, new Letters(join(config.data, FOLDERS.letters)).prepare()]);
  await broker.close();
}, 60_000);
afterAll(() => house?.stop());

async function seal(sender: typeof ALICE, name: string): Promise<Buffer[]> {
  const lines = [`From: <${sender.address}>`, `To: <${ALICE.address}>`, `Message-ID: <${name}@a.example>`, "", "Text."];
  const message = Buffer.from(lines.map((line) => `${line}\r\n`).join(""));
  const taken: Buffer[] = [];
  const handOver = async (mail: Buffer): Promise<void> => void taken.push(mail);
  await sealFilter(config, { message, sender, recipient: ALICE, handOver }, heardLog().log, forever);
  return taken;
}

test("a letter of a mailbox that is enrolled is sealed, asked after and recalled, whatever hinders the other one", async () => {
  expect(await seal(ALICE, "one")).toHaveLength(1);
  const { log } = heardLog();
  const asked = await askBroker(config, await readStatus(config), log, forever);
  expect(asked.sent[0]?.recipients[0]?.atBroker?.state).toBe("dispatched");
  const outcomes = await recallHere(config, { messageId: "<one@a.example>" }, log, forever);
  expect(outcomes).toMatchObject([{ recipient: ALICE.key, outcome: { word: "recalled" } }]);
});

test("a letter of a mailbox that was taken out of the configuration does not keep the others' from being asked after", async () => {
  const [own, other] = [
    { ...config, mailboxes: config.mailboxes.slice(0, 1) },
    { ...config, mailboxes: config.mailboxes.slice(1) },
  ];
  await seal(ALICE, "three");
  const { log } = heardLog();
  const statesIn = async (from: GatewayConfig) =>
    (await askBroker(from, await readStatus(from, { messageId: "<three@a.example>" }), log, forever)).sent.map(({ recipients }) =>
      recipients.map(({ state, atBroker }) => [state, atBroker?.state]),
    );
  expect(await statesIn(own)).toEqual([[["handed-over", "dispatched"]]]);
  expect(await statesIn(other)).toEqual([[["handed-over", undefined]]]);
});

test("the other one is named with where to look, at once, and nothing is made for it", async () => {
  await expect(seal(CAROL, "two")).rejects.toMatchObject({
    code: "unavailable",
    message: expect.stringMatching(
      /^carol@out-of-scope\.example is not enrolled: "kakitome gateway run" enrols it.*mailbox\.not-enrolled/u,
    ),
  });
});

test("what the policy lets pass names no blind recipient", async () => {
  const taken: string[] = [];
  const order = {
    message: Buffer.from(`From: ${ALICE.address}\r\nTo: dave@c.example\r\nBcc: erin@c.example\r\nSubject: open\r\n\r\nText.\r\n`),
    sender: ALICE,
    recipient: parseMailbox("dave@c.example"),
    handOver: async (mail: Buffer): Promise<void> => void taken.push(String(mail)),
  };
  await sealFilter({ ...config, policy: { ...config.policy, unenrolled: "pass" } }, order, heardLog().log, forever);
  expect(taken).toEqual([expect.stringMatching(/^Subject: open\r$/mu)]);
  expect(taken[0]).not.toContain("erin");
});

test("a recipient in quotes that are not needed is the one without them, and the letter is sealed", async () => {
  const taken: string[] = [];
  const order = {
    message: Buffer.from(`From: ${ALICE.address}\r\nTo: ${ALICE.address}\r\nSubject: secret\r\n\r\nText.\r\n`),
    sender: ALICE,
    recipient: parseMailbox('"alice"@a.example'),
    handOver: async (mail: Buffer): Promise<void> => void taken.push(String(mail)),
  };
  await sealFilter({ ...config, policy: { ...config.policy, unenrolled: "pass" } }, order, heardLog().log, forever);
  expect(taken).toEqual([expect.stringContaining("registered.p7m")]);
});

test("a mailbox that was added meanwhile is left for the running gateway to enrol", async () => {
  const added = parseMailbox("dave@a.example");
  const [first, ...others] = config.mailboxes;
  const more = { ...config, mailboxes: [...config.mailboxes, { ...first!, address: added }, ...others.slice(1)] };
  await recallHere(more, { messageId: "<unknown@a.example>" }, heardLog().log, forever);
  expect(existsSync(join(config.data, "keys", encodeURIComponent(added.key)))).toBe(false);
});
