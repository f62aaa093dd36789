/** The proof of opening: every link is looked at, the first wrong one is named, and nothing less than the whole chain holds. */
import { createHash } from "node:crypto";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { base64Entity, multipart, parseEntity, splitMultipart } from "../../mime/entity.ts";
import type { HandoverEvidence } from "../../mime/evidence.ts";
import { splitMessage } from "../../mime/headers.ts";
import { OID } from "../../mime/oids.ts";
import { verifyProof, type ProofFiles } from "../../mime/proof.ts";
import { makeReceipt } from "../../mime/receipt.ts";
import { buildReceipt } from "../../mime/report.ts";
import { sign, verify, type Signer } from "../../mime/sign.ts";
import {
  BROKER,
  CONTENT_ID,
  MESSAGE,
  NOW,
  UNTIL,
  brokerOf,
  evidence,
  makeParties,
  payloadOf,
  releasedBefore,
  signedBy,
  type Parties,
} from "./parties.ts";

const sha256 = (octets: Buffer): string => createHash("sha256").update(octets).digest("hex");

let parties: Parties;
/** All three files of a proof. */
interface Whole {
  readonly receipt: Buffer;
  readonly original: Buffer;
  readonly payload: Buffer;
}

let whole: Whole;
beforeAll(async () => {
  parties = await makeParties();
  whole = proofOf(payloadOf(MESSAGE));
});

const trust = () => ({ roots: [parties.root.certificate], at: NOW, broker: undefined });

interface Changes {
  readonly statement?: Partial<HandoverEvidence>;
  readonly recipientReceipt?: Buffer;
  readonly receiptSigner?: Signer;
  readonly broker?: Signer;
}

/** A letter of Alice with this payload, opened by Bob, proved by the broker. */
function proofOf(payload: Buffer, changes: Changes = {}): Whole {
  const letter = signedBy(payload, parties.alice.signer);
  const der = letter.signatureFile ?? Buffer.alloc(0);
  const original = verify(der, { ...trust(), purpose: OID.emailProtection }, payload);
  const bob = changes.receiptSigner ?? parties.bob.signer;
  const recipientReceipt = changes.recipientReceipt ?? makeReceipt(original, bob, NOW);
  const statement: HandoverEvidence = {
    ...evidence,
    commit: letter.commit,
    contentId: CONTENT_ID.toString("hex"),
    recipientCertificate: bob.certificate.fingerprint,
    recipientReceipt: sha256(recipientReceipt),
    ...changes.statement,
  };
  const order = {
    evidence: statement,
    released: releasedBefore(statement),
    recipientReceipt,
    from: "r@broker.example",
    host: "broker.example",
    time: NOW,
  };
  return { receipt: buildReceipt(order, changes.broker ?? parties.broker), original: der, payload };
}

/** What is not good in a verdict: `link: state`. */
const wrong = (files: ProofFiles): string[] =>
  verifyProof(files, trust()).links.flatMap(({ link, state }) => (state === "good" ? [] : [`${link}: ${state}`]));

test("the whole chain holds, and says who opened what", () => {
  const { holds, links, evidence: found } = verifyProof(whole, trust());
  expect(links.map(({ state }) => state)).toEqual(["good", "good", "good", "good", "good"]);
  expect(holds).toBe(true);
  expect(found?.recipient).toBe("bob@b.example");
});

test("it holds years later at the time of the opening, and not at a time when the certificates have expired", () => {
  const later = new Date(UNTIL.getTime() + 1_000);
  expect(verifyProof(whole, { ...trust(), at: later }).holds).toBe(false);
  expect(verifyProof(whole, { ...trust(), at: new Date(evidence.confirmedAt) }).holds).toBe(true);
});

describe("a missing part is named and nothing is proved", () => {
  test.each<[string, () => ProofFiles, string[]]>([
    ["the original signature", () => ({ ...whole, original: undefined }), ["original signature: missing"]],
    ["the payload", () => ({ ...whole, payload: undefined }), ["payload: missing"]],
    ["the recipient's receipt", () => ({ ...whole, receipt: without("recipient-receipt.p7m") }), ["recipient's receipt: missing"]],
    ["the statement of release", () => ({ ...whole, receipt: without("released.p7m") }), ["statement of release: missing"]],
  ])("%s", (_why, files, expected) => {
    expect(wrong(files())).toEqual(expected);
    expect(verifyProof(files(), trust()).holds).toBe(false);
  });

  test("the broker's evidence", () => {
    expect(wrong({ ...whole, receipt: without("evidence.p7m") })).toEqual(["broker's receipt and evidence: bad"]);
  });
});

