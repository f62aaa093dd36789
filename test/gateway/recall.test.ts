/** Recall: at the broker by the sender, out of the spool where a copy has not left, by a mail to the control address; and what the recipient finds in its place. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { ticketHash, type Identity } from "../../broker/client.ts";
import { command, isCommand, type ControlParts } from "../../gateway/control.ts";
import type { Hand, RecallOutcome, SessionStatus } from "../../gateway/hand.ts";
import { recordNotice, type Told } from "../../gateway/receipts.ts";
import { recall } from "../../gateway/recall.ts";
import { withBroker } from "../../gateway/status.ts";
import type { Submission } from "../../gateway/submission.ts";
import { parseMailbox } from "../../mime/address.ts";
import { toCrlf } from "../../mime/entity.ts";
import { Fault } from "../../mime/fault.ts";
import { splitMessage, valueOf } from "../../mime/headers.ts";
import { forever, openHouse, type House, type Member } from "../broker/house.ts";
import { startDovecot, type DovecotServer } from "../servers/dovecot.ts";
import { startHop } from "./hop.ts";
import { openDesk, PASSWORD } from "./inbound-place.ts";
import { openOffice, recipientOf, type Office } from "./outbound-place.ts";

const BOB = "bob@b.example";
const CAROL = "carol@b.example";
const MESSAGE_ID = "<1@a.example>";
const AT = new Date("2026-03-01T12:00:00Z");
const LETTER = `From: alice@a.example\nTo: ${BOB}, ${CAROL}\nSubject: the secret subject\nMessage-ID: ${MESSAGE_ID}\n\nThe secret text.\n`;

let house: House;
let alice: Member;
let bob: Member;
let dovecot: DovecotServer;
const running: (() => Promise<void>)[] = [];

beforeAll(async () => {
  [house, dovecot] = await Promise.all([openHouse(), startDovecot({ users: { [BOB]: PASSWORD } })]);
  alice = await (await house.gateway("a.example")).enrol("alice@a.example", ["a.liddell@a.example"]);
  const b = await house.gateway("b.example");
  bob = await b.enrol(BOB);
  await b.enrol(CAROL);
});
afterEach(async () => {
  for (let stop = running.pop(); stop; stop = running.pop()) await stop();
});
afterAll(async () => {
  await house?.stop();
  await dovecot?.stop();
});

/** A hand that answers by ticket as it was told, and remembers who asked for what. */
class ToldHand implements Hand {
  readonly asked: { tickets: readonly Buffer[]; identity: Identity }[] = [];
  readonly answers: (RecallOutcome | Error)[];

  constructor(...answers: (RecallOutcome | Error)[]) {
    this.answers = answers;
  }

  async recall(tickets: readonly Buffer[], identity: Identity): Promise<readonly RecallOutcome[]> {
    this.asked.push({ tickets, identity });
    return tickets.map((_, at) => {
      const answer = this.answers[at] ?? { outcome: "gone" };
      if (answer instanceof Error) throw answer;
      return answer;
    });
  }

  async status(tickets: readonly Buffer[]): Promise<readonly SessionStatus[]> {
    return tickets.map(() => ({ state: "released", releasedAt: AT }));
  }
}

const recalled: RecallOutcome = { outcome: "recalled", at: AT };
const tooLate: RecallOutcome = { outcome: "too-late", releasedAt: AT };

async function open(port?: number): Promise<Office> {
  const office = await openOffice(house, alice, port);
  running.push(() => office.close());
  return office;
}

/** A letter that left to Bob and Carol. */
async function sent(): Promise<Office> {
  const hop = await startHop();
  running.push(() => hop.close());
  const office = await open(hop.port);
  await office.send(LETTER, [BOB, CAROL]);
  await hop.attempts.until(() => true, 2);
  await office.parts.relay.close();
  return office;
}

/** The same, with a next hop that is not there: the copies wait in the spool. */
async function waiting(): Promise<Office> {
  const office = await open();
  const id = await office.send(LETTER.replace("The secret text", "A letter of its own"), [BOB, CAROL]);
  await house.heard.lines.until(({ event, accepted }) => event === "letter.announced" && accepted === id, 2); // after its first attempt
  return office;
}

function partsOf(office: Office, hand: Hand): ControlParts {
  const { spool, relay, name, log, identityOf, now } = office.parts;
  const { letters } = office;
  const holdBack = (sessions: ReadonlySet<string>) => relay.holdBack(sessions);
  return {
    hand,
    spool,
    relay,
    name,
    log,
    identityOf,
    now,
    letters,
    holdBack,
    language: "en",
    address: parseMailbox("recall@gateway.a.example"),
  };
}

const statesOf = async (office: Office) => (await office.letters.all()).flatMap(({ recipients }) => recipients.map(({ state }) => state));

