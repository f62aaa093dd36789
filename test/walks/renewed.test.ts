/** Certificates renewed at one gateway only, while letters come in: none fails, and what was sealed before two renewals opens after them. */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { ImapFlow } from "imapflow";
import { parseCertificate } from "../../mime/certificate.ts";
import { canRunPostfix } from "../servers/postfix.ts";
import { must } from "./kakitome.ts";
import { ALICE, BOB, passwordOf, setLifetime, startPlace, untilMail, type Place } from "./place.ts";
import { receiptOf, sendLetter, statesAt, Traffic } from "./traffic.ts";

const suite = canRunPostfix ? describe : describe.skip;
if (!canRunPostfix) console.log("skipped: Postfix runs as root only");

suite.each([1, 3])("certificates renewed at the recipient's gateway only, which has %i process(es) for its mailboxes", (workers) => {
  let place: Place;
  beforeAll(async () => {
    // Gateway B's certificates are for so short that they are due whenever it looks; gateway A's are for a year.
    place = await startPlace({ between: ({ config }) => setLifetime(config, "5m"), recipients: [BOB], b: { workers } });
  }, 120_000);
  afterAll(() => place?.stop());

  const folder = (): string => join(place.b.data, "keys", encodeURIComponent(BOB));
  const fingerprintAt = (...names: string[]): string => parseCertificate(readFileSync(join(...names))).fingerprint;
  const encryption = (): string => fingerprintAt(folder(), "encryption.crt.pem");
  const channelOf = (data: string): string => fingerprintAt(data, "keys", "gateway.crt.pem");

  /** Has the running gateway look at once, and waits for what it renews. */
  const renewed = async (): Promise<void> => {
    const before = encryption();
    must(["reload", "--config", place.b.config]);
    await place.b.process.until("a renewed mailbox", ({ event }) => event === "mailbox.renewed" && encryption() !== before); // one may have run since its start
  };

  test("no letter of the traffic fails, and one sealed before the first of two renewals opens after the second", async () => {
    const [alices, sealedTo] = [channelOf(place.a.data), encryption()];
    await place.b.process.stop();
    const old = await sendLetter({ from: ALICE, to: BOB, by: place.a });
    const sealed = await takenAway(place, old);
    await place.b.restart();
    const traffic = new Traffic(place);
    const before = channelOf(place.b.data);
    for (let renewal = 0; renewal < 2; renewal++) {
      await traffic.more(1);
      await renewed();
    }
    await traffic.more(1);
    expect(channelOf(place.b.data)).not.toBe(before);
    expect(channelOf(place.a.data)).toBe(alices); // on the other side nothing was renewed
    const former = readdirSync(folder()).filter((name) => name.startsWith("former-"));
    expect(former.map((name) => fingerprintAt(folder(), name, "encryption.crt.pem"))).toContain(sealedTo);
    expect(former.length).toBeGreaterThanOrEqual(2);

    await putBack(place, sealed);
    await receiptOf(place, old);
    const ids = [old, ...(await traffic.settle())];
    const states = statesAt(place.a);
    expect(ids.map((id) => states.get(id))).toEqual(ids.map(() => "opened"));
    expect(place.b.process.lines.filter(({ event }) => /not-opened|not-renewed|not-learned/u.test(String(event)))).toEqual([]);
  }, 120_000);
});

/** Takes the sealed mail out of Bob's mailbox, once it is there. */
async function takenAway(place: Place, id: string): Promise<Buffer> {
  const isIt = (mail: Buffer): boolean => mail.includes(`Message-ID: ${id}`) || mail.includes(`Message-Id: ${id}`);
  const [sealed] = await untilMail(place, BOB, isIt);
  await atBobs(place, async (client) => {
    await client.mailboxOpen("INBOX");
    const [uid] = (await client.search({ header: { "message-id": id } }, { uid: true })) || [];
    await client.messageDelete(String(uid), { uid: true });
  });
  return sealed ?? Buffer.alloc(0);
}

async function putBack(place: Place, sealed: Buffer): Promise<void> {
  await atBobs(place, async (client) => void (await client.append("INBOX", sealed)));
}

async function atBobs(place: Place, work: (client: ImapFlow) => Promise<void>): Promise<void> {
  const auth = { user: BOB, pass: passwordOf(BOB) };
  const client = new ImapFlow({ host: "127.0.0.1", port: place.dovecot.imapPort, secure: false, doSTARTTLS: false, auth, logger: false });
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.logout();
  }
}
