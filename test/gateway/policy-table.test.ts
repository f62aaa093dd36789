/** Rules, triggers and what comes of them, one mail a row; `kakitome policy explain` gives the same answers (docs/policy.md). */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, jest, test } from "@jest/globals";
import { Command } from "commander";
import { stringify } from "yaml";
import { addPolicy } from "../../cli/policy.ts";
import { standardPolicy } from "../../config/schema-policy.ts";
import { explain, type Explained, type Question } from "../../gateway/explain.ts";
import { Policy } from "../../gateway/policy.ts";
import { parseMailbox } from "../../mime/address.ts";
import { toCrlf } from "../../mime/entity.ts";
import { Fault } from "../../mime/fault.ts";
import { temporaryFolder } from "../servers/process.ts";

/** The rule files. */
const RULES = {
  none: {},
  open: { unenrolled: "pass" },
  ordinary: { action: "pass" },
  strict: { action: "seal", unenrolled: "pass" },
  office: {
    unenrolled: "pass",
    rules: {
      "*.b.example": { hold: "enclosed", signing: "both", expiry: "20d" },
      "mail.b.example": { signing: "outer" },
      "boss@mail.b.example": { hold: "held", receipt: true, subject: "Registered", language: "ja" },
      "*.deep.b.example": { expiry: "5d" },
      "news.example": { action: "pass" },
      "bank.example": { action: "seal" },
      "rival.example": { action: "refuse" },
      "xn--bcher-kva.example": { action: "refuse" },
      "例え.example": { action: "refuse" },
      "friend@rival.example": { action: "seal" },
      "quiet.example": { receipt: false, warn: "2d", confirm: "same-session" },
      "away.example": { whenBrokerDown: "enclosed" },
    },
  },
} as const satisfies Record<string, Parameters<typeof standardPolicy>[0]>;

type Row = readonly [
  rules: keyof typeof RULES,
  recipient: string,
  standing: NonNullable<Question["assume"]>,
  mail: string,
  expected: Partial<Explained> & { readonly notify?: readonly string[]; readonly days?: number },
];

const encoded = (text: string, charset = "utf-8"): string => `=?${charset}?B?${Buffer.from(text).toString("base64")}?=`;