describe("a letter that left", () => {
  test("is recalled at the broker with the tickets of the register and the sender's identity; each recipient has its outcome", async () => {
    const office = await sent();
    const hand = new ToldHand(recalled, tooLate);
    const outcomes = await recall(partsOf(office, hand), { messageId: MESSAGE_ID }, forever);
    expect(outcomes).toEqual([
      { recipient: BOB, outcome: { word: "recalled", at: AT } },
      { recipient: CAROL, outcome: { word: "too-late", at: AT } },
    ]);
    const [register] = await office.letters.all();
    expect(hand.asked[0]?.tickets.map((ticket) => ticketHash(ticket))).toEqual(register?.recipients.map(({ session }) => session));
    expect(hand.asked[0]?.identity.signer.certificate.fingerprint).toBe(alice.identity.signer.certificate.fingerprint);
    expect(await statesOf(office)).toEqual(["recalled", "accepted"]);
  });

  test("is said to be readable still where its key travels inside it", async () => {
    const office = await sent();
    const [register] = await office.letters.all();
    if (!register) throw new Error("no letter");
    for (const { session } of register.recipients) await office.letters.change(register, session, { isEnclosed: true });
    const outcomes = await recall(partsOf(office, new ToldHand(recalled, recalled)), { messageId: MESSAGE_ID }, forever);
    expect(outcomes?.map(({ outcome }) => outcome.word)).toEqual(["recalled-enclosed", "recalled-enclosed"]);
  });

  test("is recalled for one recipient only where one is named", async () => {
    const office = await sent();
    const hand = new ToldHand(recalled);
    const outcomes = await recall(partsOf(office, hand), { messageId: MESSAGE_ID, to: parseMailbox(CAROL) }, forever);
    expect(outcomes?.map(({ recipient }) => recipient)).toEqual([CAROL]);
    expect(hand.asked[0]?.tickets).toHaveLength(1);
  });

  test.each([
    ["of another sender", { messageId: MESSAGE_ID, senders: ["mallory@a.example"] }],
    ["that is not there", { messageId: "<2@a.example>" }],
    ["to somebody who was no recipient", { messageId: MESSAGE_ID, to: parseMailbox("eve@b.example") }],
  ])("%s is no letter, and the broker is not asked", async (_why, order) => {
    const office = await sent();
    const hand = new ToldHand(recalled);
    expect(await recall(partsOf(office, hand), order, forever)).toBeUndefined();
    expect(hand.asked).toEqual([]);
  });

  test("stays as it was where the broker cannot be reached", async () => {
    const office = await sent();
    const hand = new ToldHand(new Fault("unavailable", "away"));
    await expect(recall(partsOf(office, hand), { messageId: MESSAGE_ID }, forever)).rejects.toMatchObject({ code: "unavailable" });
    expect(await statesOf(office)).toEqual(["accepted", "accepted"]);
  });

  test("has beside its states what the broker says of its sessions", async () => {
    const office = await sent();
    const status = { sent: await office.letters.all(), notOpened: [] };
    const asked = await withBroker(status, { hand: new ToldHand(), identityOf: () => alice.identity }, forever);
    expect(asked.sent[0]?.recipients.map(({ atBroker }) => atBroker)).toEqual([
      { state: "released", releasedAt: AT },
      { state: "released", releasedAt: AT },
    ]);
  });
});

test("a copy that has not left is withdrawn: it never leaves, also after a restart, and the other one goes on", async () => {
  const office = await waiting();
  const outcomes = await recall(partsOf(office, new ToldHand(recalled)), { messageId: MESSAGE_ID, to: parseMailbox(BOB) }, forever);
  expect(outcomes).toEqual([{ recipient: BOB, outcome: { word: "withdrawn" } }]);
  const [kept] = await office.spool.all();
  expect(kept?.progress.map(({ stage }) => stage)).toEqual(["failed", "waiting"]);
  expect(await statesOf(office)).toEqual(["recalled", "accepted"]);
});