describe("what does not belong together is told apart", () => {
  const other = (): Whole => proofOf(payloadOf(Buffer.from(MESSAGE.toString().replace("secret text", "other text"))));

  test.each<[string, () => ProofFiles, string[]]>([
    ["an altered payload: the receipt alone would still verify", () => ({ ...whole, payload: altered(whole.payload) }), ["payload: bad"]],
    ["the signature of another letter", () => ({ ...whole, original: other().original }), ["original signature: bad", "payload: bad"]],
    ["the receipt of another letter", () => ({ ...whole, receipt: other().receipt }), ["original signature: bad"]],
    ["the recipient's receipt of another letter", () => swapped(other()), ["recipient's receipt: bad"]],
    ["a receipt signed by Carol", () => proofOf(whole.payload, { receiptSigner: parties.carol.signer }), ["recipient's receipt: bad"]],
    [
      "evidence that names another receipt",
      () => proofOf(whole.payload, { statement: { recipientReceipt: "00".repeat(32) } }),
      ["recipient's receipt: bad"],
    ],
    [
      "evidence with another commitment",
      () => proofOf(whole.payload, { statement: { commit: "00".repeat(32) } }),
      ["recipient's receipt: bad"],
    ],
    [
      "evidence about another content",
      () => proofOf(whole.payload, { statement: { contentId: "00".repeat(32) } }),
      ["recipient's receipt: bad"],
    ],
    [
      "evidence about another recipient",
      () => proofOf(whole.payload, { statement: { recipient: "carol@c.example" } }),
      ["recipient's receipt: bad"],
    ],
    ["evidence about another sender", () => proofOf(whole.payload, { statement: { sender: "carol@c.example" } }), ["payload: bad"]],
    ["evidence signed by Bob", () => proofOf(whole.payload, { broker: parties.bob.signer }), ["broker's receipt and evidence: bad"]],
    ["a text instead of a receipt", () => ({ ...whole, receipt: MESSAGE }), ["broker's receipt and evidence: bad"]],
    [
      "rubbish instead of the signature",
      () => ({ ...whole, original: Buffer.from("3000", "hex") }),
      ["original signature: bad", "payload: bad"],
    ],
  ])("%s", (_why, files, expected) => {
    expect(wrong(files()).filter((link) => !link.endsWith("missing"))).toEqual(expected);
    expect(verifyProof(files(), trust()).holds).toBe(false);
  });

  test("another broker than the one that is asked for", async () => {
    const foreign = await brokerOf(parties.root, "https://other.example");
    const files = proofOf(whole.payload, { broker: foreign, statement: { broker: "https://other.example" } });
    expect(verifyProof(files, { ...trust(), broker: BROKER }).holds).toBe(false);
    expect(verifyProof(files, trust()).holds).toBe(true);
  });

  function swapped(foreign: Whole): ProofFiles {
    const [report] = splitMultipart(parseEntity(foreign.receipt));
    const [mixed] = splitMultipart(parseEntity(report ?? Buffer.alloc(0)));
    const der = splitMultipart(parseEntity(mixed ?? Buffer.alloc(0))).at(-1) ?? Buffer.alloc(0);
    const recipientReceipt = Buffer.from(splitMessage(der).body.toString(), "base64");
    return proofOf(whole.payload, { recipientReceipt });
  }
});

test("one hundred altered receipts of a hundred are refused, each with the link that broke", () => {
  const text = whole.receipt.toString("latin1");
  const from = text.indexOf("Your registered letter was opened");
  const end = text.lastIndexOf("\r\n--", text.lastIndexOf("pkcs7-signature")); // the header of the signature itself is nobody's word
  let refused = 0;
  for (let turn = 0; turn < 100; turn++) {
    const at = from + Math.floor(((end - from) * turn) / 100);
    const mutant = Buffer.from(whole.receipt);
    mutant[at] = mutant[at] === 0x41 ? 0x42 : 0x41;
    if (mutant.equals(whole.receipt)) continue;
    const { holds, links } = verifyProof({ ...whole, receipt: mutant }, trust());
    if (!holds && links.some(({ state, detail }) => state !== "good" && detail !== "")) refused++;
  }
  expect(refused).toBe(100);
});

function altered(payload: Buffer): Buffer {
  return Buffer.from(payload.toString().replace("secret text", "forged text"));
}

/** The receipt without one of its attachments, signed by the broker all the same. */
function without(name: string): Buffer {
  const [report] = splitMultipart(parseEntity(whole.receipt));
  const [mixed, ...rest] = splitMultipart(parseEntity(report ?? Buffer.alloc(0)));
  const files = splitMultipart(parseEntity(mixed ?? Buffer.alloc(0))).filter((part) => !part.includes(`filename="${name}"`));
  const body = multipart("report", [multipart("mixed", files), ...rest], { parameters: "report-type=delivery-status" });
  const { der } = sign(body, parties.broker, { time: NOW, detached: true });
  return multipart("signed", [body, base64Entity("application/pkcs7-signature", der)]);
}
