/** The bodies on the wire: what each accepts, and that whatever else comes is malformed and nothing more. */
import { describe, expect, test } from "@jest/globals";
import { z } from "zod";
import {
  confirmBody,
  declareBody,
  directoryBody,
  enrolBody,
  grantsBody,
  mailboxBody,
  openAnswer,
  parseBody,
  presentBody,
  sealAnswer,
  signBody,
  ticketsBody,
} from "../../broker/wire.ts";
import { OID } from "../../mime/oids.ts";
import { verify } from "../../mime/sign.ts";
import { NOW, makeParties } from "../mime/parties.ts";

const HEX = "0123456789abcdef".repeat(4);
const head = { broker: "https://broker.example", gateway: HEX, request: "r".repeat(24), time: "2026-03-01T12:00:00.000Z" };
const declaration = {
  step: "declare",
  letter: "l".repeat(22),
  ...head,
  sender: "alice@a.example",
  messageId: "<1@a.example>",
  expiresAt: "2026-03-31T12:00:00Z",
  confirm: "next-session",
  recipients: [{ address: "bob@b.example", commit: HEX, contentId: HEX, hold: "held", signing: "inner" }],
};
const bodies = {
  declare: [declareBody, declaration],
  present: [presentBody, { step: "present", ...head, ticket: "AAAA", holder: "h".repeat(43) }],
  confirm: [confirmBody, { step: "confirm", ...head, nextTicket: "AAAA", result: "opened", receipt: "AAAA" }],
  tickets: [ticketsBody, { tickets: ["AAAA", "AA=="] }],
  enrol: [enrolBody, { token: "t", name: "gateway", request: "AAAA" }],
  mailbox: [mailboxBody, { address: "bob@b.example", aliases: [], signing: "AAAA", encryption: "AAAA" }],
  directory: [directoryBody, { address: "bob@b.example", signingCertificate: "", encryptionCertificate: "" }],
} as const satisfies Record<string, readonly [z.ZodType, object]>;

const malformed = expect.objectContaining({ code: "malformed" });
const parse = (schema: z.ZodType, body: unknown) => () => parseBody(schema, JSON.stringify(body));

describe.each(Object.entries(bodies))("the body %s", (_name, [schema, good]) => {
  test("is read as it is meant", () => {
    expect(parse(schema, good)).not.toThrow();
  });

  test.each(Object.keys(good))("is malformed without its %s", (key) => {
    expect(parse(schema, { ...good, [key]: undefined })).toThrow(malformed);
  });

  test.each(Object.keys(good))("is malformed with null, a number or an object for its %s", (key) => {
    for (const value of [null, 7, {}, [[]]]) expect(parse(schema, { ...good, [key]: value })).toThrow(malformed);
  });

  test("is malformed with a key that it does not know", () => {
    expect(parse(schema, { ...good, extra: 1 })).toThrow(malformed);
  });
});

describe("declare", () => {
  test.each<[string, object]>([
    ["a step of another call", { step: "present" }],
    ["a gateway in capitals", { gateway: HEX.toUpperCase() }],
    ["a gateway too short", { gateway: HEX.slice(1) }],
    ["a short request ID", { request: "r".repeat(21) }],
    ["a long request ID", { request: "r".repeat(65) }],
    ["a request ID with a line end", { request: `${"r".repeat(24)}\n` }],
    ["a time without a zone", { time: "2026-03-01T12:00:00" }],
    ["a time of another zone", { time: "2026-03-01T12:00:00+01:00" }],
    ["a day that is none", { time: "2026-02-30T12:00:00Z" }],
    ["a number for a time", { time: 1_772_366_400_000 }],
    ["a sender that is no address", { sender: "alice" }],
    ["a sender with a line end", { sender: "alice\r\n@a.example" }],
    ["a Message-ID with a space", { messageId: "<1 2@a.example>" }],
    ["a Message-ID with a control character", { messageId: "<1\u00002@a.example>" }],
    ["a Message-ID of a thousand characters", { messageId: `<${"x".repeat(1_000)}>` }],
    ["no recipients", { recipients: [] }],
    ["1,001 recipients", { recipients: Array.from({ length: 1_001 }, () => declaration.recipients[0]) }],
    ["a commitment in capitals", { recipients: [{ address: "bob@b.example", commit: HEX.toUpperCase() }] }],
    ["a commitment too long", { recipients: [{ address: "bob@b.example", commit: `${HEX}0` }] }],
  ])("is malformed with %s", (_why, changes) => {
    expect(parse(declareBody, { ...declaration, ...changes })).toThrow(malformed);
  });

  test("gives addresses as they are looked up and times as times", () => {
    const body = parseBody(declareBody, JSON.stringify({ ...declaration, sender: "Alice@A.example" }));
    expect([body.sender.key, body.sender.address]).toEqual(["alice@a.example", "Alice@a.example"]);
    expect(body.expiresAt.getTime()).toBe(Date.UTC(2026, 2, 31, 12));
  });
});

describe("a ticket", () => {
  test.each([
    ["empty", ""],
    ["of another alphabet", "-_-_"],
    ["with a line end", "AAAA\n"],
    ["with padding in the middle", "AA=A"],
    ["with three signs of padding", "A==="],
    ["longer than any ticket", "A".repeat(16_385)],
  ])("%s is malformed", (_why, ticket) => {
    expect(parse(ticketsBody, { tickets: [ticket] })).toThrow(malformed);
  });
});

test.each([
  ["nothing", ""],
  ["words", "hello"],
  ["half of it", '{"tickets":["AAAA"'],
  ["two of them", '{"tickets":["AAAA"]}{}'],
  ["a comment", '{"tickets":["AAAA"]}//'],
  ["arrays without end", "[".repeat(200_000)],
])("a body that is not JSON is malformed: %s", (_why, text) => {
  expect(() => parseBody(ticketsBody, text)).toThrow(malformed);
  expect(() => parseBody(ticketsBody, Buffer.from(text))).toThrow(malformed);
});

test("a refusal names the place in the body, never what stood there", () => {
  expect(parse(presentBody, { ...bodies.present[1], ticket: "secret *" })).toThrow(
    /^the body is not what this step needs: ticket (?!.*secret)/u,
  );
});

test("a signed body is what the signer said, and nobody else can have said it", async () => {
  const { alice, root } = await makeParties();
  const { content, signer } = verify(signBody({ step: "x" }, alice.signer, NOW), {
    roots: [root.certificate],
    at: NOW,
    purpose: OID.emailProtection,
  });
  expect([JSON.parse(content.toString()), signer.fingerprint]).toEqual([{ step: "x" }, alice.signer.certificate.fingerprint]);
});

test("an answer with a key is sealed to one mailbox and opens for no other", async () => {
  const { alice, bob, broker, root } = await makeParties();
  const answer = { request: "r", grants: [] };
  const der = sealAnswer(answer, alice.opener.certificate, broker, NOW);
  expect(der.includes("grants")).toBe(false);
  const verified = verify(der, { roots: [root.certificate], at: NOW, purpose: OID.emailProtection });
  expect(openAnswer(grantsBody, verified, [alice.opener])).toEqual(answer);
  expect(() => openAnswer(grantsBody, verified, [bob.opener])).toThrow(expect.objectContaining({ code: "unavailable" }));
  const mixed = { key: bob.opener.key, certificate: alice.opener.certificate };
  expect(() => openAnswer(grantsBody, verified, [mixed])).toThrow(expect.objectContaining({ code: "cannot-open" }));
});
