/** The server as the gateway's own client, imapflow, sees it. */

import { once } from "node:events";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import type { MessageStructureObject } from "imapflow";
import { House, mail, note, selfSigned, USER } from "./talk.ts";

const SEEN = String.raw`\Seen`;
const FLAGGED = String.raw`\Flagged`;

let house: House;
beforeEach(async () => {
  house = await House.open();
});
afterEach(async () => {
  await house.close();
});

/** Every octet there is, and line ends of all kinds: none may change on its way. */
const odd = Buffer.concat([
  mail("Subject: gr\xfc\xdfe", "Content-Type: text/plain; charset=iso-8859-1", "", ""),
  Buffer.from(Array.from({ length: 255 }, (_, octet) => octet + 1)),
  Buffer.from("\n\r\r\n bare ends \r\n{12}\r\n)\r\nt1 OK not an answer\r\n"),
]);

test("logs in with a password of quotes and backslashes, and is refused with another", async () => {
  const client = await house.flow();
  expect(client.authenticated).toBe(true);
  house.store.addUser(USER, "changed");
  await expect(house.flow()).rejects.toMatchObject({ authenticationFailed: true });
});

test("an arrival during IDLE is told at once, and fetched as it was delivered", async () => {
  const client = await house.flow();
  await client.mailboxOpen("INBOX");
  const exists = once(client, "exists");
  const idle = client.idle();
  const uid = house.store.deliver(USER, odd, { flags: ["$Work"] });
  await expect(exists).resolves.toMatchObject([{ path: "INBOX", count: 1, prevCount: 0 }]);
  const message = await client.fetchOne(String(uid), { source: true, flags: true, size: true }, { uid: true });
  await idle;
  expect(message).toMatchObject({ uid, size: odd.length, flags: new Set(["$Work", String.raw`\Recent`]) });
  expect(message && message.source).toEqual(odd);
});

test("flags set by one client and an expunge by another reach a third in IDLE", async () => {
  const uid = house.store.deliver(USER, note("watched"));
  const [watcher, other] = [await house.flow(), await house.flow()];
  await watcher.mailboxOpen("INBOX");
  await other.mailboxOpen("INBOX");
  const [flags, expunge] = [once(watcher, "flags"), once(watcher, "expunge")];
  const idle = watcher.idle();
  await other.messageFlagsAdd(String(uid), [FLAGGED, "$Label1"], { uid: true });
  await expect(flags).resolves.toMatchObject([{ seq: 1, uid, flags: new Set([FLAGGED, "$Label1", String.raw`\Recent`]) }]);
  await other.messageDelete(String(uid), { uid: true });
  await expect(expunge).resolves.toMatchObject([{ path: "INBOX", seq: 1 }]);
  await watcher.noop();
  await idle;
});

test("an appended message keeps its octets, flags and date, and has the UID that APPEND promised", async () => {
  const client = await house.flow();
  const date = new Date("2024-02-29T23:59:58Z");
  const appended = await client.append("INBOX", odd, [SEEN, "$Kakitome"], date);
  const [stored] = house.store.list(USER);
  expect(stored?.bytes).toEqual(odd);
  expect(stored).toMatchObject({ flags: [SEEN, "$Kakitome"], internalDate: date });
  const mailbox = await client.mailboxOpen("INBOX");
  expect(appended).toMatchObject({ uid: stored?.uid, uidValidity: mailbox.uidValidity });
  await expect(client.fetchOne("*", { internalDate: true, source: true })).resolves.toMatchObject({ internalDate: date, source: odd });
});

test("a download of one part in pieces gives the part decoded", async () => {
  const content = Buffer.alloc(300_000, "kakitome ");
  const encoded = (content.toString("base64").match(/.{1,76}/g) ?? []).join("\r\n");
  house.store.deliver(
    USER,
    mail(
      "MIME-Version: 1.0",
      "Content-Type: multipart/mixed; boundary=b",
      "",
      "--b",
      "",
      "text",
      "--b",
      "Content-Type: application/octet-stream",
      "Content-Transfer-Encoding: base64",
      "",
      encoded,
      "--b--",
      "",
    ),
  );
  const client = await house.flow();
  await client.mailboxOpen("INBOX");
  const { content: stream = [] } = await client.download("1", "2", { chunkSize: 65_536 });
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  expect(Buffer.concat(chunks).equals(content)).toBe(true);
});

