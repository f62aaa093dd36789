/** What proves an opening (S10): the recipient's own signed receipt for exactly the letter that was declared; in both forms, all orders of signing and both embodiments. */
import { createPublicKey } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { createRoot, issue } from "../../broker/authority.ts";
import type { Declared, OpeningProof, Release } from "../../broker/client.ts";
import { sessionHash, type Session } from "../../broker/session.ts";
import { openTicket } from "../../broker/ticket.ts";
import { OID } from "../../mime/oids.ts";
import { makeReceipt, receiptRequest, type Original } from "../../mime/receipt.ts";
import { newKey } from "../../mime/request.ts";
import { sign, type Signer } from "../../mime/sign.ts";
import {
  DAY,
  call,
  confirmAs,
  declaredTo,
  forever,
  letterFrom,
  openHouse,
  originalOf,
  proofBy,
  signedBy,
  ticketOf,
  wordOf,
  writtenFor,
  type House,
  type Member,
  type TestForm,
} from "./house.ts";

const BOB = "bob@b.example";
const DAVE = "dave@nowhere.example";

let house: House;
let alice: Member;
let bob: Member;
let carol: Member;

beforeAll(async () => {
  house = await openHouse();
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  const b = await house.gateway("b.example");
  [bob, carol] = [await b.enrol(BOB), await b.enrol("carol@b.example")];
});
afterAll(() => house?.stop());

const rowOf = (ticket: Buffer): Promise<Session | undefined> =>
  house.table.find(sessionHash(openTicket(ticket, house.broker.sessionKeys).sessionId));
const ticketIn = (form: TestForm, confirm: Declared["confirm"] = "next-session"): Promise<Buffer> =>
  ticketOf(house, alice, BOB, { recipients: [declaredTo(house, alice, BOB, form)], confirm });
const present = (ticket: Buffer): Promise<Release> => bob.gateway.client.present(ticket, bob.identity, forever);
const confirm = (ticket: Buffer, proof: OpeningProof) => bob.gateway.client.confirm(ticket, proof, bob.identity, forever);
const receiptFor = (original: Original, signer = bob.identity.signer): Buffer => makeReceipt(original, signer, house.now());
/** Another letter to Bob that was declared and really signed. */
const another = (form: TestForm = {}): string => declaredTo(house, alice, BOB, form).commit;

/** The original as if it had asked for the receipt of another content. */
function naming(original: Original, contentId: Buffer): Original {
  const [request] = receiptRequest(contentId, house.url).values;
  return { ...original, attribute: (type) => (type === OID.receiptRequest ? request : original.attribute(type)) };
}

/** A certificate of Bob's address that he never enrolled. */
async function strangerAsBob(root: Signer): Promise<Signer> {
  const key = newKey();
  const times = { notBefore: new Date(Date.now() - DAY), notAfter: new Date(Date.now() + DAY) };
  const order = { profile: "mailbox-signing" as const, publicKey: createPublicKey(key), commonName: BOB, mailboxes: [bob.mailbox] };
  return { key, certificate: await issue(root, { ...order, ...times }) };
}

type Forgery = readonly [string, TestForm, (commit: string) => Promise<OpeningProof> | OpeningProof, ("signature-invalid" | "malformed")?];

