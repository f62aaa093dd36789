/** The catalogue: both languages have every text, and each says what it has to say. */
import { expect, test } from "@jest/globals";
import { WORDS } from "../../gateway/words.ts";

const ABOUT = {
  recipient: "bob@b.example",
  reason: "reason-1",
  messageId: "<1@a.example>",
  sealed: true,
  left: [{ recipient: "bob@b.example", reason: "reason-1" }],
  outcomes: [{ recipient: "bob@b.example", reason: "reason-1" }],
  recipients: ["bob@b.example"],
  sender: "alice@a.example",
  sentAt: "sent-1",
  isEnclosed: false,
};

test("both languages have every key, and nothing else", () => {
  expect(Object.keys(WORDS.ja).sort()).toEqual(Object.keys(WORDS.en).sort());
});

test.each(["failed", "mixed", "withoutBroker", "recall", "recalledLetter"] as const)(
  "%s names the letter in both languages, in different words",
  (key) => {
    const [en, ja] = [WORDS.en[key](ABOUT), WORDS.ja[key](ABOUT)];
    for (const { subject, lines } of [en, ja]) {
      expect(subject).not.toBe("");
      expect(lines.join("\n")).toContain(ABOUT.messageId);
    }
    expect(ja.lines.join("\n")).toMatch(/[ぁ-ん]/u);
    expect(en.lines.join("\n")).not.toMatch(/[^\x20-\x7E\n]/u);
  },
);

test.each(["recalled", "recalled-enclosed", "too-late", "withdrawn", "gone", "no-ticket"] as const)(
  "an outcome %s has words of its own in both languages",
  (word) => {
    const outcome = { word, at: new Date("2026-03-01T12:00:00Z") };
    const said = [WORDS.en.recallOutcome(outcome), WORDS.ja.recallOutcome(outcome)];
    expect(said[1]).toMatch(/[ぁ-ん]/u);
    expect(new Set(said).size).toBe(2);
  },
);

test("of a letter whose key travels inside it nobody says that it cannot be opened", () => {
  const said = [WORDS.en, WORDS.ja].flatMap(({ recalledLetter, recallOutcome }) => [
    ...recalledLetter({ ...ABOUT, isEnclosed: true }).lines,
    recallOutcome({ word: "recalled-enclosed", at: new Date() }),
  ]);
  expect(said.join("\n")).not.toMatch(/erased|nobody can open|never released|消去|誰にも|一度も渡され/u);
});