test("the structure of multiparts within multiparts has the part numbers by which parts are fetched", async () => {
  house.store.deliver(
    USER,
    mail(
      "From: a@a.example",
      "MIME-Version: 1.0",
      'Content-Type: multipart/mixed; boundary="outer"',
      "",
      "--outer",
      "Content-Type: multipart/alternative; boundary=inner",
      "",
      "--inner",
      "Content-Type: text/plain; charset=utf-8",
      "",
      "plain",
      "--inner",
      "Content-Type: text/html",
      "",
      "<p>html</p>",
      "--inner--",
      "--outer",
      'Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name="smime.p7m"',
      'Content-Disposition: attachment; filename="smime.p7m"',
      "Content-Transfer-Encoding: base64",
      "",
      "AAAA",
      "--outer",
      "Content-Type: message/rfc822",
      "",
      "Subject: forwarded",
      "",
      "inside",
      "--outer--",
      "",
    ),
  );
  const client = await house.flow();
  await client.mailboxOpen("INBOX");
  const message = await client.fetchOne("1", {
    bodyStructure: true,
    bodyParts: ["1.1", "1.2", "2", "3", "3.1", "3.header"],
    envelope: true,
  });
  if (message === false) throw new Error("nothing fetched");
  const flat = (node: MessageStructureObject): unknown[] => [
    [node.part, node.type, node.disposition],
    ...(node.childNodes ?? []).flatMap(flat),
  ];
  expect(flat(message.bodyStructure ?? { type: "none" })).toEqual([
    [undefined, "multipart/mixed", undefined],
    ["1", "multipart/alternative", undefined],
    ["1.1", "text/plain", undefined],
    ["1.2", "text/html", undefined],
    ["2", "application/pkcs7-mime", "attachment"],
    ["3", "message/rfc822", undefined],
    ["3", "text/plain", undefined], // imapflow gives the one part of an inner message the number of that message
  ]);
  expect(message.bodyStructure?.childNodes?.[1]).toMatchObject({
    parameters: { "smime-type": "enveloped-data" },
    dispositionParameters: { filename: "smime.p7m" },
    size: 4,
  });
  const parts = Object.fromEntries([...(message.bodyParts ?? [])].map(([part, octets]) => [part, octets?.toString()]));
  expect(parts).toEqual({
    "1.1": "plain",
    "1.2": "<p>html</p>",
    "2": "AAAA",
    "3": "Subject: forwarded\r\n\r\ninside",
    "3.1": "inside",
    "3.header": "Subject: forwarded\r\n\r\n",
  });
});

test("an envelope with encoded words, raw UTF-8 and groups is read as it was meant", async () => {
  house.store.deliver(
    USER,
    Buffer.from(
      'From: =?utf-8?Q?J=C3=B6rg?= <j@x.example>\r\nTo: Friends: d@d.example, "E, F" <e@e.example>;, Müller <m@m.example>\r\nSubject: =?utf-8?B?R3LDvMOfZQ==?=\r\n von hier\r\nMessage-ID: <1@x>\r\n\r\n',
    ),
  );
  const client = await house.flow();
  await client.mailboxOpen("INBOX");
  const message = await client.fetchOne("1", { envelope: true });
  expect(message && message.envelope).toMatchObject({
    subject: "Grüße von hier",
    messageId: "<1@x>",
    from: [{ name: "Jörg", address: "j@x.example" }],
    to: expect.arrayContaining([
      { name: "", address: "d@d.example" },
      { name: "E, F", address: "e@e.example" },
      { name: "Müller", address: "m@m.example" },
    ]),
  });
});

test("a move takes the message and its flags to the other folder and says its new UID", async () => {
  const uid = house.store.deliver(USER, odd, { flags: [FLAGGED, "$Kept"] });
  house.store.deliver(USER, note("stays"));
  const client = await house.flow();
  await client.mailboxCreate("Registered/Opened");
  await client.mailboxOpen("INBOX");
  const moved = await client.messageMove(String(uid), "Registered/Opened", { uid: true });
  const [arrived] = house.store.list(USER, "Registered/Opened");
  expect(moved).toMatchObject({ uidMap: new Map([[uid, arrived?.uid]]) });
  expect(arrived).toMatchObject({ bytes: odd, flags: [FLAGGED, "$Kept"] });
  expect(house.store.list(USER)).toHaveLength(1);
  expect(client.mailbox).toMatchObject({ exists: 1 });
});

