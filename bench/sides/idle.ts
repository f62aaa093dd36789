/** `idle.ts PORT CA PASSWORD SETTLE USER...`: a connection in IDLE for each user; prints the memory that is resident so many milliseconds after the last one, MiB. */
import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { ImapFlow } from "imapflow";
import { resident } from "../resident.ts";

const [port, ca = "", pass = "", settle, ...users] = process.argv.slice(2);
/** Logins at a time. */
const AT_ONCE = 20;
const tls = { ca: readFileSync(ca) };

async function open(user: string): Promise<void> {
  const auth = { user, pass };
  const client = new ImapFlow({ host: "127.0.0.1", port: Number(port), secure: true, tls, auth, logger: false, disableAutoIdle: true });
  await client.connect();
  await client.mailboxOpen("INBOX");
  void client.idle();
}

let next = 0;
const work = async (): Promise<void> => {
  for (let user = users[next++]; user !== undefined; user = users[next++]) await open(user);
};
await Promise.all(Array.from({ length: AT_ONCE }, work));
await pause(Number(settle));
console.log(JSON.stringify({ value: resident("self", "VmRSS") }));
process.exit(0);
