/** The broker's door: TLS 1.3 only, bodies up to a limit, and rubbish that gets one fault while the next honest call works. */
import { connect } from "node:tls";
import { once } from "node:events";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { LARGEST_BODY_OCTETS } from "../../broker/wire.ts";
import { call, forever, openHouse, signedBy, ticketOf, wordOf, type House, type Member } from "./house.ts";

let house: House;
let alice: Member;

beforeAll(async () => {
  house = await openHouse();
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
});
afterAll(() => house?.stop());
afterEach(async () => {
  expect(await alice.gateway.client.lookUp(alice.mailbox, forever)).toBeDefined(); // the process lives and serves
});

const signed = () => signedBy(house, alice, "present", { ticket: "AAAA" });
const JSON_TYPE = "application/json";

test.each(["TLSv1.2", "TLSv1.3"] as const)("a client that speaks at most %s is let in only where that is 1.3", async (maxVersion) => {
  const socket = connect({ port: Number(new URL(house.url).port), host: "127.0.0.1", ca: house.broker.root.certificate.pem, maxVersion });
  const [outcome] = (await Promise.race([once(socket, "secureConnect").then(() => ["in"]), once(socket, "error")])) as [unknown];
  socket.destroy();
  if (maxVersion === "TLSv1.3") expect(outcome).toBe("in");
  else expect(String(outcome)).toMatch(/protocol version/u);
});

test("words that are no TLS end the connection and nothing else", async () => {
  const { connect: plain } = await import("node:net");
  const socket = plain(Number(new URL(house.url).port), "127.0.0.1");
  socket.on("error", () => undefined);
  socket.write("GET / HTTP/1.1\r\n\r\n");
  await once(socket, "close");
});

test.each(["//v1/mailboxes", "/v1//mailboxes", "/v1/%6dailboxes/..", "///", "/v1/mailboxes/../../v1"])(
  "a path that is written in another way, %s, leads to no step and breaks nothing",
  async (path) => {
    const { status } = await call(house, alice.gateway.channel, path, { body: "{}", type: JSON_TYPE });
    expect([400, 404, 405]).toContain(status);
  },
);

describe("a body that is not what the step needs is malformed", () => {
  const deep = (open: string, close: string): string => open.repeat(100_000) + close.repeat(100_000);
  test.each<[string, () => Buffer | string]>([
    ["nothing", () => ""],
    ["one octet", () => "0"],
    ["words", () => "hello"],
    ["JSON where DER is due", () => '{"step":"present"}'],
    ["a JSON array", () => "[]"],
    ["DER of another kind", () => Buffer.from("3003020101", "hex")],
    ["a SignedData cut in the middle", () => signed().subarray(0, 300)],
    ["a SignedData without its last octet", () => signed().subarray(0, -1)],
    ["a SignedData with an octet more", () => Buffer.concat([signed(), Buffer.from([0])])],
    ["an indefinite length that never ends", () => Buffer.concat([Buffer.from("3080", "hex"), Buffer.alloc(500, 0x24)])],
    ["nested constructions without end", () => Buffer.from("3080".repeat(100_000), "hex")],
    ["a length of four gigabytes", () => Buffer.from("3084ffffffff00", "hex")],
    ["a length in a hundred octets", () => Buffer.concat([Buffer.from([0x30, 0xe4]), Buffer.alloc(200, 0xff)])],
    ["zeros", () => Buffer.alloc(100_000)],
    ["the body of another content", () => signedBy(house, alice, "present", { ticket: ["AAAA"] })],
    ["a ticket that is not base64", () => signedBy(house, alice, "present", { ticket: "*" })],
    ["a ticket beyond its limit", () => signedBy(house, alice, "present", { ticket: "A".repeat(16_388) })],
    ["a huge string for a time", () => signedBy(house, alice, "present", { ticket: "AAAA", time: "9".repeat(500_000) })],
    ["a signed array", () => signedBy(house, alice, "present", [] as unknown as Record<string, unknown>)],
    ["PEM instead of DER", () => `-----BEGIN CMS-----\n${signed().toString("base64")}\n-----END CMS-----\n`],
  ])("signed step: %s", async (_why, make) => {
    const answer = await call(house, alice.gateway.channel, "/v1/present", { body: make() });
    expect(answer.status).toBe(400);
    expect(wordOf(answer)).toBe("malformed");
    expect(answer.headers["content-type"]).toBe("application/problem+json");
  });

  test.each<[string, string]>([
    ["nothing", ""],
    ["null", "null"],
    ["a number", "7"],
    ["an array", '["AAAA"]'],
    ["no tickets", '{"tickets":[]}'],
    ["a ticket that is a number", '{"tickets":[7]}'],
    ["too many tickets", JSON.stringify({ tickets: Array.from({ length: 1_001 }, () => "AAAA") })],
    ["deep arrays", deep("[", "]")],
    ["deep objects", `${'{"tickets":'.repeat(50_000)}0${"}".repeat(50_000)}`],
    ["a key too many", '{"tickets":["AAAA"],"then":1}'],
    ["a prototype", '{"__proto__":{"tickets":["AAAA"]}}'],
    ["JSON cut short", '{"tickets":["AAA'],
    ["bad UTF-8", Buffer.from([0x7b, 0xff, 0xfe, 0x7d]).toString("latin1")],
  ])("plain step: %s", async (_why, body) => {
    const answer = await call(house, alice.gateway.channel, "/v1/withdraw", { body, type: JSON_TYPE });
    expect([answer.status, wordOf(answer)]).toEqual([400, "malformed"]);
  });

  test.each([
    ["POST", "/v1/nothing"],
    ["POST", "/"],
    ["GET", "/v1/present"],
    ["DELETE", "/v1/declare"],
    ["GET", "/v1/../../etc/passwd"],
  ])("no step: %s %s", async (method, path) => {
    const answer = await call(house, alice.gateway.channel, path, { method });
    expect([answer.status, wordOf(answer)]).toEqual([400, "malformed"]);
  });

  test.each([
    ["no address", "/v1/directory/nobody"],
    ["a broken escape", "/v1/directory/%E0%A4%A"],
    ["a line end", "/v1/directory/a%0d%0a@b.example"],
  ])("directory: %s", async (_why, path) => {
    const answer = await call(house, alice.gateway.channel, path, { method: "GET" });
    expect([answer.status, wordOf(answer)]).toEqual([400, "malformed"]);
  });
});