test("a copy leaves the original, and its UIDs are mapped one to one", async () => {
  for (const subject of ["a", "b", "c"]) house.store.deliver(USER, note(subject));
  const client = await house.flow();
  await client.mailboxCreate("Archive");
  await client.mailboxOpen("INBOX");
  const copied = await client.messageCopy("1,3", "Archive", { uid: true });
  expect(copied).toMatchObject({
    uidMap: new Map([
      [1, 1],
      [3, 2],
    ]),
  });
  expect(house.store.list(USER)).toHaveLength(3);
});

test("a delete by UID removes that message only, also beside one marked as deleted", async () => {
  const [first = 0, second = 0] = ["a", "b"].map((subject) => house.store.deliver(USER, note(subject)));
  const client = await house.flow();
  await client.mailboxOpen("INBOX");
  await client.messageFlagsAdd(String(first), [String.raw`\Deleted`], { uid: true });
  await client.messageDelete(String(second), { uid: true });
  expect(house.store.list(USER).map(({ uid }) => uid)).toEqual([first]);
});

test("flags are added, taken and replaced", async () => {
  house.store.deliver(USER, note("flags"));
  const client = await house.flow();
  await client.mailboxOpen("INBOX");
  const flags = (): readonly string[] | undefined => house.store.list(USER)[0]?.flags;
  await client.messageFlagsAdd("1", [SEEN, "$A"]);
  expect(flags()).toEqual([SEEN, "$A"]);
  await client.messageFlagsRemove("1", [SEEN]);
  expect(flags()).toEqual(["$A"]);
  await client.messageFlagsSet("1", [FLAGGED]);
  expect(flags()).toEqual([FLAGGED]);
});

test("folders are made, listed with their special use, renamed with their children, and deleted", async () => {
  const client = await house.flow();
  await client.mailboxCreate("Sent");
  await client.mailboxCreate("Größe/Kinder & Co");
  const listed = async (): Promise<unknown> => (await client.list()).map(({ path, specialUse }) => [path, specialUse]);
  await expect(listed()).resolves.toEqual([
    ["INBOX", String.raw`\Inbox`],
    ["Sent", String.raw`\Sent`],
    ["Größe", undefined],
    ["Größe/Kinder & Co", undefined],
  ]);
  await client.mailboxRename("Größe", "Weite");
  await client.mailboxDelete("Weite/Kinder & Co");
  await expect(listed()).resolves.toEqual([
    ["INBOX", String.raw`\Inbox`],
    ["Sent", String.raw`\Sent`],
    ["Weite", undefined],
  ]);
});

test("a status counts without opening the folder", async () => {
  house.store.deliver(USER, note("a"), { folder: "Letters", flags: [SEEN] });
  house.store.deliver(USER, note("b"), { folder: "Letters" });
  const client = await house.flow();
  const status = await client.status("Letters", { messages: true, unseen: true, uidNext: true, uidValidity: true, recent: true });
  expect(status).toMatchObject({ path: "Letters", messages: 2, unseen: 1, uidNext: 3, recent: 2 });
});

test("with a certificate the client starts TLS by itself and works under it", async () => {
  const secured = await House.open({ tls: await selfSigned() });
  try {
    secured.store.deliver(USER, odd);
    const client = await secured.flow();
    expect(client.secureConnection).toBe(true);
    await client.mailboxOpen("INBOX");
    await expect(client.fetchOne("1", { source: true })).resolves.toMatchObject({ source: odd });
    await client.logout();
  } finally {
    await secured.close();
  }
});

test("closing the server ends its clients, those in IDLE too", async () => {
  const other = await House.open();
  const client = await other.flow();
  await client.mailboxOpen("INBOX");
  const closed = once(client, "close");
  const idle = client.idle().catch(() => undefined);
  await other.close();
  await closed;
  await idle;
});