const FORGERIES: readonly Forgery[] = [
  ["a receipt signed by another mailbox of the gateway", {}, (commit) => proofBy(house, carol, commit)],
  ["a receipt signed by the sender, who would like one", {}, (commit) => proofBy(house, alice, commit)],
  [
    "a receipt signed by the broker",
    {},
    (commit) => ({ receipt: receiptFor(originalOf(house, commit), house.broker.signer), openingValue: undefined }),
  ],
  [
    "a receipt signed with another certificate of the recipient's address",
    {},
    async (commit) => ({
      receipt: receiptFor(originalOf(house, commit), await strangerAsBob(house.broker.root)),
      openingValue: undefined,
    }),
  ],
  [
    "a receipt signed under another root",
    {},
    async (commit) => {
      const foreign = await createRoot("Foreign", new Date(Date.now() - DAY), new Date(Date.now() + DAY));
      return { receipt: receiptFor(originalOf(house, commit), await strangerAsBob(foreign)), openingValue: undefined };
    },
  ],
  ["a receipt of another letter", {}, () => proofBy(house, bob, another())],
  [
    "a receipt of another letter beside the right value",
    {},
    (commit) => ({ ...proofBy(house, bob, another()), openingValue: originalOf(house, commit).signature }),
  ],
  [
    "a receipt that names another content",
    {},
    (commit) => ({ receipt: receiptFor(naming(originalOf(house, commit), Buffer.alloc(32, 7))), openingValue: undefined }),
  ],
  [
    "a receipt whose signature was altered",
    {},
    (commit) => ({ receipt: altered(proofBy(house, bob, commit).receipt), openingValue: undefined }),
  ],
  ["a receipt that is none, though signed by the recipient", {}, () => ({ receipt: notAReceipt(), openingValue: undefined }), "malformed"],
  [
    "a receipt that is cut short",
    {},
    (commit) => ({ receipt: proofBy(house, bob, commit).receipt.subarray(0, -1), openingValue: undefined }),
    "malformed",
  ],
  ["octets for a receipt", {}, () => ({ receipt: Buffer.from("receipt"), openingValue: undefined }), "malformed"],
  [
    "no opening value where the signature stood outside",
    { signing: "outer" },
    (commit) => ({ ...proofBy(house, bob, commit), openingValue: undefined }),
  ],
  [
    "the opening value of another letter where the signature stood outside",
    { signing: "outer" },
    (commit) => ({ ...proofBy(house, bob, commit), openingValue: writtenFor(another({ signing: "outer" })).openingValue }),
  ],
  [
    "what everybody saw, the signature outside, for the opening value",
    { signing: "outer" },
    (commit) => ({ ...proofBy(house, bob, commit), openingValue: originalOf(house, commit).signature }),
  ],
  [
    "the right opening value beside the receipt of another content where the signature stood outside",
    { signing: "outer" },
    (commit) => ({ ...proofBy(house, bob, another({ signing: "outer" })), openingValue: writtenFor(commit).openingValue }),
  ],
];

function altered(receipt: Buffer): Buffer {
  const copy = Buffer.from(receipt);
  copy[copy.length - 1] = (copy.at(-1) ?? 0) ^ 1;
  return copy;
}

const notAReceipt = (): Buffer => sign(Buffer.from("opened"), bob.identity.signer, { time: house.now(), detached: false }).der;

/** Bob was given the key, and what he offers for a confirmation is refused: nothing changes, and the honest one is taken. */
async function refused(form: TestForm, attempt: (release: Release) => Promise<unknown>): Promise<void> {
  const ticket = await ticketIn(form);
  const release = await present(ticket);
  const [before, receipts] = [await rowOf(ticket), house.receipts()];
  await attempt(release);
  expect(before).toMatchObject({ state: "released", wrappedKey: expect.any(Buffer) });
  expect(await rowOf(ticket)).toEqual(before);
  expect(house.receipts()).toBe(receipts);
  expect((await house.table.pending()).map(({ session }) => session)).not.toContain(before?.session);
  await expect(confirmAs(house, bob, release)).resolves.toHaveProperty("evidence");
}

describe("a confirmation is refused, no receipt is queued and the key stays, with", () => {
  test.each(FORGERIES)("%s", async (_why, form, forge, code = "signature-invalid") => {
    await refused(form, async ({ nextTicket, commit }) => {
      await expect(confirm(nextTicket, await forge(commit))).rejects.toMatchObject({ code });
    });
  });

  test.each([
    ["no receipt", {}],
    ["an empty receipt", { receipt: "" }],
  ])("%s: malformed, for the step needs one", async (_why, receipt) => {
    await refused({}, async ({ nextTicket }) => {
      const body = signedBy(house, bob, "confirm", { nextTicket: nextTicket.toString("base64"), result: "opened", ...receipt });
      expect(wordOf(await call(house, bob.gateway.channel, "/v1/confirm", { body }))).toBe("malformed");
    });
  });
});

const HOLDS = ["held", "enclosed"] as const;
const ORDERS = ["inner", "outer", "both"] as const;
const FORMS = HOLDS.flatMap((hold) => ORDERS.map((signing) => [hold, signing] as const));