const TABLE: readonly Row[] = [
  ["none", "x@b.example", "enrolled", "Subject: hello", { action: "seal", hold: "held", signing: "inner", receipt: true, days: 30 }],
  ["none", "x@b.example", "unenrolled", "Subject: hello", { action: "refuse", at: "RCPT" }],
  ["none", "x@b.example", "unenrolled", "Subject: [seal] hello", { action: "refuse", at: "RCPT" }],
  ["none", "x@b.example", "away", "Subject: hello", { action: "refuse", at: "RCPT" }],
  ["open", "x@b.example", "unenrolled", "Subject: hello", { action: "pass", at: "DATA" }],
  ["open", "x@b.example", "away", "Subject: hello", { action: "refuse", at: "RCPT" }],
  ["open", "x@b.example", "unenrolled", "Subject: [seal] hello", { action: "refuse", at: "DATA" }],
  ["open", "x@b.example", "unenrolled", "Subject: [Registered] hello", { action: "refuse", at: "DATA" }],
  ["open", "x@b.example", "unenrolled", "Subject: hello [seal]", { action: "pass" }],
  ...[
    "RE : [seal] x",
    "R: [seal] x",
    "Antw: RE[2]: [seal] x",
    "回复：[seal] x",
    "Vá: [seal] x",
    "\u00a0[seal] x",
    "\u200e[seal] x",
    "Re:\n [seal] x",
  ].map((subject): Row => ["open", "x@b.example", "unenrolled", `Subject: ${subject}`, { action: "refuse", at: "DATA" }]),
  ["open", "x@b.example", "unenrolled", "Subject: In particular: [seal] x", { action: "pass" }],
  ["open", "x@b.example", "unenrolled", "Kakitome-Hold: enclosed", { action: "refuse", at: "DATA" }],
  ["open", "x@b.example", "unenrolled", "Kakitome-Receipt: yes", { action: "pass" }],
  ["ordinary", "x@b.example", "enrolled", "Subject: hello", { action: "pass" }],
  ["ordinary", "x@b.example", "enrolled", "Subject: [seal] hello", { action: "seal", hold: "held" }],
  ["ordinary", "x@b.example", "enrolled", "Subject: Re: Fwd: [seal] hello", { action: "seal" }],
  ["ordinary", "x@b.example", "enrolled", `Subject: ${encoded("[registered] 見積書")}`, { action: "seal", hold: "held" }],
  ["ordinary", "x@b.example", "enrolled", "Kakitome-Hold: enclosed", { action: "seal", hold: "enclosed" }],
  ["ordinary", "x@b.example", "away", "Subject: hello", { action: "pass" }],
  ["ordinary", "x@b.example", "away", "Subject: [seal] hello", { action: "refuse", at: "DATA" }],
  ["strict", "x@b.example", "unenrolled", "Subject: hello", { action: "refuse", at: "RCPT" }],
  ["strict", "x@b.example", "enrolled", "Subject: hello", { action: "seal" }],
  ["office", "x@b.example", "enrolled", "Subject: hello", { action: "seal", hold: "held", signing: "inner" }],
  ["office", "x@other.b.example", "enrolled", "Subject: hello", { action: "seal", hold: "enclosed", signing: "both", days: 20 }],
  ["office", "x@very.deep.b.example", "enrolled", "Subject: hello", { action: "seal", hold: "enclosed", signing: "both", days: 5 }],
  ["office", "x@mail.b.example", "enrolled", "Subject: hello", { action: "seal", hold: "enclosed", signing: "outer" }],
  ["office", "Boss@mail.b.example", "enrolled", "", { hold: "held", signing: "outer", language: "ja", subject: "Registered" }],
  ["office", "x@mail.b.example", "enrolled", "Subject: [registered] hello", { action: "seal", hold: "held", signing: "outer" }],
  ["office", "boss@mail.b.example", "enrolled", "Kakitome-Hold: enclosed", { action: "seal", hold: "held" }],
  ["office", "boss@mail.b.example", "enrolled", "Kakitome-Receipt: no", { action: "seal", receipt: true }],
  ["office", "boss@mail.b.example", "enrolled", "Kakitome-Subject: mine", { action: "seal", subject: "Registered" }],
  ["office", "x@b.example", "enrolled", "Kakitome-Subject: mine", { action: "seal", subject: "mine" }],
  ["office", "x@other.b.example", "enrolled", "Kakitome-Expires: +7d", { action: "seal", days: 7 }],
  ["office", "x@other.b.example", "enrolled", "Kakitome-Expires: +25d", { action: "seal", days: 20 }],
  ["office", "x@b.example", "enrolled", "Kakitome-Expires: +90d", { action: "seal", days: 90 }],
  ["office", "x@b.example", "enrolled", "Kakitome-Receipt: no", { action: "seal", receipt: false }],
  ["office", "x@b.example", "enrolled", "Kakitome-Receipt: no", { action: "seal", receipt: true, notify: ["SUCCESS", "FAILURE"] }],
  ["office", "x@quiet.example", "enrolled", "Subject: hello", { action: "seal", receipt: false, confirm: "same-session" }],
  ["office", "x@quiet.example", "enrolled", "Kakitome-Receipt: yes", { action: "seal", receipt: true }],
  ["office", "x@quiet.example", "enrolled", "Subject: hello", { action: "seal", receipt: true, notify: ["SUCCESS"] }],
  ["office", "x@news.example", "enrolled", "Subject: hello", { action: "pass" }],
  ["office", "x@news.example", "enrolled", "Subject: [seal] hello", { action: "seal" }],
  ["office", "x@news.example", "unenrolled", "Subject: [seal] hello", { action: "refuse", at: "DATA" }],
  ["office", "x@bank.example", "unenrolled", "Subject: hello", { action: "refuse", at: "RCPT" }],
  ["office", "x@rival.example", "enrolled", "Subject: [registered] hello", { action: "refuse", at: "RCPT" }],
  ["office", "x@bücher.example", "enrolled", "Subject: hello", { action: "refuse", at: "RCPT" }],
  ["office", "x@xn--bcher-kva.example", "enrolled", "Subject: hello", { action: "refuse", at: "RCPT" }],
  ["office", "x@例え.example", "enrolled", "Subject: hello", { action: "refuse", at: "RCPT" }],
  ["office", "x@xn--r8jz45g.example", "enrolled", "Subject: hello", { action: "refuse", at: "RCPT" }],
  ["office", "friend@rival.example", "enrolled", "Subject: hello", { action: "seal" }],
  ["office", "x@away.example", "enrolled", "Subject: hello", { action: "seal", whenBrokerDown: "enclosed" }],
  ["office", "x@away.example", "enrolled", "Subject: [registered] hello", { action: "seal", whenBrokerDown: "wait" }],
  ["office", "x@away.example", "away", "Subject: hello", { action: "refuse", at: "RCPT" }],
  [
    "none",
    "x@b.example",
    "enrolled",
    "Kakitome-Hold: maybe",
    { action: "refuse", reply: "554 5.6.0 Kakitome-Hold: write held or enclosed." },
  ],
  ["none", "x@b.example", "enrolled", "Kakitome-Hold: held\nKakitome-Hold: held", { action: "refuse", at: "DATA" }],
  ["none", "x@b.example", "enrolled", "Kakitome-Expire: +7d", { action: "refuse", at: "DATA" }],
  ["none", "x@b.example", "enrolled", "Kakitome-Expires: 7d", { action: "refuse", at: "DATA" }],
  ["none", "x@b.example", "enrolled", "Kakitome-Expires: +0d", { action: "refuse", at: "DATA" }],
  ["none", "x@b.example", "enrolled", "Kakitome-Expires: 2020-01-01T00:00:00Z", { action: "refuse", at: "DATA" }],
  ["none", "x@b.example", "enrolled", "Kakitome-Expires: 2999-02-30", { action: "refuse", at: "DATA" }],
  ["none", "x@b.example", "enrolled", "Kakitome-Expires: 2999-02-30T12:00:00Z", { action: "refuse", at: "DATA" }],
  ["none", "x@b.example", "enrolled", "Kakitome-Expires: 2999-02-28", { action: "seal", expiresAt: "2999-02-28T23:59:59.000Z" }],
  ["none", "x@b.example", "enrolled", "Kakitome-Expires: 2999-02-28t12:00:00+09:00", { expiresAt: "2999-02-28T03:00:00.000Z" }],
  ["none", "x@b.example", "enrolled", "Subject: [registered] hi\nKakitome-Hold: enclosed", { action: "refuse", at: "DATA" }],
  ["none", "x@b.example", "enrolled", "Kakitome-Session: 00\nKakitome-Filing: 11", { action: "seal", hold: "held" }],
];