describe("a mail to the control address", () => {
  const mail = (subject: string): Submission => ({
    submitter: { name: "alice", identities: [alice.mailbox] },
    sender: alice.mailbox,
    recipients: [recipientOf("Recall@gateway.a.example", "pass")],
    envelopeId: undefined,
    returns: undefined,
    message: toCrlf(Buffer.from(`From: alice@a.example\nSubject: ${subject}\nMessage-ID: <command@a.example>\n\n`)),
    protocol: "ESMTPSA",
  });

  async function answerTo(subject: string, hand: Hand = new ToldHand(recalled, tooLate)) {
    const hop = await startHop();
    running.push(() => hop.close());
    const office = await open(hop.port);
    await office.send(LETTER, [BOB, CAROL]);
    await hop.attempts.until(() => true, 2);
    await command(partsOf(office, hand), mail(subject), forever);
    const all = await hop.attempts.until(({ from }) => from === "");
    return all.find(({ from }) => from === "");
  }

  test("recalls a letter of its sender, goes nowhere, and is answered by a notice below the letter", async () => {
    const answer = await answerTo(`recall ${MESSAGE_ID}`);
    expect(answer?.to).toEqual(["alice@a.example"]);
    const { fields, body } = splitMessage(answer?.mail ?? Buffer.alloc(0));
    expect(fields.filter(({ name }) => name === "in-reply-to").map((item) => valueOf(item))).toEqual([MESSAGE_ID]);
    expect(String(body)).toContain(`  ${BOB}\r\n    recalled at 2026-03-01 12:00:00 UTC, never released`);
    expect(String(body)).toContain(`  ${CAROL}\r\n    too late, released at 2026-03-01 12:00:00 UTC`);
  });

  test.each([
    ["names one recipient", `Recall 1@a.example ${BOB}`, /bob@b\.example/u],
    ["names a letter that is not there", "recall <2@a.example>", /No letter <2@a\.example> of yours/u],
    ["is no command", "please recall", /no command/u],
    ["names no address behind the letter", `recall ${MESSAGE_ID} bob`, /no command/u],
  ])("%s", async (_why, subject, words) => {
    const { body } = splitMessage((await answerTo(subject))?.mail ?? Buffer.alloc(0));
    expect(String(body)).toMatch(words);
    expect(String(body)).not.toContain(CAROL);
  });

  test("is told from a letter by its only recipient; with others it is refused", () => {
    const address = parseMailbox("recall@gateway.a.example");
    expect(isCommand(mail("recall x"), address)).toBe(true);
    expect(isCommand(mail("recall x"), undefined)).toBe(false);
    expect(isCommand({ ...mail("x"), recipients: [recipientOf(BOB)] }, address)).toBe(false);
    const both = { ...mail("x"), recipients: [recipientOf("recall@gateway.a.example", "pass"), recipientOf(BOB)] };
    expect(() => isCommand(both, address)).toThrow(expect.objectContaining({ code: "forbidden" }));
  });
});

describe("in the recipient's mailbox", () => {
  async function desk() {
    const office = await open();
    await office.send(LETTER, [BOB]);
    const [copy] = await office.copies();
    const inbox = await openDesk(house, bob, dovecot);
    running.push(() => inbox.close());
    inbox.broker.fail = new Fault("recalled", "taken back");
    await inbox.deliver(copy?.mail ?? Buffer.alloc(0));
    return inbox;
  }

  test("a recalled letter leaves a note of who, when and which, without a word of the letter; the original goes", async () => {
    const inbox = await desk();
    expect(await inbox.look()).toEqual([]);
    const mails = await inbox.mails();
    expect(mails).toHaveLength(1);
    expect(mails[0]?.text).toContain("Sender:     alice@a.example");
    expect(mails[0]?.text).toContain(`In-Reply-To: ${MESSAGE_ID}`);
    expect(mails[0]?.text).not.toContain("secret");
    expect(await inbox.look()).toEqual([]);
    expect(await inbox.mails()).toHaveLength(1);
  });

  test.each([
    ["before its marker is kept", { stage: "recalling", when: "before" }],
    ["when its marker is kept", { stage: "recalling", when: "after" }],
    ["before it is known to be filed", { stage: "recalled", when: "before" }],
    ["before the original goes", { stage: "recalled", when: "after" }],
  ] as const)("the note is there once, whatever goes wrong %s", async (_why, cut) => {
    const inbox = await desk();
    inbox.journal.cut = cut;
    expect(await inbox.look()).toHaveLength(1);
    inbox.journal.cut = undefined;
    expect(await inbox.look()).toEqual([]);
    const mails = await inbox.mails();
    expect(mails.map(({ text }) => text.includes("was recalled by its sender"))).toEqual([true]);
  });
});

describe("what the broker signed about a letter is recorded:", () => {
  const told = (changes: Partial<Told>): Told => ({
    evidence: "evidence-0123456789abcdef",
    event: "ContentHandoverFailure",
    sender: "alice@a.example",
    recipient: BOB,
    messageId: MESSAGE_ID,
    session: "",
    commit: "",
    releasedAt: "",
    endedAt: AT.toISOString(),
    ...changes,
  });

  test.each([
    ["expired, never opened", [{ reason: "expired" }], "expired"],
    ["recalled", [{ reason: "recalled" }], "recalled"],
    ["delayed", [{ event: "Delayed", delayedAt: AT.toISOString() }], "delayed"],
    [
      "delayed, then expired",
      [
        { event: "Delayed", delayedAt: AT.toISOString() },
        { reason: "expired", evidence: "evidence-2" },
      ],
      "expired",
    ],
    ["expired, with an older delay coming after it", [{ reason: "expired" }, { event: "Delayed", evidence: "evidence-2" }], "expired"],
    ["something else", [{ event: "SubmissionAcceptance" }], "accepted"],
  ] as const)("%s", async (_why, notices, state) => {
    const office = await sent();
    const [register] = await office.letters.all();
    const session = register?.recipients[0]?.session ?? "";
    for (const notice of notices)
      await recordNotice({ letters: office.letters, log: house.heard.log }, told({ ...notice, session }), LETTER_MAIL);
    const [first] = (await office.letters.all())[0]?.recipients ?? [];
    expect(first?.state).toBe(state);
  });
});

const LETTER_MAIL = Buffer.from("From: x\r\n\r\n");
