/** The inbound door and its line to the delivery server: who is let in, one recipient in a transaction, and mail that goes on octet for octet (RFC 2033, RFC 5321). */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { Delivery } from "../../gateway/delivery.ts";
import { octets } from "../../config/units.ts";
import { startDovecot, type DovecotServer } from "../servers/dovecot.ts";
import { freePort } from "../servers/ports.ts";
import { mailsOf, openPost, withoutTrace, type Post, type PostOptions } from "./arrival-place.ts";
import { startHop, type Attempt, type Hop, type HopOptions } from "./hop.ts";
import { PASSWORD } from "./inbound-place.ts";
import { Talk } from "./talk.ts";

const CAROL = "carol@b.example";
const MAIL = `From: alice@a.example\r\nTo: ${CAROL}\r\nSubject: hello\r\nMessage-ID: <1@a.example>\r\n\r\nThe text.\r\n`;

const running: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (let stop = running.pop(); stop; stop = running.pop()) await stop();
});

/** A door with a delivery server behind it that keeps what it takes. */
async function open(hop: HopOptions = {}, changes: Partial<PostOptions> = {}): Promise<{ post: Post; server: Hop; last: () => Attempt }> {
  const server = await startHop({ lmtp: true, ...hop });
  running.push(() => server.close());
  const protocol = hop.lmtp === false ? "smtp" : "lmtp";
  const post = await openPost(undefined, { deliver: { port: server.port, protocol }, ...changes });
  running.push(() => post.stop());
  const last = (): Attempt => {
    const attempt = server.attempts.all.at(-1);
    if (!attempt) throw new Error("nothing was handed on");
    return attempt;
  };
  return { post, server, last };
}

