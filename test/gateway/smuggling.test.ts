/** A default Postfix behind the gateway: it takes other ends of a message for an end, and never sees one (docs/decisions/0008). */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { consign } from "../../gateway/outbound.ts";
import { Fault } from "../../mime/fault.ts";
import { forever, openHouse, type House } from "../broker/house.ts";
import { canRunPostfix, startPostfix, type PostfixServer } from "../servers/postfix.ts";
import { ALICE, openTestDoor, type TestDoor } from "./door.ts";
import { startHop, type Hop } from "./hop.ts";
import { openOffice, recipientOf, type Office } from "./outbound-place.ts";
import { SEQUENCES, smuggled } from "./smuggling.ts";
import { Talk } from "./talk.ts";

const FIRST = "first@pass.example";
const SECOND = "second@pass.example";
if (!canRunPostfix) process.stderr.write("skipped: Postfix can be started by root only\n");

let house: House;
let behind: Hop;
let postfix: PostfixServer;
let office: Office;
let door: TestDoor;

(canRunPostfix ? describe : describe.skip)("behind the gateway", () => {
  beforeAll(async () => {
    [house, behind] = await Promise.all([openHouse(), startHop()]);
    postfix = await startPostfix({ domains: ["pass.example"], transport: `smtp:[127.0.0.1]:${behind.port}` });
    const alice = await (await house.gateway("a.example")).enrol(ALICE);
    office = await openOffice(house, alice, postfix.port);
    door = await openTestDoor();
    door.consign = (submission) => consign(office.parts, submission, forever);
  });
  beforeEach(() => {
    behind.attempts.all.length = 0;
  });
  afterAll(async () => {
    await door?.stop();
    await office?.close();
    await Promise.all([postfix?.stop(), behind?.close(), house?.stop()]);
  });

  /** Mails that Postfix has begun to take so far; it says so at the first recipient, long before it delivers. */
  const taken = (): number => postfix.log().match(/smtpd\[\d+\]: [0-9A-F]+: client=/gu)?.length ?? 0;

  /** The recipients of all that came through Postfix, once an honest mail has come. */
  async function cameThrough(): Promise<string[]> {
    const last = "last@pass.example";
    await office.send(`From: ${ALICE}\nTo: ${last}\n\nHello.\n`, [], { recipients: [recipientOf(last, "pass")] });
    await behind.attempts.until(({ to }) => to.includes(last));
    return behind.attempts.all.flatMap(({ to }) => to);
  }

  async function offer(talk: Talk, end: string): Promise<string> {
    await talk.say(`MAIL FROM:<${ALICE}>`);
    await talk.say(`RCPT TO:<${FIRST}>`);
    await talk.say("DATA");
    talk.write(Buffer.from(smuggled(end, ALICE, [FIRST, SECOND]), "latin1"));
    return talk.hear();
  }

  test("Postfix itself, spoken to without the gateway, can be fooled: the test can fail", async () => {
    const talk = await Talk.open(postfix.port);
    await talk.say("EHLO client.example");
    await offer(talk, "\n.\n");
    for (const recipient of [FIRST, SECOND]) await behind.attempts.until(({ to }) => to.includes(recipient)); // both, before the next test
    talk.close();
  });

  test("the door lets none of the fifteen sequences by: no first mail and no second", async () => {
    const before = taken();
    for (const [, end] of SEQUENCES) {
      const talk = await door.enter();
      expect(await offer(talk, end)).toMatch(/^554 /u);
      talk.close();
    }
    expect(await cameThrough()).toEqual(["last@pass.example"]);
    expect(taken() - before).toBe(1);
  });

  test("nor does the walk behind the door make a second mail of them: each is one mail, or refused for its NUL", async () => {
    const before = taken();
    let refused = 0;
    for (const [at, [, end]] of SEQUENCES.entries()) {
      const message = Buffer.from(`Message-ID: <${at}@a.example>\r\n${smuggled(end, ALICE, [FIRST, SECOND]).slice(0, -5)}`, "latin1");
      await office.send(message, [], { recipients: [recipientOf(FIRST, "pass")] }).catch((thrown: unknown) => {
        if (!(thrown instanceof Fault) || thrown.code !== "malformed") throw thrown;
        refused++;
      });
    }
    await behind.attempts.until(({ to }) => to.includes(FIRST), SEQUENCES.length - 2);
    expect(refused).toBe(2);
    const recipients = await cameThrough();
    expect(recipients.filter((one) => one === FIRST)).toHaveLength(SEQUENCES.length - 2);
    expect(recipients).not.toContain(SECOND);
    expect(taken() - before).toBe(SEQUENCES.length - 2 + 1);
  });
});
