/** Delivery: the results of our own gateway stand on top, and nothing in a letter can pretend to be one of them (RFC 8601 §5). */
import { describe, expect, test } from "@jest/globals";
import { parseEntity, splitMultipart } from "../../mime/entity.ts";
import { whole } from "../../mime/pieces.ts";
import { field, fieldsNamed, splitMessage, valueOf, type HeaderField } from "../../mime/headers.ts";
import { parsePayload, restore } from "../../mime/payload.ts";
import { ending } from "./patience.ts";
import { MESSAGE, makeParties, payloadOf, sealedLetter } from "./parties.ts";

const OWN = "From: alice@a.example\r\nTo: bob@b.example\r\nMessage-ID: <1@a.example>\r\n";
const RESULTS = [field("Authentication-Results", "gateway.b.example; smime=pass"), field("Kakitome-Session", "abc")];

/** The letter as it is filed, from a header of the sender's choice. */
const filed = (header: string, form: "plain" | "signed" = "plain", entity = ""): Buffer =>
  restore(parsePayload(payloadOf(Buffer.from(`${header}\r\nx`, "latin1"))), Buffer.from(entity, "latin1"), form, RESULTS);

/** Everything that a reader of the filed letter takes for the word of our gateway. */
const ours = (letter: Buffer): string[] =>
  splitMessage(letter)
    .fields.filter(
      ({ name, raw }: HeaderField) =>
        name === "authentication-results" && /gateway\.b\.example/iu.test(raw.toString().replaceAll("\\", "")),
    )
    .map(valueOf);

describe("results of our gateway", () => {
  test("stand on top of the letter", () => {
    expect(filed(OWN).toString()).toBe(`${RESULTS.map(({ raw }) => raw.toString()).join("")}${OWN}\r\nx`);
  });

  test.each([
    ["as we write them", "Authentication-Results: gateway.b.example; dkim=pass"],
    ["in other letters", "AUTHENTICATION-RESULTS: Gateway.B.Example; dkim=pass"],
    ["with a version", "Authentication-Results: gateway.b.example 1; dkim=pass"],
    ["with nothing but the name", "Authentication-Results: gateway.b.example"],
    ["with white space around the name", "Authentication-Results : \t gateway.b.example ; dkim=pass"],
    ["folded in front of the name", "Authentication-Results:\r\n gateway.b.example; dkim=pass"],
    ["with a comment in front of the name", "Authentication-Results: (c) gateway.b.example; dkim=pass"],
    ["with a comment behind the name", "Authentication-Results: gateway.b.example(c); dkim=pass"],
    ["with the name in quotes", 'Authentication-Results: "gateway.b.example"; dkim=pass'],
    ["with comments in comments around the name", "Authentication-Results: (a (b) \\) c) gateway.b.example (d); dkim=pass"],
    ["with the name in quotes, a letter of it escaped", 'Authentication-Results: "gateway.b.exampl\\e"; dkim=pass'],
    ["in a session field of ours", "Kakitome-Session: forged"],
  ])("that a letter pretends to bring along are dropped: %s", (_why, line) => {
    const letter = filed(`${line}\r\n${OWN}${line}\r\n`);
    expect(ours(letter)).toEqual(["gateway.b.example; smime=pass"]);
    expect(fieldsNamed(splitMessage(letter).fields, "kakitome-session").map(valueOf)).toEqual(["abc"]);
  });

  test.each([
    ["of another host", "Authentication-Results: mx.a.example; dkim=pass header.d=a.example"],
    ["of a host whose name begins like ours", "Authentication-Results: gateway.b.example.a.example; spf=pass"],
    ["of a host whose name ends like ours", "Authentication-Results: x.gateway.b.example; spf=pass"],
  ])("of others are the sender's affair and stay: %s", (_why, line) => {
    expect(filed(`${line}\r\n${OWN}`).toString()).toContain(`${line}\r\n`);
  });

  test.each([
    ["nested", `${"(".repeat(400_000)}${")".repeat(400_000)}`],
    ["side by side", "()".repeat(400_000)],
    ["open", "(".repeat(800_000)],
  ])("are told from those of others without ado, however many comments stand there, %s", (_how, comments) => {
    expect(ending(() => ours(filed(`Authentication-Results: ${comments} mx.a.example; dkim=pass\r\n${OWN}`)))).toEqual([
      "gateway.b.example; smime=pass",
    ]);
  });

  test.each(["plain", "signed"] as const)("cannot be continued by a letter that begins with white space (%s)", (form) => {
    const letter = filed(` ; dkim=pass header.d=bank.example\r\n${OWN}`, form, "Content-Type: multipart/signed; boundary=b\r\n\r\nx");
    expect(splitMessage(letter).fields.slice(0, 2).map(valueOf)).toEqual(RESULTS.map(valueOf));
  });
});

describe("signed delivery", () => {
  test("keeps the signed entity unchanged below the restored header, structure taken from it alone", async () => {
    const { letter } = sealedLetter(await makeParties());
    const filedLetter = restore(parsePayload(payloadOf(MESSAGE)), whole(letter.entity), "signed", RESULTS);
    const entity = parseEntity(filedLetter);
    expect(entity.contentType.type).toBe("multipart/signed");
    expect(splitMultipart(entity)).toEqual(splitMultipart(parseEntity(whole(letter.entity))));
    const { fields } = splitMessage(filedLetter);
    expect(fieldsNamed(fields, "subject").map(valueOf)).toEqual(["the secret subject"]);
    expect(fieldsNamed(fields, "mime-version")).toHaveLength(1);
    expect(fields.filter(({ name }) => name.startsWith("content-"))).toHaveLength(1);
  });

  test.each([
    ["a subject", "Subject: another"],
    ["a sender", "From: mallory@m.example"],
    ["results in our name", "Authentication-Results: gateway.b.example; dkim=pass"],
    ["a session", "Kakitome-Session: forged"],
    ["a line that continues what stands above it", " continued"],
  ])("takes nothing but structure from the header above the signed parts, which no signature covers: %s", (_why, line) => {
    const letter = filed(`${OWN}Subject: true\r\n`, "signed", `${line}\r\nContent-Type: multipart/signed; boundary=b\r\n\r\nx`);
    const names = splitMessage(letter).fields.map(({ name }) => name);
    expect(names).toEqual([
      "authentication-results",
      "kakitome-session",
      "from",
      "to",
      "message-id",
      "subject",
      "mime-version",
      "content-type",
    ]);
    expect(letter.toString()).not.toContain(line);
  });
});