/** A server that says what it is told to each line, and no more. @returns its port */
async function raw(reply: (line: string) => string | undefined, greeting = "220 raw.example\r\n"): Promise<number> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket.on("error", () => undefined));
    socket.write(greeting);
    createInterface({ input: socket }).on("line", (line) => void socket.write(reply(line)?.concat("\r\n") ?? ""));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  running.push(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

describe("ordinary mail", () => {
  let dovecot: DovecotServer;
  beforeAll(async () => {
    dovecot = await startDovecot({ users: { [CAROL]: PASSWORD } });
  });
  afterAll(() => dovecot?.stop());

  const every = Buffer.from(Array.from({ length: 255 }, (_, at) => at + 1).filter((octet) => octet !== 10 && octet !== 13));
  const MAILS: readonly (readonly [string, Buffer | string])[] = [
    ["of plain words", MAIL],
    ["with every octet but NUL, and a long line", Buffer.concat([Buffer.from(MAIL), every, Buffer.from(`\r\n${"x".repeat(50_000)}\r\n`)])],
    ["with dots at the beginning of lines", `${MAIL}.\r\n..\r\n.x\r\n`],
    ["with odd header lines", `Subject:no space\r\nX-Folded: a\r\n\tb\r\n  c\r\nno field at all\r\nX-8bit: \xfc\r\n\r\n\r\n\r\n`],
    ["with nothing but a header", "Subject: no body\r\n"],
    [
      "with a signature of somebody",
      MAIL.replace("\r\n\r\n", '\r\nContent-Type: multipart/signed; boundary="b"\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n'),
    ],
  ];

  test.each(MAILS)("%s goes on octet for octet below the trace, by LMTP to Dovecot", async (_what, mail) => {
    const post = await openPost(undefined, { deliver: { port: dovecot.lmtpPort } });
    running.push(() => post.stop());
    const whole = typeof mail === "string" ? Buffer.from(mail, "latin1") : mail;
    expect(await post.bring(CAROL, whole, { from: "" })).toMatch(/^250 2\.0\.0 /u);
    const kept = mailsOf(dovecot, CAROL).map(withoutTrace);
    expect(kept.filter((text) => text === whole.toString("latin1"))).toHaveLength(1);
  });

  test.each(MAILS)("%s goes on octet for octet below the trace, from SMTP to SMTP", async (_what, mail) => {
    const { post, last } = await open({ lmtp: false }, { protocol: "smtp" });
    const whole = typeof mail === "string" ? Buffer.from(mail, "latin1") : mail;
    expect(await post.bring(CAROL, whole)).toMatch(/^250 2\.0\.0 /u);
    const trace = /^Received: by gateway\.b\.example \(Kakitome inbound\) with ESMTP\r\n id [0-9a-f]{32}; [^\r]*\r\n/u;
    const text = last().mail.toString("latin1");
    expect(text).toMatch(trace);
    expect(text.replace(trace, "")).toBe(whole.toString("latin1"));
  });

  test("loses what pretends to be found out by this gateway, and keeps what others found out", async () => {
    const { post, last } = await open();
    const lies = [
      "Authentication-Results: gateway.b.example; smime=pass\r\n body.smime-identifier=alice@a.example\r\n",
      'authentication-results: (c) "Gateway.B.Example"; smime=pass\r\n',
      "Kakitome-Session: 00\r\n",
      "Kakitome-Filing: 00\r\n",
    ];
    const others = "Authentication-Results: mx.b.example; spf=pass\r\n";
    await post.bring(CAROL, `${lies.join("")}${others}${MAIL}`);
    expect(withoutTrace(last().mail)).toBe(`${others}${MAIL}`);
  });
});

describe("a transaction", () => {
  test("has one recipient: the second one is put off, whatever the protocol, also where it is the first one again", async () => {
    for (const protocol of ["lmtp", "smtp"] as const) {
      const { post, server } = await open({}, { protocol });
      const { talk } = await post.enter();
      await talk.say("MAIL FROM:<alice@a.example>");
      expect(await talk.say(`RCPT TO:<${CAROL}>`)).toMatch(/^250 /u);
      expect(await talk.say("RCPT TO:<bob@b.example>")).toMatch(/^452 4\.5\.3 /u);
      expect(await talk.say(`RCPT TO:<${CAROL}>`)).toMatch(/^452 4\.5\.3 /u);
      expect(await talk.data(MAIL)).toMatch(/^250 /u);
      await talk.say("MAIL FROM:<alice@a.example>");
      expect(await talk.say("RCPT TO:<bob@b.example>")).toMatch(/^250 /u); // the next one, on the same connection
      await talk.say("RSET");
      await talk.say("MAIL FROM:<alice@a.example>");
      expect(await talk.say(`RCPT TO:<${CAROL}>`)).toMatch(/^250 /u);
      expect(await talk.data(MAIL)).toMatch(/^250 /u);
      expect(server.attempts.all.map(({ to }) => to)).toEqual([[CAROL], [CAROL]]);
      talk.close();
    }
  });

  test.each([
    ["nobody, as notices have it", "", CAROL],
    ["an address with a part behind a plus", "bounce+carol=b.example@list.example", "carol+tag@b.example"],
    ["an address that other doors would refuse", "user.@a.example", "Carol..X@b.example"],
    ["a domain in A-labels", "alice@xn--bcher-kva.example", "carol@xn--bcher-kva.example"],
  ])("keeps its paths: %s", async (_what, from, to) => {
    const { post, last } = await open();
    const wire = (address: string): string => address.replace("bücher", "xn--bcher-kva"); // the test server decodes them too
    expect(await post.bring(to, MAIL, { from })).toMatch(/^250 /u);
    expect([wire(last().from), last().to.map(wire)]).toEqual([from, [to]]);
    expect(last().mailParameters["SMTPUTF8"]).toBeUndefined();
  });

  test("keeps its DSN parameters where the delivery server takes them", async () => {
    const { post, last } = await open();
    const { talk, features } = await post.enter();
    talk.close();
    expect(features).toMatch(/^250[- ]DSN$/mu);
    await post.bring(CAROL, MAIL, { mail: " RET=HDRS ENVID=QQ+2B314", rcpt: " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;car+2Bol@b.example" });
    expect(last().mailParameters).toMatchObject({ RET: "HDRS", ENVID: "QQ+314" });
    expect(last().dsn).toEqual({ notify: ["SUCCESS", "FAILURE"], orcpt: "rfc822;car+ol@b.example" });
  });

  test("has no DSN parameters where the delivery server takes none: whoever promised notices keeps to it", async () => {
    const { post } = await open({ withoutDsn: true });
    const { talk, features } = await post.enter();
    talk.close();
    expect(features).not.toMatch(/^250[- ]DSN$/mu);
    expect(features).toMatch(/^250[- ]8BITMIME$/mu);
    expect(features).not.toMatch(/CHUNKING|AUTH|STARTTLS|XFORWARD/u);
  });
});

describe("the delivery server's answers", () => {
  test.each([
    ["refused at RCPT for good", { onRecipient: () => "550 5.1.1 <carol> Unknown" }, "550 5.1.1 The delivery server says: <carol> Unknown"],
    ["refused at RCPT for now", { onRecipient: () => "450 4.2.0 Locked" }, "450 4.2.0 The delivery server says: Locked"],
    ["refused behind the final dot for good", { onMail: () => "554 5.7.1 Spam" }, "554 5.7.1 The delivery server says: Spam"],
    ["refused behind the final dot for now", { onMail: () => "452 4.2.2 Full" }, "452 4.2.2 The delivery server says: Full"],
  ])("%s are whoever brought the mail's", async (_what, hop, reply) => {
    for (const lmtp of [true, false]) {
      const { post } = await open({ ...hop, lmtp });
      expect(await post.bring(CAROL, MAIL)).toBe(reply);
    }
  });

  test("that nobody hears put the mail off, and so does a server that ends the connection", async () => {
    const nobody = await openPost(undefined, { deliver: { port: await freePort() } });
    running.push(() => nobody.stop());
    expect(await nobody.bring(CAROL, MAIL)).toMatch(/^451 4\.4\.1 The delivery server cannot be reached/u);
    const port = await raw((line) => (line.startsWith("RCPT") ? "421 4.3.2 Going down" : "250 Well"));
    const leaving = await openPost(undefined, { deliver: { port } });
    running.push(() => leaving.stop());
    expect(await leaving.bring(CAROL, MAIL)).toMatch(/^451 4\.4\.1 /u);
  });
});

test("a delivery server that says nothing is waited for no longer than the caller wants", async () => {
  const port = await raw(() => undefined, "");
  const began = performance.now();
  const delivery = new Delivery({ host: "127.0.0.1", port, protocol: "lmtp", tls: "none", ca: undefined, name: "gateway.b.example" });
  await expect(delivery.look(AbortSignal.timeout(50))).rejects.toMatchObject({ code: "unavailable" });
  await expect(delivery.look(AbortSignal.abort())).rejects.toMatchObject({ code: "unavailable" });
  expect(performance.now() - began).toBeLessThan(10_000);
});

describe("the door", () => {
  test("takes nothing from an address that is not named, and says so in place of a greeting", async () => {
    const { post, server } = await open({}, { inbound: { trustedNetworks: ["192.0.2.0/24"] } });
    const talk = await Talk.open(post.port);
    expect(talk.greeting).toBe("554 5.7.1 No mail is taken from this address");
    await talk.ended();
    expect(server.attempts.all).toEqual([]);
  });

  test("takes another network from a reload on", async () => {
    const { post } = await open();
    const { inbound } = post.config;
    if (!inbound) throw new Error("there is a section");
    post.doors.renew({ ...post.config, inbound: { ...inbound, trustedNetworks: [] } });
    expect(await post.bring(CAROL, MAIL).catch(String)).not.toMatch(/^250/u);
    post.doors.renew({ ...post.config, inbound: { ...inbound, largest: octets("50B") } });
    expect(await post.bring(CAROL, MAIL)).toMatch(/^552 5\.3\.4 /u);
    post.doors.renew(post.config);
    expect(await post.bring(CAROL, MAIL)).toMatch(/^250 /u);
  });

  test("speaks its own protocol only", async () => {
    const { post } = await open();
    const { talk } = await post.enter();
    expect(await talk.say("EHLO mx.b.example")).toMatch(/^500 /u);
    talk.close();
  });

  test("refuses a bare LF, as the door for clients does", async () => {
    const { post, server } = await open();
    expect(await post.bring(CAROL, `${MAIL}bare\nline\r\n`)).toMatch(/^554 5\.5\.2 /u);
    expect(server.attempts.all).toEqual([]);
  });

  test("ends what goes in circles: too many hops, or too often by us; readers may forward to one another", async () => {
    const { post } = await open();
    const own = "Received: by gateway.b.example (Kakitome inbound) with LMTP\r\n id 0; Thu, 1 Jan 2026 00:00:00 +0000\r\n";
    const submission = own.replace(" inbound", "");
    expect(await post.bring(CAROL, `${own.repeat(10)}${submission.repeat(2)}${MAIL}`)).toMatch(/^250 /u);
    expect(await post.bring(CAROL, `${own.repeat(11)}${MAIL}`)).toMatch(/^554 5\.4\.6 /u);
    expect(await post.bring(CAROL, `${"Received: by elsewhere.example; now\r\n".repeat(51)}${MAIL}`)).toMatch(/^554 5\.4\.6 /u);
  });

  test("lets a mail that is coming in be handed on while it stops", async () => {
    const { post, server } = await open();
    const { talk } = await post.enter();
    await talk.say("MAIL FROM:<>");
    await talk.say(`RCPT TO:<${CAROL}>`);
    await talk.say("DATA");
    const stopping = post.stop();
    talk.write(`${MAIL}.\r\n`);
    expect(await talk.hear()).toMatch(/^250 /u);
    await stopping;
    expect(server.attempts.all).toHaveLength(1);
  });
});
