/** Tokens instead of passwords: from a token server, to a Dovecot that checks them as Microsoft 365 and Google would, and to a next hop. */
import { createHmac, createPublicKey, generateKeyPairSync, randomBytes, verify } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { SMTPServer } from "smtp-server";
import type { ImapConfig } from "../../config/schema.ts";
import type { OAuthConfig } from "../../config/schema-oauth.ts";
import { duration } from "../../config/units.ts";
import { ImapMailbox } from "../../gateway/mailbox.ts";
import { connectTo } from "../../gateway/next-hop.ts";
import { TokenSource, TokenSources } from "../../gateway/oauth.ts";
import { startDovecot, type DovecotServer } from "../servers/dovecot.ts";
import { freePort } from "../servers/ports.ts";
import { temporaryFolder } from "../servers/process.ts";

const BOB = "bob@b.example";
const KEY = randomBytes(32);
const SECRET = "the-secret-of-the-application";

/** A token as the test's Dovecot wants it (RFC 7519). @param lifetime seconds */
function tokenFor(email: string, lifetime: number, key = KEY): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1_000);
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ email, sub: email, iat: now - 60, exp: now + lifetime })}`;
  return `${text}.${createHmac("sha256", key).update(text).digest("base64url")}`;
}

let tokens: Server;
let folder: string;
let config: OAuthConfig;
/** What the token server was asked, and what it answers next. */
let asked: URLSearchParams[];
let answer: () => [status: number, body: object | string];

const good = (lifetime = 3_600): [number, object] => [
  200,
  { access_token: tokenFor(BOB, lifetime), expires_in: lifetime, token_type: "Bearer" },
];

beforeAll(async () => {
  tokens = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      asked.push(new URLSearchParams(Buffer.concat(chunks).toString()));
      const [status, body] = answer();
      response.writeHead(status, { "content-type": "application/json" }).end(typeof body === "string" ? body : JSON.stringify(body));
    });
  }).listen(0, "127.0.0.1");
  await once(tokens, "listening");
  folder = await temporaryFolder("oauth");
  const clientSecretFile = join(folder, "app.secret");
  writeFileSync(clientSecretFile, `${SECRET}\n`, { mode: 0o600 });
  const tokenUrl = `http://127.0.0.1:${(tokens.address() as AddressInfo).port}/token`;
  config = { tokenUrl, clientId: "app-1", clientSecretFile, scope: "mail/.default" };
});
afterAll(() => void tokens?.close());
beforeEach(() => {
  asked = [];
  answer = good;
});

describe("a token source", () => {
  test("asks with the application's credentials (RFC 6749 §4.4), once for all who want a token at the same time", async () => {
    const source = new TokenSource(config, BOB, () => new Date());
    const [first, second] = await Promise.all([source.token(), source.token()]);
    expect(first).toBe(second);
    expect(asked.map((fields) => Object.fromEntries(fields))).toEqual([
      { grant_type: "client_credentials", client_id: "app-1", client_secret: SECRET, scope: "mail/.default" },
    ]);
  });

  test("keeps a token until five minutes before it expires, then has another one", async () => {
    let now = Date.now();
    const source = new TokenSource(config, BOB, () => new Date(now));
    await source.token();
    now += 54 * 60_000;
    await source.token();
    expect(asked).toHaveLength(1);
    now += 2 * 60_000;
    await source.token();
    expect(asked).toHaveLength(2);
  });

  test("throws a refused token away, and only that one", async () => {
    const source = new TokenSource(config, BOB, () => new Date());
    const token = await source.token();
    source.refused("another");
    await source.token();
    expect(asked).toHaveLength(1);
    source.refused(token);
    await source.token();
    expect(asked).toHaveLength(2);
  });

  test("signs for the user with the key of a service account (RFC 7523)", async () => {
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2_048 });
    const keyFile = join(folder, "service.key.pem");
    writeFileSync(keyFile, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
    const { clientSecretFile: _none, ...rest } = config;
    await new TokenSource({ ...rest, keyFile }, BOB, () => new Date()).token();
    expect(asked[0]?.get("grant_type")).toBe("urn:ietf:params:oauth:grant-type:jwt-bearer");
    const [head = "", claims = "", signature = ""] = asked[0]?.get("assertion")?.split(".") ?? [];
    expect(JSON.parse(Buffer.from(claims, "base64url").toString())).toMatchObject({
      iss: "app-1",
      sub: BOB,
      aud: config.tokenUrl,
      scope: "mail/.default",
    });
    const key = createPublicKey(privateKey);
    expect(verify("sha256", Buffer.from(`${head}.${claims}`), key, Buffer.from(signature, "base64url"))).toBe(true);
  });

  test("is shared by mailboxes of one application", () => {
    const sources = new TokenSources(() => new Date());
    expect(sources.of(config, BOB)).toBe(sources.of({ ...config }, "carol@b.example"));
    expect(sources.of({ ...config, clientId: "app-2" }, BOB)).not.toBe(sources.of(config, BOB));
  });

  test.each([
    [
      "a wrong secret",
      401,
      { error: "invalid_client", error_description: "AADSTS7000215: Invalid\nclient secret" },
      /refused with invalid_client: .*app\.secret is wrong or has expired.*AADSTS7000215: Invalid client secret/u,
    ],
    ["a missing consent", 400, { error: "unauthorized_client" }, /app-1 may not do this yet.*administrator's consent/u],
    ["an unknown scope", 400, { error: "invalid_scope" }, /oauth\.scope is "mail\/\.default"/u],
    ["a word nobody knows", 400, { error: "strange" }, /refused with strange: look at oauth\.tokenUrl/u],
    ["a page instead of an answer", 404, "<html>", /refused with HTTP 404/u],
    ["an answer without a token", 200, {}, /refused with HTTP 200/u],
  ])("says what to mend after %s", async (_why, status, body, words) => {
    answer = () => [status, body];
    const thrown = await new TokenSource(config, BOB, () => new Date()).token().catch((cause: unknown) => cause);
    expect(thrown).toMatchObject({ code: "unauthenticated", message: expect.stringMatching(words) });
    expect(String(thrown)).not.toContain(SECRET);
  });

  test.each([[500], [429]])("waits where the token server answers %s", async (status) => {
    answer = () => [status, ""];
    await expect(new TokenSource(config, BOB, () => new Date()).token()).rejects.toMatchObject({ code: "unavailable" });
  });

  test("waits where nobody answers", async () => {
    const tokenUrl = `http://127.0.0.1:${await freePort()}/`;
    const asking = new TokenSource({ ...config, tokenUrl }, BOB, () => new Date()).token();
    await expect(asking).rejects.toMatchObject({ code: "unavailable", message: expect.stringContaining("oauth.tokenUrl") });
  });
});