const mailWith = (fields: string): string =>
  `From: alice@a.example\n${fields === "" ? "" : `${fields}\n`}Message-ID: <1@a.example>\n\ntext\n`;
const DAY_MS = 86_400_000;

/** Compares what matters; days are counted from now. */
function judge(explained: Explained | undefined, { days, ...expected }: Omit<Row[4], "notify">): void {
  expect(explained).toMatchObject(expected);
  if (days !== undefined) expect(Math.round((Date.parse(explained?.expiresAt ?? "") - Date.now()) / DAY_MS)).toBe(days);
}

describe("the policy itself", () => {
  test.each(TABLE)("rules %s, %s, %s, %s", async (rules, recipient, assume, mail, { notify: asked = [], ...expected }) => {
    const directory = {
      isEnrolled: async () => {
        if (assume === "away") throw new Fault("unavailable", "away");
        return assume === "enrolled";
      },
    };
    const question = {
      message: toCrlf(Buffer.from(mailWith(mail))),
      sender: parseMailbox("alice@a.example"),
      recipients: [parseMailbox(recipient)],
      notify: asked,
    };
    const policy = new Policy(standardPolicy(RULES[rules]), directory);
    const [explained] = await explain(policy, question, "gateway.a.example", new Date(), new AbortController().signal);
    judge(explained, expected);
  });
});

describe("kakitome policy explain", () => {
  let folder: string;
  const printed = jest.spyOn(console, "log");

  beforeAll(async () => {
    folder = await temporaryFolder("policy");
    for (const [name, policy] of Object.entries(RULES)) {
      const config = {
        name: "gateway.a.example",
        data: "data",
        broker: { url: "https://127.0.0.1:1" },
        mailboxes: [{ address: "alice@a.example" }],
        policy,
      };
      writeFileSync(join(folder, `${name}.yaml`), stringify(config));
    }
  });
  afterAll(() => printed.mockRestore());

  async function explained(rules: string, recipient: string, assume: string, mail: string, more: string[]): Promise<string> {
    writeFileSync(join(folder, "mail.eml"), mailWith(mail));
    const program = new Command("kakitome").exitOverride();
    addPolicy(program);
    const lines: unknown[] = [];
    printed.mockImplementation((line: unknown) => void lines.push(line));
    const args = ["policy", "explain", "--config", join(folder, `${rules}.yaml`), "--from", "alice@a.example", "--to", recipient];
    await program.parseAsync([...args, "--mail", join(folder, "mail.eml"), "--assume", assume, ...more], { from: "user" });
    return lines.join("\n");
  }

  test.each(TABLE)("rules %s, %s, %s, %s", async (rules, recipient, assume, mail, { notify: asked = [], ...expected }) => {
    const notify = asked.length > 0 ? ["--notify", ...asked] : [];
    const [answer] = JSON.parse(await explained(rules, recipient, assume, mail, ["--json", ...notify])) as Explained[];
    judge(answer, expected);
  });

  test("names the rules and what each of them decided, for people", async () => {
    const text = await explained("office", "boss@mail.b.example", "enrolled", "Kakitome-Hold: enclosed", []);
    expect(text).toContain("boss@mail.b.example: seal, decided at DATA");
    expect(text).toContain("  because rules: *.b.example < mail.b.example < boss@mail.b.example");
    expect(text).toContain("  because hold: the rule boss@mail.b.example is stronger than the mail's wish");
  });
});
