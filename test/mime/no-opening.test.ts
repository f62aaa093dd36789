/** Proof that a letter was not opened, or was recalled: it verifies offline, and nothing of it can be changed; and its words, in every language. */
import { beforeAll, describe, expect, test } from "@jest/globals";
import { multipart, parseEntity, splitMultipart } from "../../mime/entity.ts";
import { evidenceId, type AccessEvidence, type DelayedEvidence, type FailureEvidence } from "../../mime/evidence.ts";
import { verifyProof } from "../../mime/proof.ts";
import { buildReceipt } from "../../mime/report.ts";
import { reportKind, reportText } from "../../mime/report-text.ts";
import type { Signer } from "../../mime/sign.ts";
import { LANGUAGES, wordsFor } from "../../mime/words.ts";
import { BROKER, NOW, evidence, makeParties, type Parties } from "./parties.ts";

const { confirmedAt: _c, recipientCertificate: _r, recipientReceipt: _p, openingValue: _o, ...base } = evidence;
const SUBMITTED = evidenceId("SubmissionAcceptance", base.session);
const RELEASED = evidenceId("ContentAccessTracking", base.session);
const ENDED = { expiresAt: "2026-03-31T12:00:00.000Z", endedAt: "2026-03-31T12:00:30.000Z" };
const failure = {
  ...base,
  ...ENDED,
  event: "ContentHandoverFailure",
  evidence: evidenceId("ContentHandoverFailure", base.session),
} as const;

const NEVER: FailureEvidence = { ...failure, reason: "expired", releasedAt: "", previous: SUBMITTED };
const UNCONFIRMED: FailureEvidence = { ...failure, reason: "expired", previous: RELEASED };
const RECALLED: FailureEvidence = { ...NEVER, reason: "recalled", endedAt: "2026-03-02T12:00:00.000Z" };
const DELAYED: DelayedEvidence = {
  ...base,
  event: "Delayed",
  evidence: evidenceId("Delayed", base.session),
  previous: SUBMITTED,
  releasedAt: "",
  expiresAt: ENDED.expiresAt,
  delayedAt: "2026-03-08T12:00:00.000Z",
};
const ACCESS: AccessEvidence = { ...base, event: "ContentAccessTracking", evidence: RELEASED, previous: SUBMITTED };
const ALL = [
  ["expired, never given out", NEVER],
  ["expired, given out and not confirmed", UNCONFIRMED],
  ["recalled", RECALLED],
  ["delayed", DELAYED],
] as const;

let parties: Parties;
beforeAll(async () => void (parties = await makeParties()));

const mailOf = (
  statement: FailureEvidence | DelayedEvidence,
  signer: Signer = parties.broker,
  released = statement.releasedAt === "" ? undefined : ACCESS,
): Buffer =>
  buildReceipt(
    { evidence: statement, released, recipientReceipt: undefined, from: "r@broker.example", host: "broker.example", time: NOW },
    signer,
  );
const holds = (receipt: Buffer): boolean =>
  verifyProof({ receipt, original: undefined, payload: undefined }, { roots: [parties.root.certificate], at: NOW, broker: BROKER }).holds;

describe.each(ALL)("%s", (_name, statement) => {
  test("holds offline, from the mail alone", () => {
    expect(holds(mailOf(statement))).toBe(true);
  });

  test("one hundred mutations of a hundred are refused: every field of the evidence, and octets all over the report", () => {
    const mail = mailOf(statement);
    const text = mail.toString("latin1");
    const from = text.indexOf("multipart/report");
    const end = text.lastIndexOf("\r\n--", text.lastIndexOf("pkcs7-signature"));
    let [refused, made] = [0, 0];
    for (const name of Object.keys(statement)) {
      const value = String(statement[name as keyof typeof statement]);
      const forged = {
        ...statement,
        [name]: value === "" ? "2026-03-01T12:00:01.000Z" : value.replace(/.$/u, (last) => (last === "0" ? "1" : "0")),
      };
      made++;
      if (!holds(reevidenced(mail, mailOf(forged, parties.bob.signer)))) refused++; // in a report of the broker's, by another signer
    }
    for (let turn = 0; made < 100; turn++, made++) {
      const mutant = Buffer.from(mail);
      const at = from + Math.floor(((end - from) * turn) / 100);
      mutant[at] = mutant[at] === 0x41 ? 0x42 : 0x41;
      if (mutant.equals(mail) || !holds(mutant)) refused++;
    }
    expect(refused).toBe(100);
  });

  test("is refused by any other signer, and with the signature of another report", () => {
    for (const signer of [parties.bob.signer, parties.alice.signer, parties.root]) expect(holds(mailOf(statement, signer))).toBe(false);
    const [other] = ALL.flatMap(([, one]) => (one === statement ? [] : [mailOf(one)]));
    const [report] = splitMultipart(parseEntity(mailOf(statement)));
    const [, signature] = splitMultipart(parseEntity(other ?? Buffer.alloc(0)));
    expect(holds(multipart("signed", [report ?? Buffer.alloc(0), signature ?? Buffer.alloc(0)]))).toBe(false);
  });

  test("is refused even from the broker where the statement contradicts itself", () => {
    const contradictions = [
      { evidence: "another-name-of-it-1" },
      { previous: evidence.previous },
      { declaredAt: "2027-01-01T00:00:00.000Z" },
    ];
    for (const changes of contradictions) expect(holds(mailOf({ ...statement, ...changes }))).toBe(false);
  });
});

