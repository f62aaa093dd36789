/** The operator's door: its own listener, its own token, and no answer that holds what opens, presents or confirms a letter. */
import { randomBytes } from "node:crypto";
import { chmodSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { request as plainRequest } from "node:http";
import { request as secureRequest } from "node:https";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { startAdmin } from "../../broker/admin.ts";
import { FILES } from "../../broker/files.ts";
import type { ServerLimits } from "../../broker/listener.ts";
import { sessionHash } from "../../broker/session.ts";
import { openTicket } from "../../broker/ticket.ts";
import { brokerSchema } from "../../config/schema.ts";
import { readSecret } from "../../config/secrets.ts";
import { duration } from "../../config/units.ts";
import { call, confirmAs, forever, openHouse, ticketOf, wordOf, type House, type Member } from "./house.ts";

const TOKEN = randomBytes(32).toString("base64url");
const LIMITS: ServerLimits = {
  perGateway: { burst: 10, perSecond: 1 },
  perAddress: { burst: 20, perSecond: 0.01 },
  connections: 100,
  header: duration("5s"),
  request: duration("5s"),
};

let house: House;
let alice: Member;
let bob: Member;
let admin: { readonly port: number; stop(): Promise<void> };
let tokenFile: string;
let tls: { key: string; cert: string };

beforeAll(async () => {
  house = await openHouse();
  alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  bob = await (await house.gateway("b.example")).enrol("bob@b.example");
  tokenFile = join(house.folder, "admin.token");
  writeFileSync(tokenFile, `${TOKEN}\n`, { mode: 0o600 });
  const data = join(house.folder, "data");
  tls = { key: readSecret(join(data, FILES.serverKey)).reveal(), cert: readFileSync(join(data, FILES.server), "utf8") };
  admin = await open();
});
afterAll(async () => {
  await admin?.stop();
  await house?.stop();
});

const open = (secure = false, file = tokenFile) =>
  startAdmin(house.broker, { listen: { host: "127.0.0.1", port: 0 }, tokenFile: file, tls: secure }, tls, LIMITS);

interface Asked {
  readonly status: number;
  readonly text: string;
}

function ask(
  method: string,
  path: string,
  options: { token?: string | undefined; body?: object; port?: number; secure?: boolean } = {},
): Promise<Asked> {
  const { token = TOKEN, body, port = admin.port, secure = false } = options;
  const headers = token === "" ? {} : { authorization: `Bearer ${token}` };
  return new Promise((resolve, reject) => {
    const target = { host: "127.0.0.1", port, path, method, headers, agent: false as const };
    const sent = secure ? secureRequest({ ...target, ca: house.broker.root.certificate.pem }) : plainRequest(target);
    sent.on("error", reject).on("response", (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
    });
    sent.end(body && JSON.stringify(body));
  });
}

/** Every route there is. */
const ROUTES: readonly (readonly [string, string, object | undefined])[] = [
  ["GET", "/v1/status", undefined],
  ["GET", "/v1/gateways", undefined],
  ["GET", `/v1/sessions/${"0".repeat(64)}`, undefined],
  ["POST", "/v1/invites", { for: ["new.example"] }],
  ["POST", "/v1/revocations", { serial: "1234", reason: "superseded" }],
];

describe("without the operator's token", () => {
  test.each(ROUTES)("%s %s is refused", async (method, path, body) => {
    const other = `${TOKEN.slice(0, -1)}${TOKEN.endsWith("A") ? "B" : "A"}`;
    for (const token of ["", other, TOKEN.slice(0, -1), `${TOKEN}A`]) {
      const asked = await ask(method, path, { token, ...(body && { body }) });
      expect([asked.status, JSON.parse(asked.text)]).toMatchObject([
        401,
        { type: "urn:kakitome:fault:unauthenticated", detail: expect.stringContaining("Bearer TOKEN") },
      ]);
    }
  });

  test("guessing is slowed down, and the operator is not", async () => {
    const statuses = [];
    for (let count = 0; count < 25; count++) statuses.push((await ask("GET", "/v1/status", { token: "guess" })).status);
    expect(statuses.at(-1)).toBe(429);
    expect((await ask("GET", "/v1/status")).status).toBe(200);
  });
});

test.each(ROUTES)("on the gateways' listener there is no %s %s, with the token or without", async (method, path) => {
  const answer = await call(house, alice.gateway.channel, path, { method });
  expect([answer.status, wordOf(answer)]).toEqual([400, "malformed"]);
});

test("on the operator's listener there is none of the gateways' steps", async () => {
  for (const [method, path] of [
    ["GET", "/v1/authority"],
    ["POST", "/v1/gateways"],
    ["POST", "/v1/present"],
    ["GET", "/v1/crl"],
  ] as const)
    expect((await ask(method, path)).status).toBe(400);
});

test("counts, gateways and rows are shown, an invitation works, and a revocation counts", async () => {
  const ticket = await ticketOf(house, alice, "bob@b.example");
  const session = sessionHash(openTicket(ticket, house.broker.sessionKeys).sessionId);
  expect(JSON.parse((await ask("GET", `/v1/sessions/${session}`)).text)).toMatchObject({
    session,
    state: "declared",
    recipient: "bob@b.example",
  });
  const before = JSON.parse((await ask("GET", "/v1/status")).text) as { gateways: number };
  const { token } = JSON.parse((await ask("POST", "/v1/invites", { body: { for: ["c.example"] } })).text) as { token: string };
  expect(await house.table.findInvite(token, house.now().getTime())).toBeUndefined(); // only its hash is kept
  const gateway = await house.gateway("d.example");
  const { fingerprint } = gateway.channel.certificate;
  expect(JSON.parse((await ask("GET", "/v1/status")).text)).toMatchObject({ gateways: before.gateways + 1 });
  const revoked = await ask("POST", "/v1/revocations", { body: { gateway: fingerprint, reason: "key-compromise" } });
  expect(revoked.status).toBe(200);
  const listed = JSON.parse((await ask("GET", "/v1/gateways")).text) as { gateways: { fingerprint: string; revoked: boolean }[] };
  expect(listed.gateways.filter((one) => one.revoked).map((one) => one.fingerprint)).toEqual([fingerprint]);
  await expect(gateway.enrol("someone@d.example")).rejects.toMatchObject({ code: "unavailable" });
  expect((await ask("GET", "/v1/sessions/..%2f..")).status).toBe(400);
  expect((await ask("POST", "/v1/revocations", { body: { gateway: fingerprint, mailbox: "x@y.example" } })).status).toBe(400);
});

test("no answer holds a secret: every route is asked about letters in every state, and the answers are searched for every secret there is", async () => {
  const tickets = [];
  for (let count = 0; count < 4; count++) tickets.push(await ticketOf(house, alice, "bob@b.example"));
  const [, released, confirmed, withdrawn] = tickets as [Buffer, Buffer, Buffer, Buffer];
  const first = await bob.gateway.client.present(released, bob.identity, forever);
  const release = await bob.gateway.client.present(confirmed, bob.identity, forever);
  const secrets: (Buffer | string)[] = [...tickets, first.nextTicket, release.nextTicket, Buffer.from(first.filing, "hex"), TOKEN];
  for (const { key } of [first, release]) key?.lend((octets) => secrets.push(Buffer.from(octets)));
  const sessions = tickets.map((ticket) => sessionHash(openTicket(ticket, house.broker.sessionKeys).sessionId));
  for (const ticket of tickets) secrets.push(openTicket(ticket, house.broker.sessionKeys).sessionId);
  for (const session of sessions) {
    const row = await house.table.find(session);
    if (row && "wrappedKey" in row) secrets.push(row.wrappedKey, Buffer.from(row.declaredMac, "hex"));
  }
  await confirmAs(house, bob, release);
  await alice.gateway.client.withdraw([withdrawn], forever);
  const data = join(house.folder, "data");
  for (const name of readdirSync(data).filter((one) => /key/u.test(one))) {
    const text = readFileSync(join(data, name), "utf8").replaceAll(/-----.*?-----/gu, "");
    secrets.push(...text.split("\n").filter((line) => line.length > 30));
  }
  expect(secrets.length).toBeGreaterThan(25);
  const answers = [];
  for (const [method, path, body] of [...ROUTES, ...sessions.map((session) => ["GET", `/v1/sessions/${session}`, undefined] as const)]) {
    const asked = await ask(method, path, body && { body });
    answers.push(asked.text);
  }
  const whole = answers.join("\n");
  expect(whole).toContain('"state":"confirmed"');
  const forms = (secret: Buffer | string): string[] =>
    typeof secret === "string"
      ? [secret]
      : (["hex", "base64", "base64url"] as const).map((encoding) => secret.toString(encoding).replace(/=+$/u, ""));
  expect(secrets.flatMap(forms).filter((form) => whole.includes(form))).toEqual([]);
  expect(whole).not.toMatch(/PRIVATE KEY|wrappedKey|nextTicket|"ticket"|filing|Mac"/u);
});

test("beyond the loopback it speaks TLS with the broker's certificate and nothing else", async () => {
  const door = await open(true);
  expect((await ask("GET", "/v1/status", { port: door.port, secure: true })).status).toBe(200);
  await expect(ask("GET", "/v1/status", { port: door.port })).rejects.toThrow();
  await door.stop();
});

test.each([
  ["127.0.0.1:1", false],
  ["[::1]:1", false],
  ["localhost:1", false],
  ["0.0.0.0:1", true],
  ["192.0.2.1:1", true],
  ["127.evil.example:1", true],
])("a listener at %s speaks TLS: %s", (listen, secure) => {
  expect(brokerSchema.shape.admin.parse({ listen, tokenFile: "x" })).toMatchObject({ tls: secure });
});

describe("does not open", () => {
  test.each([
    ["with a token of less than 128 bits", "x".repeat(21), 0o600, /too short/u],
    ["with a token that others can read", TOKEN, 0o640, /can be read by others/u],
  ])("%s", async (_why, text, mode, words) => {
    const file = join(house.folder, "bad.token");
    writeFileSync(file, text);
    chmodSync(file, mode);
    await expect(open(false, file)).rejects.toThrow(words);
  });
});