describe.each(FORMS)("a letter %s and signed %s", (hold, signing) => {
  test.each(["next-session", "same-session"] as const)("is released and confirmed, %s", async (embodiment) => {
    const ticket = await ticketIn({ hold, signing }, embodiment);
    const release = await present(ticket);
    expect(release).toMatchObject({ hold, signing });
    expect(release.nextTicket.equals(ticket)).toBe(embodiment === "same-session");
    const { evidence } = await confirmAs(house, bob, release);
    const row = await rowOf(ticket);
    expect(row).toMatchObject({ state: "confirmed", evidence, certificate: bob.identity.signer.certificate.fingerprint });
    expect(row).not.toHaveProperty("wrappedKey");
    expect(await house.table.pending()).toContainEqual({ evidence, session: row?.session });
  });
});

test("an opening value beside a receipt that holds it already is not kept: the evidence could not carry everything that somebody sends", async () => {
  const ticket = await ticketIn({});
  const release = await present(ticket);
  await confirm(release.nextTicket, { ...proofBy(house, bob, release.commit), openingValue: Buffer.alloc(900, 1) });
  const row = await rowOf(ticket);
  expect(row?.state === "confirmed" && JSON.parse(row.proof)).toMatchObject({ openingValue: "" });
});

describe("same-session, the first embodiment", () => {
  test("the first ticket confirms; repeated, it gets the same evidence, and one receipt waits", async () => {
    const ticket = await ticketIn({}, "same-session");
    const { commit } = await present(ticket);
    const answers = await Promise.all([1, 2, 3].map(() => confirmAs(house, bob, { nextTicket: ticket, commit })));
    expect(new Set(answers.map(({ evidence }) => evidence)).size).toBe(1);
    expect((await house.table.pending()).filter(({ evidence }) => evidence === answers[0]?.evidence)).toHaveLength(1);
    await expect(present(ticket)).rejects.toMatchObject({ code: "session-gone" });
  });

  test("nothing is confirmed before the key was given out", async () => {
    const recipient = declaredTo(house, alice, BOB);
    const ticket = await ticketOf(house, alice, BOB, { recipients: [recipient], confirm: "same-session" });
    const attempt = confirmAs(house, bob, { nextTicket: ticket, commit: recipient.commit });
    await expect(attempt).rejects.toMatchObject({ code: "session-gone" });
    expect((await rowOf(ticket))?.state).toBe("declared");
  });
});

test("next-session, the second embodiment: the first ticket confirms nothing", async () => {
  const ticket = await ticketIn({});
  const { commit } = await present(ticket);
  await expect(confirmAs(house, bob, { nextTicket: ticket, commit })).rejects.toMatchObject({ code: "session-gone" });
  expect((await rowOf(ticket))?.state).toBe("released");
});

describe("enclosed", () => {
  test("the broker grants a key that it does not keep, and releases none", async () => {
    const order = letterFrom(house, alice, [], { recipients: [declaredTo(house, alice, BOB, { hold: "enclosed" })] });
    const [grant] = await alice.gateway.client.declare(order, alice.identity, forever);
    if (!grant) throw new Error("no grant");
    expect(grant.key.lend(({ length }) => length)).toBe(32);
    const declared = await rowOf(grant.ticket);
    expect(declared).toMatchObject({ state: "declared", wrappedKey: Buffer.from("none") });
    expect((await present(grant.ticket)).key).toBeUndefined();
    expect(await rowOf(grant.ticket)).toMatchObject({ state: "released", wrappedKey: Buffer.from("none") });
  });

  test("may be declared for a recipient who is not enrolled, and then the grant holds no certificate", async () => {
    const order = letterFrom(house, alice, [], { recipients: [declaredTo(house, alice, DAVE, { hold: "enclosed" })] });
    const [grant, ...others] = await alice.gateway.client.declare(order, alice.identity, forever);
    expect(others).toEqual([]);
    expect(grant).toMatchObject({ recipient: { key: DAVE }, encryptionCertificate: undefined });
  });

  test.each(ORDERS)("but held, signed %s, may not", async (signing) => {
    const order = letterFrom(house, alice, [], { recipients: [declaredTo(house, alice, DAVE, { signing })] });
    await expect(alice.gateway.client.declare(order, alice.identity, forever)).rejects.toMatchObject({ code: "no-certificate" });
  });
});
