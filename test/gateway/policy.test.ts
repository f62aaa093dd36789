/** What happens to a recipient; a broker that is away is never a reason to send in clear. */
import { describe, expect, test } from "@jest/globals";
import { standardPolicy } from "../../config/schema-policy.ts";
import { remembering, type Directory } from "../../gateway/directory.ts";
import { Policy } from "../../gateway/policy.ts";
import { NO_WISH } from "../../gateway/triggers.ts";
import { parseMailbox } from "../../mime/address.ts";
import { Fault } from "../../mime/fault.ts";

const signal = new AbortController().signal;
const directory: Directory = {
  isEnrolled: async ({ domain }) => {
    if (domain === "away.example") throw new Fault("unavailable", "the broker is away");
    return domain === "enrolled.example";
  },
};
type Rule = "refuse" | "pass";
const policyOf = (unenrolled: Rule, domains: Record<string, Rule> = {}): Policy =>
  new Policy(
    standardPolicy({ unenrolled, rules: Object.fromEntries(Object.entries(domains).map(([name, rule]) => [name, { unenrolled: rule }])) }),
    directory,
  );

const TABLE: readonly (readonly [address: string, unenrolled: Rule, domain: Rule | undefined, outcome: string, why: string])[] = [
  ["x@enrolled.example", "refuse", undefined, "seal", "who is enrolled is sealed"],
  ["x@enrolled.example", "pass", "pass", "seal", "whatever the rules let through"],
  ["x@other.example", "refuse", undefined, "no-certificate", "the rule for everyone"],
  ["x@other.example", "pass", undefined, "pass", "the rule for everyone"],
  ["x@other.example", "refuse", "pass", "pass", "the domain's own rule goes first"],
  ["x@other.example", "pass", "refuse", "no-certificate", "the domain's own rule goes first"],
  ["x@OTHER.example", "refuse", "pass", "pass", "domains have no case"],
  ["x@sub.other.example", "refuse", "pass", "no-certificate", "a rule is not for the domains below"],
  ["x@away.example", "pass", "pass", "unavailable", "nothing goes out in clear because the broker is away"],
];

test.each(TABLE)("%s, unenrolled: %s, its domain: %s -> %s, for %s", async (address, unenrolled, domain, outcome) => {
  const rules = domain === undefined ? {} : { "other.example": domain, "away.example": domain, "enrolled.example": domain };
  const decided = await policyOf(unenrolled, rules)
    .decide(parseMailbox(address), signal)
    .then(({ decision }) => decision)
    .catch((thrown: unknown) => Fault.from(thrown).code);
  expect(decided).toBe(outcome);
});

test("a domain named like something every object has follows the rule for everyone", async () => {
  expect(await policyOf("pass").decide(parseMailbox("x@constructor"), signal)).toEqual({ decision: "pass", standing: "none" });
});

test("a refusal names the recipient and what can be done", async () => {
  await expect(policyOf("refuse").decide(parseMailbox("dave@other.example"), signal)).rejects.toMatchObject({
    advice: expect.stringMatching(/^dave@other\.example is not enrolled .* Ask the recipient's administrator/u),
  });
});

describe("remembering", () => {
  function remembered(answers: boolean[]) {
    let time = 0;
    let asked = 0;
    const known = remembering(
      async () => {
        asked++;
        const answer = answers.shift();
        if (answer === undefined) throw new Fault("unavailable", "away");
        return answer;
      },
      () => new Date(time),
    );
    return {
      ask: (address = "x@y.example") => known.isEnrolled(parseMailbox(address), signal),
      asked: () => asked,
      pass: (ms: number) => void (time += ms),
    };
  }

  test("asks once a minute about who is there", async () => {
    const { ask, asked, pass } = remembered([true, true]);
    expect([await ask(), await ask(), await ask("X@Y.example")]).toEqual([true, true, true]);
    expect(asked()).toBe(1);
    pass(60_000);
    expect(await ask()).toBe(true);
    expect(asked()).toBe(2);
  });

  test("never remembers an absence, so that an enrolment counts at once", async () => {
    const { ask, asked } = remembered([false, false, true]);
    expect([await ask(), await ask(), await ask()]).toEqual([false, false, true]);
    expect(asked()).toBe(3);
  });

  test("never remembers a failure, and passes it on", async () => {
    const { ask } = remembered([]);
    await expect(ask()).rejects.toMatchObject({ code: "unavailable" });
    await expect(ask()).rejects.toMatchObject({ code: "unavailable" });
  });

  test("lets a mailbox that was seen within the minute through a broker that is away: the seal is asked for later anyway", async () => {
    const { ask } = remembered([true]);
    await ask();
    expect(await ask()).toBe(true);
  });

  test("forgets a mailbox that has gone when its minute is over", async () => {
    const { ask, pass } = remembered([true, false]);
    await ask();
    pass(60_001);
    expect(await ask()).toBe(false);
  });

  test("does not grow without end", async () => {
    const { ask, asked } = remembered(Array.from({ length: 10_003 }, () => true));
    for (let at = 0; at < 10_001; at++) await ask(`x${at}@y.example`);
    await ask("x0@y.example");
    expect(asked()).toBe(10_002);
  });
});

describe("the form for a recipient", () => {
  const rules = { "partner.example": { hold: "enclosed", signing: "both" }, "held@partner.example": { hold: "held" } } as const;
  const policy = new Policy(standardPolicy({ rules }), directory);

  test.each([
    ["x@other.example", "held", "inner", "nothing says otherwise"],
    ["x@partner.example", "enclosed", "both", "its domain says so"],
    ["held@partner.example", "held", "both", "its address counts before its domain"],
  ])("%s: %s, signed %s, because %s", (address, hold, signing) => {
    const asking = { mailbox: parseMailbox(address), decision: "seal", standing: "enrolled", notify: [] } as const;
    expect(policy.settle(asking, NO_WISH)).toMatchObject({ outcome: "seal", form: { hold, signing, transport: "oaep" } });
  });
});
