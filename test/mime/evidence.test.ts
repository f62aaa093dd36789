/** Evidence: the broker's word, which stock OpenSSL verifies and nobody else can speak. */
import { beforeAll, describe, expect, test } from "@jest/globals";
import { createRoot } from "../../broker/authority.ts";
import { signEvidence, verifyAsBroker, verifyEvidence, type BrokerTrust, type HandoverEvidence } from "../../mime/evidence.ts";
import { sign, type Signer } from "../../mime/sign.ts";
import { faultOf, outcomeOf } from "./faults.ts";
import { openSsl } from "./openssl.ts";
import { BROKER, FROM, NOW, UNTIL, brokerOf, evidence, holder, makeParties, releasedBefore, type Parties } from "./parties.ts";

let parties: Parties;
let trust: BrokerTrust;
beforeAll(async () => {
  parties = await makeParties();
  trust = { roots: [parties.root.certificate], at: NOW, broker: BROKER };
});

const jsonBy = (signer: Signer, json: unknown): Buffer =>
  sign(Buffer.from(typeof json === "string" ? json : JSON.stringify(json)), signer, { time: NOW, detached: false }).der;

describe("a statement", () => {
  test.each([
    ["the opening", evidence],
    ["the release before it", releasedBefore(evidence)],
  ])("of %s comes back", (_what, statement) => {
    expect(verifyEvidence(signEvidence(statement, parties.broker, NOW), trust)).toEqual(statement);
  });

  test("verifies by stock OpenSSL with its certificate bound, offline, and shows its JSON", async () => {
    const ssl = await openSsl("evidence");
    ssl.put("evidence.p7m", signEvidence(evidence, parties.broker, NOW));
    ssl.put("ca.pem", parties.root.certificate.pem);
    const shown = ssl.run(["cms", "-verify", "-inform", "DER", "-in", "evidence.p7m", "-CAfile", "ca.pem", "-cades", "-binary"]);
    expect(JSON.parse(shown.toString())).toEqual(evidence);
  });
});

describe("nobody else speaks for the broker", () => {
  test.each<[string, () => Signer | Promise<Signer>]>([
    ["a mailbox of the same authority", () => parties.bob.signer],
    ["the encryption certificate of a mailbox", () => parties.bob.opener],
    ["a gateway's channel", () => holder(parties.root, "channel", [])],
    ["the authority's own root", () => parties.root],
    ["a broker of another authority with the same name", async () => brokerOf(await createRoot("Test root", FROM, UNTIL), BROKER)],
    ["another broker of the same authority", () => brokerOf(parties.root, "https://other.example")],
    ["a broker whose address is only longer", () => brokerOf(parties.root, `${BROKER}.evil.example`)],
    ["a broker whose address differs by a slash", () => brokerOf(parties.root, `${BROKER}/`)],
  ])("not %s", async (_why, signer) => {
    const by = await signer();
    expect(faultOf(() => verifyEvidence(signEvidence(evidence, by, NOW), trust)).code).toBe("signature-invalid");
    expect(faultOf(() => verifyAsBroker(jsonBy(by, "x"), trust)).code).toBe("signature-invalid");
  });

  test("not the broker for another broker", () => {
    expect(
      faultOf(() => verifyEvidence(signEvidence({ ...evidence, broker: "https://other.example" }, parties.broker, NOW), trust)).code,
    ).toBe("signature-invalid");
  });

  test("not the broker before its certificate was valid, or after", () => {
    const der = signEvidence(evidence, parties.broker, NOW);
    const codeAt = (at: Date) => faultOf(() => verifyEvidence(der, { ...trust, at })).code;
    expect(codeAt(new Date(UNTIL.getTime() + 1_000))).toBe("signature-invalid");
    expect(codeAt(new Date(FROM.getTime() - 1_000))).toBe("unavailable"); // the clock is wrong, and may be right later
  });
});

describe("nothing in a statement can be changed", () => {
  test.each(
    Object.keys(evidence)
      .filter((name) => name !== "openingValue")
      .map((name) => [name as keyof HandoverEvidence]),
  )("%s", (name) => {
    const der = signEvidence(evidence, parties.broker, NOW);
    const value = String(evidence[name]);
    const at = der.indexOf(`"${name}": `) + name.length + 4 + (name === "version" ? 0 : 1) + value.length - 1;
    expect(der[at]).toBe(value.charCodeAt(value.length - 1));
    der[at] = (der[at] ?? 0) ^ 1;
    expect(faultOf(() => verifyEvidence(der, trust)).code).toBe("signature-invalid");
  });

  test.each(['"john smith"@b.example', "a\u00a0b@b.example", "田中@例え.example"])(
    "it can be about %s, which the broker takes",
    (recipient) => {
      expect(verifyEvidence(signEvidence({ ...evidence, recipient }, parties.broker, NOW), trust)).toMatchObject({ recipient });
    },
  );

  test("a field of one statement does not move into another", () => {
    const [one, two] = [evidence, { ...evidence, recipient: "eve@b.example" }].map((each) => signEvidence(each, parties.broker, NOW));
    const moved = Buffer.from(one ?? Buffer.alloc(0));
    two?.copy(moved, 0, 0, 400);
    expect(outcomeOf(() => verifyEvidence(moved, trust))).not.toBe("ok");
  });
});

describe("what the broker signs is read strictly", () => {
  const names = Object.keys(evidence).map((name) => [name as keyof HandoverEvidence] as const);

  test.each(names)("no statement without %s, or with another kind of value for it", (name) => {
    const { [name]: _left, ...rest } = evidence;
    const texts = name === "openingValue" ? ["x y"] : ["", "x y"]; // it is empty where the receipt holds the value
    for (const json of [rest, ...[null, 7, ...texts].map((value) => ({ ...evidence, [name]: value }))]) {
      if (name === "messageId" && "messageId" in json && json.messageId === "x y") continue; // a Message-ID may be odd
      expect(faultOf(() => verifyEvidence(jsonBy(parties.broker, json), trust)).code).toBe("malformed");
    }
  });

  test.each<[string, unknown]>([
    ["no JSON", "hello"],
    ["nothing", ""],
    ["null", "null"],
    ["a list", [evidence]],
    ["a text", JSON.stringify(JSON.stringify(evidence))],
    ["another version", { ...evidence, version: 2 }],
    ["the version as a text", { ...evidence, version: "1" }],
    ["an unknown event", { ...evidence, event: "ContentForged" }],
    [
      "a field that only its prototype has",
      JSON.stringify({ ...evidence, commit: undefined }).replace("{", `{"__proto__":{"commit":"${evidence.commit}"},`),
    ],
    ["a line end in the Message-ID", { ...evidence, messageId: "<1@a>\r\nBcc: x" }],
    ["a line end in the recipient", { ...evidence, recipient: "bob@b.example\r\nBcc:x" }],
    ["a commit in capitals", { ...evidence, commit: "A".repeat(64) }],
    ["a commit of 63 digits", { ...evidence, commit: "a".repeat(63) }],
    ["a time without a zone", { ...evidence, releasedAt: "2026-03-01T12:00:00" }],
    ["a broker without TLS", { ...evidence, broker: "http://broker.example" }],
    ["an evidence id that is no name", { ...evidence, evidence: "../../../etc/passwd" }],
  ])("refused: %s", (_why, json) => {
    expect(faultOf(() => verifyEvidence(jsonBy(parties.broker, json), trust)).code).toBe("malformed");
  });
});
