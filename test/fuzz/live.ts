/** What is fuzzed over real connections on the loopback: the SMTP door, the broker's HTTPS, and a mail server that answers our IMAP client. */
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { connect } from "node:tls";
import { duration } from "../../config/units.ts";
import type { ImapConfig } from "../../config/schema.ts";
import { ImapMailbox } from "../../gateway/mailbox.ts";
import { Fault } from "../../mime/fault.ts";
import { call, declaredTo, forever, headOf, letterFrom, openHouse, signedBy } from "../broker/house.ts";
import { ALICE, PASSWORD, openTestDoor } from "../gateway/door.ts";
import { demand, type Target } from "./targets.ts";

/** Longer than any answer takes: then the connection is closed from this side. */
const PATIENCE_MS = 3_000;

/** Resolves when the socket has closed, in the end by ourselves. */
async function closed(socket: Socket): Promise<void> {
  if (socket.destroyed) return;
  const patience = setTimeout(() => socket.destroy(), PATIENCE_MS);
  await once(socket, "close").catch(() => undefined);
  clearTimeout(patience);
}

/** Says all of it at once, then that nothing more comes, and waits for the end. @returns what was answered */
async function talk(port: number, ca: string, octets: Buffer): Promise<string> {
  const socket = connect({ port, host: "127.0.0.1", ca });
  const heard: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => heard.push(chunk)).on("error", () => undefined);
  const greeted = once(socket, "data");
  await greeted.catch(() => undefined);
  socket.end(octets);
  await closed(socket);
  return Buffer.concat(heard).toString("latin1");
}

async function smtpTarget(): Promise<Target> {
  const door = await openTestDoor();
  const plain = Buffer.from(`\0alice\0${PASSWORD}`).toString("base64");
  const letter = `From: ${ALICE}\r\nTo: bob@b.example\r\nSubject: x\r\n\r\ntext\r\n`;
  const whole = (login: string): Buffer =>
    Buffer.from(
      `EHLO c.example\r\n${login}MAIL FROM:<${ALICE}> SIZE=100 RET=HDRS ENVID=e1\r\nRCPT TO:<bob@b.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;bob@b.example\r\nDATA\r\n${letter}.\r\nRSET\r\nNOOP\r\nQUIT\r\n`,
    );
  const strangers = whole("");
  return {
    name: "smtp",
    seeds: [whole(`AUTH PLAIN ${plain}\r\n`), strangers, Buffer.from("HELO x\r\nVRFY x\r\nHELP\r\nSTARTTLS\r\nQUIT\r\n")],
    async run(input) {
      const before = door.taken.length;
      await talk(door.tlsPort, door.ca, input);
      for (const { submitter, sender, message } of door.taken.slice(before)) {
        demand(submitter.name === "alice" && submitter.identities.some(({ key }) => key === sender.key), "a letter of a stranger");
        demand(!/[^\r]\n|\r(?!\n)|\0/u.test(message.toString("latin1")), "a letter with a bare CR, a bare LF or NUL");
      }
      if (!input.includes(plain.slice(0, 12))) demand(door.taken.length === before, "a letter without a password");
      door.taken.length = 0;
    },
    close: () => door.stop(),
  };
}

/** Every status that the broker may answer with; 500 is a find. */
const STATUSES = new Set([200, 204, 400, 401, 403, 404, 413, 422, 429, 431, 503]);

async function httpTarget(): Promise<Target> {
  const house = await openHouse();
  const alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  const grants = await alice.gateway.client.declare(letterFrom(house, alice, ["alice@a.example"]), alice.identity, forever);
  const ticket = grants[0]?.ticket.toString("base64") ?? "";
  const { messageId, ...declared } = letterFrom(house, alice, ["alice@a.example"]);
  const recipient = { ...declaredTo(house, alice, "alice@a.example"), address: "alice@a.example" };
  const declaration = { ...headOf(house, alice, "declare"), ...declared, messageId, sender: "alice@a.example", recipients: [recipient] };
  const json = (value: object): Buffer => Buffer.from(JSON.stringify(value));
  const seeds: readonly [path: string, body: Buffer][] = [
    ["/v1/declare", signedBy(house, alice, "declare", declaration)],
    ["/v1/present", signedBy(house, alice, "present", { ticket })],
    ["/v1/confirm", signedBy(house, alice, "confirm", { nextTicket: ticket, result: "opened", receipt: "MAA=" })],
    ["/v1/dispatched", json({ tickets: [ticket] })],
    ["/v1/withdraw", json({ tickets: [ticket] })],
    ["/v1/gateways", json({ token: "t", name: "n", request: "MAA=" })],
    ["/v1/mailboxes", json({ address: "alice@a.example", aliases: [], signing: "MAA=", encryption: "MAA=" })],
  ];
  return {
    name: "http",
    seeds: seeds.map(([path, body]) => Buffer.concat([Buffer.from(`${path}\n`), body])),
    async run(input) {
      const at = input.indexOf("\n");
      const path = input.subarray(0, Math.max(at, 0)).toString("latin1");
      const body = input.subarray(at + 1);
      const url = /^\/[\w./%-]*$/u.test(path) ? path : `/v1/directory/${encodeURIComponent(path)}`;
      const { status } = await call(house, alice.gateway.channel, url, { method: url.startsWith("/v1/directory") ? "GET" : "POST", body });
      demand(STATUSES.has(status), `status ${status} at ${url}`);
    },
    close: () => house.stop(),
  };
}