test("an octet string is read whatever the content type says, for the octets decide", async () => {
  const ticket = (await ticketOf(house, alice, "alice@a.example")).toString("base64");
  const answer = await call(house, alice.gateway.channel, "/v1/present", {
    body: signedBy(house, alice, "present", { ticket }),
    type: "text/plain",
  });
  expect(answer.status).toBe(200);
});

describe("a body beyond 1 MiB is too large", () => {
  test.each([
    ["with its length said before", false],
    ["in chunks", true],
  ])("%s", async (_why, chunked) => {
    const body = Buffer.alloc(LARGEST_BODY_OCTETS + 1, 0x30);
    const answer = await call(house, alice.gateway.channel, "/v1/present", { body, chunked });
    expect([answer.status, wordOf(answer)]).toEqual([413, "too-large"]);
  });

  test("and one of exactly 1 MiB is read", async () => {
    const answer = await call(house, alice.gateway.channel, "/v1/present", { body: Buffer.alloc(LARGEST_BODY_OCTETS, 0x30) });
    expect(wordOf(answer)).toBe("malformed");
  });
});

test("what a refusal says is its word; the inner reason stays in the log", async () => {
  const answer = await call(house, alice.gateway.channel, "/v1/present", { body: signedBy(house, alice, "present", { ticket: "*" }) });
  expect(JSON.parse(answer.body.toString())).toEqual({
    type: "urn:kakitome:fault:malformed",
    title: "The request cannot be read",
    status: 400,
  });
  expect(house.heard.lines.all.at(-1)).toMatchObject({ event: "request.refused", fault: "malformed" });
  expect(String(house.heard.lines.all.at(-1)?.["reason"])).toMatch(/ticket/u);
});

test("stopping lets a running request end", async () => {
  let open = (): void => undefined;
  const gate = new Promise<void>((resolve) => (open = resolve));
  let entered = (): void => undefined;
  const inside = new Promise<void>((resolve) => (entered = resolve));
  const other = await openHouse((table) => {
    table.ready = async () => {
      entered();
      await gate;
    };
    return table;
  });
  const answer = call(other, undefined, "/v1/ready", { method: "GET" }).then(
    ({ status }) => status,
    (thrown: Error) => thrown.message,
  );
  await inside;
  const stopped = other.stop();
  open();
  expect(await answer).toBe(200);
  await stopped;
});
