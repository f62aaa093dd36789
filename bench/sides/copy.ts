/** `copy.ts PORT CA USER PASSWORD`: fetches every message of the inbox and appends it to another folder, one after the other on one connection. */
import { readFileSync } from "node:fs";
import { ImapFlow } from "imapflow";
import { printFigure } from "./rate.ts";

const [port, ca = "", user = "", pass = ""] = process.argv.slice(2);
const FOLDER = "Copies";

const client = new ImapFlow({
  host: "127.0.0.1",
  port: Number(port),
  secure: true,
  tls: { ca: readFileSync(ca) },
  auth: { user, pass },
  logger: false,
});
await client.connect();
await client.mailboxCreate(FOLDER);
await client.mailboxOpen("INBOX");
const from = performance.now();
const uids: number[] = [];
for await (const { uid } of client.fetch("1:*", { uid: true, bodyStructure: true, envelope: true })) uids.push(uid);
for (const uid of uids) {
  const message = await client.fetchOne(String(uid), { source: true, flags: true, internalDate: true }, { uid: true });
  if (message === false || !message.source) throw new Error(`no message ${uid}`);
  if ((await client.append(FOLDER, message.source)) === false) throw new Error(`message ${uid} was not appended`);
}
const seconds = (performance.now() - from) / 1_000;
await client.mailboxDelete(FOLDER);
await client.logout();
printFigure(uids.length / seconds);