describe.each([["oauthbearer"], ["xoauth2"]])("a mailbox at a Dovecot with %s", (mechanism) => {
  let dovecot: DovecotServer;
  beforeAll(async () => {
    dovecot = await startDovecot({ users: {}, tokenKey: KEY, tokenMechanisms: mechanism });
  });
  afterAll(() => dovecot?.stop());

  async function open(): Promise<void> {
    const port = dovecot.imapPort;
    const common = { host: "127.0.0.1", port, tls: "none" as const, user: BOB, watch: "INBOX", opened: "INBOX", sealed: "remove" };
    const imap: ImapConfig = { ...common, poll: duration("1s"), oauth: config };
    const login = { tokens: new TokenSource(config, BOB, () => new Date()) };
    const mailbox = await ImapMailbox.open({ config: imap, login, ca: undefined }, () => undefined);
    expect(await mailbox.seenAbove(0)).toEqual([]);
    await mailbox.close();
  }

  test("is opened with a token", async () => {
    await open();
    expect(asked).toHaveLength(1);
  });

  test("is opened with a new token after one that has expired was refused", async () => {
    const answers: [number, object][] = [[200, { access_token: tokenFor(BOB, -30), expires_in: 3_600 }], good()];
    answer = () => answers.shift() ?? good();
    await open();
    expect(asked).toHaveLength(2);
  });

  test("stays closed to a token that is not its own, and it is said what to mend", async () => {
    answer = () => [200, { access_token: tokenFor(BOB, 3_600, randomBytes(32)), expires_in: 3_600 }];
    await expect(open()).rejects.toMatchObject({
      code: "unauthenticated",
      message: expect.stringMatching(/^the mailbox bob@b\.example at 127\.0\.0\.1 does not let the application app-1 in: .*oauth\.scope/u),
    });
    expect(asked).toHaveLength(2);
  });

  test("is not tried where the token is refused", async () => {
    answer = () => [401, { error: "invalid_client" }];
    await expect(open()).rejects.toMatchObject({ code: "unauthenticated", message: expect.stringContaining("app.secret") });
  });
});

describe("a next hop with XOAUTH2", () => {
  let hop: SMTPServer;
  let port: number;
  let shown: string[];
  let wanted: string;
  beforeAll(async () => {
    hop = new SMTPServer({
      authMethods: ["XOAUTH2"],
      disabledCommands: ["STARTTLS"],
      allowInsecureAuth: true,
      logger: false,
      closeTimeout: 1,
      onAuth({ username, accessToken = "" }, _session, callback) {
        shown.push(accessToken);
        if (username === BOB && accessToken === wanted) callback(null, { user: BOB });
        else callback(null, { data: { status: "401", schemes: "bearer" } });
      },
      onData(stream, _session, callback) {
        stream.resume().on("end", () => callback(null));
      },
    });
    port = await freePort();
    await new Promise<void>((resolve) => hop.listen(port, "127.0.0.1", () => resolve()));
  });
  afterAll(() => new Promise<void>((resolve) => hop.close(() => resolve())));
  beforeEach(() => void (shown = []));

  async function send(): Promise<unknown> {
    const login = { tokens: new TokenSource(config, BOB, () => new Date()) };
    const to = { host: "127.0.0.1", port, tls: "none" as const, ca: undefined, auth: { user: BOB, login }, name: "gateway.b.example" };
    const transport = connectTo(to);
    try {
      return await transport.sendMail({ envelope: { from: BOB, to: "alice@a.example" }, raw: "Subject: x\r\n\r\ny\r\n" });
    } finally {
      transport.close();
    }
  }

  test("takes a mail after one refused token was renewed on the same connection", async () => {
    const old = tokenFor(BOB, -30);
    wanted = tokenFor(BOB, 3_600);
    const answers: [number, object][] = [
      [200, { access_token: old, expires_in: 3_600 }],
      [200, { access_token: wanted, expires_in: 3_600 }],
    ];
    answer = () => answers.shift() ?? good();
    await expect(send()).resolves.toMatchObject({ accepted: ["alice@a.example"] });
    expect(shown).toEqual([old, wanted]);
  });

  test("that takes no token of ours gives words that say what to mend, and no final answer for the letter", async () => {
    wanted = "another";
    await expect(send()).rejects.toMatchObject({
      code: "EAUTH",
      message: expect.stringContaining("does not let the application app-1 in"),
    });
  });
});