const MAIL = "From: a@a.example\r\nSubject: x\r\n\r\ntext\r\n";
const STRUCTURE = '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 6 1)';
/** What a mail server says to each of our commands, in the order in which they come. */
const ANSWERS = [
  "* OK [CAPABILITY IMAP4rev1 IDLE UIDPLUS MOVE] ready\r\n",
  "* CAPABILITY IMAP4rev1 IDLE UIDPLUS MOVE\r\nTAG OK done\r\n",
  "TAG OK logged in\r\n",
  '* NAMESPACE (("" "/")) NIL NIL\r\nTAG OK done\r\n',
  "* FLAGS (\\Seen \\Deleted)\r\n* 1 EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 1] x\r\n* OK [UIDNEXT 2] x\r\nTAG OK [READ-WRITE] done\r\n",
  `* 1 FETCH (UID 1 RFC822.SIZE ${MAIL.length} FLAGS (\\Seen) INTERNALDATE "01-Jan-2026 00:00:00 +0000" BODYSTRUCTURE ${STRUCTURE})\r\nTAG OK done\r\n`,
  `* 1 FETCH (UID 1 BODY[] {${MAIL.length}}\r\n${MAIL})\r\nTAG OK done\r\n`,
  "* SEARCH 1\r\nTAG OK done\r\n",
  "* 1 FETCH (UID 1 FLAGS (\\Deleted))\r\nTAG OK done\r\n",
  "* 1 EXPUNGE\r\nTAG OK done\r\n",
];
const SEPARATOR = "\n---\n";

async function imapTarget(): Promise<Target> {
  let answers: string[] = [];
  const server = createServer((socket) => {
    const said = [...answers];
    const next = (tag: string): void => {
      const answer = said.shift();
      if (answer === undefined) socket.destroy();
      else socket.write(answer.replaceAll("TAG", tag), "latin1");
    };
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => {
      for (const [, tag = ""] of chunk.toString("latin1").matchAll(/^([A-Z0-9]+) /gmu)) next(tag);
    });
    next("*");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" && address ? address.port : 0;
  const config: ImapConfig = {
    host: "127.0.0.1",
    port,
    tls: "none",
    user: "bob",
    passwordFile: "none",
    watch: "INBOX",
    opened: "INBOX",
    sealed: "remove",
    poll: duration("1s"),
  };
  const visit = async (): Promise<void> => {
    const mailbox = await ImapMailbox.open({ config, login: { pass: "x" }, ca: undefined }, () => undefined);
    try {
      for (const { uid } of await mailbox.seenAbove(0)) {
        await mailbox.fetch(uid);
        await mailbox.hasOpened({ name: "Kakitome-Filing", value: "00" });
        await mailbox.retire(uid);
      }
    } finally {
      await mailbox.close();
    }
  };
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  return {
    name: "imap",
    seeds: [Buffer.from(ANSWERS.join(SEPARATOR), "latin1")],
    async run(input) {
      answers = input.toString("latin1").split(SEPARATOR);
      const impatience = setTimeout(() => sockets.forEach((socket) => socket.destroy()), 150); // a server that says nothing more is the watcher's to leave
      try {
        await visit();
      } catch (thrown) {
        if (!(thrown instanceof Fault)) throw new Error("refused in a way of its own", { cause: thrown });
      } finally {
        clearTimeout(impatience);
        sockets.forEach((socket) => socket.destroy());
      }
    },
    async close() {
      server.close();
      await once(server, "close");
    },
  };
}

/** The targets that speak over connections. */
export async function liveTargets(): Promise<Target[]> {
  return [await smtpTarget(), await httpTarget(), await imapTarget()];
}