/** The report of one mail with the parts of another, its own signature beside it. */
function reevidenced(mail: Buffer, other: Buffer): Buffer {
  const [, signature] = splitMultipart(parseEntity(mail));
  const [report] = splitMultipart(parseEntity(other));
  return multipart("signed", [report ?? Buffer.alloc(0), signature ?? Buffer.alloc(0)]);
}

test.each<[string, () => Buffer]>([
  ["an expiry before T2", () => mailOf({ ...NEVER, endedAt: "2026-03-31T11:59:59.999Z" })],
  ["a recall after the key was given out", () => mailOf({ ...UNCONFIRMED, reason: "recalled" })],
  [
    "a release without its statement",
    () =>
      buildReceipt(
        {
          evidence: UNCONFIRMED,
          released: undefined,
          recipientReceipt: undefined,
          from: "r@broker.example",
          host: "broker.example",
          time: NOW,
        },
        parties.broker,
      ),
  ],
  ["a statement of release of another letter", () => mailOf(UNCONFIRMED, parties.broker, { ...ACCESS, session: "00".repeat(32) })],
  ["a statement of release where the evidence says never", () => mailOf(NEVER, parties.broker, ACCESS)],
])("refused: %s", (_why, mail) => {
  expect(holds(mail())).toBe(false);
});

describe("the words", () => {
  const paths = (value: unknown, path = ""): string[] =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? Object.entries(value).flatMap(([name, inner]) => paths(inner, `${path}.${name}`))
      : [path];

  test.each(["held", "enclosed"])("every language has every text of a letter that is %s, and none is empty", (hold) => {
    const english = wordsFor("en", hold);
    for (const language of LANGUAGES) {
      const words = wordsFor(language, hold);
      expect(paths(words)).toEqual(paths(english));
      for (const text of Object.values(words).flatMap((value) => (typeof value === "string" ? [value] : Object.values(value).flat())))
        expect(String(text).trim()).not.toBe("");
    }
    expect(Object.values(wordsFor("ja", hold).openings).every((text) => /[\u3040-\u30ff]/u.test(text))).toBe(true);
  });

  test.each(LANGUAGES)("%s: no two mails say the same, and only the opened one says opened", (language) => {
    const kinds = ALL.map(([, statement]) => reportKind(statement));
    expect(new Set(kinds).size).toBe(4);
    expect(new Set(ALL.map(([, statement]) => reportText(statement, language))).size).toBe(4);
    expect(new Set(Object.values(wordsFor(language, "held").subjects)).size).toBe(5);
    expect(reportText(NEVER, language)).toContain(wordsFor(language, "held").never);
    expect(reportText(UNCONFIRMED, language)).toContain(UNCONFIRMED.releasedAt);
    for (const [, statement] of ALL) expect(reportText(statement, language)).not.toContain(wordsFor(language, "held").openings.opened);
  });

  const CLAIMS = /nobody has read|given out|erased|cannot be opened|can open it any more|渡されず|引き渡し|読まれておらず|消去/u;
  test.each(ALL)("where the key travels inside, nothing is said of it that nobody knows: %s", (_why, statement) => {
    const enclosed = { ...statement, hold: "enclosed" };
    for (const language of LANGUAGES) {
      expect(reportText(statement, language)).toMatch(/given out|渡され|引き渡し/u); // the words that are looked for are those in use
      expect(reportText(enclosed, language)).not.toMatch(CLAIMS);
    }
    expect(mailOf(enclosed).toString("latin1")).not.toContain("Action: failed");
  });
});
