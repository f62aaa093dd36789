/** The row of the inbound walk: how long a letter waits to be opened, beyond what Dovecot takes to tell anybody of it. */
import { setTimeout as pause } from "node:timers/promises";
import type { ImapFlow } from "imapflow";
import { letterOf } from "../config/log.ts";
import { Talk } from "../test/gateway/talk.ts";
import type { Process } from "../test/walks/kakitome.ts";
import { openInbox, startReceiving } from "./receiving.ts";
import { resident } from "./resident.ts";
import { median, together, type Row, type Sides } from "./row.ts";
import type { Sealed } from "./sealed.ts";

const BOB = "bob@b.example";
const COUNT = 20;
/** Dovecot tells what happened in a folder half a second later: until then the opened copy of one letter could be taken for the next one. */
const QUIET_MS = 700;

/** @returns when the 250 came */
async function deliver(lmtp: Talk, { mail }: Sealed): Promise<number> {
  for (const command of ["MAIL FROM:<alice@a.example>", `RCPT TO:<${BOB}>`]) {
    const reply = await lmtp.say(command);
    if (!reply.startsWith("250")) throw new Error(`${command}: ${reply}`);
  }
  const reply = await lmtp.data(mail);
  if (!reply.startsWith("250")) throw new Error(reply);
  return performance.now();
}

interface Receiver {
  readonly lmtp: Talk;
  readonly gateway: Process;
  readonly bare: ImapFlow;
}

/** From LMTP's 250: until the gateway says that the letter is in the mailbox and confirmed, and until a bare client hears of it. */
async function time({ lmtp, gateway, bare }: Receiver, letter: Sealed): Promise<{ ours: number; peer: number }> {
  const name = letterOf(letter.messageId);
  const isConfirmed = gateway.until(name, ({ event, letter: named }) => event === "letter.confirmed" && named === name);
  const confirmed = isConfirmed.then(() => performance.now());
  const heard = new Promise<number>((resolve) => {
    bare.once("exists", () => resolve(performance.now()));
  });
  const delivered = await deliver(lmtp, letter);
  const times = { ours: (await confirmed) - delivered, peer: (await heard) - delivered };
  await pause(QUIET_MS);
  return times;
}

async function prepare(): Promise<Sides> {
  const place = await startReceiving([BOB]);
  const gateway = await place.gateway("b", [BOB]).start();
  const [lmtp, bare] = [await Talk.open(place.dovecot.lmtpPort), await openInbox(place, BOB)];
  await lmtp.say("LHLO bench.example");
  void bare.idle();
  const receiver = { lmtp, gateway, bare };
  for (const letter of await place.letters(BOB, { count: 5, octets: 2_048 })) await time(receiver, letter); // warm
  return {
    ...together(async () => {
      const times: { ours: number; peer: number }[] = [];
      for (const letter of await place.letters(BOB, { count: COUNT, octets: 2_048 })) times.push(await time(receiver, letter));
      return {
        ours: { value: median(times.map(({ ours }) => ours)), memory: resident(gateway.pid, "VmHWM") },
        peer: { value: median(times.map(({ peer }) => peer)) },
      };
    }),
    async stop() {
      lmtp.close();
      bare.close();
      await gateway.stop();
      await place.stop();
    },
  };
}

export const inbound: Row = {
  name: "inbound",
  what: "from LMTP's 250 to opened, filed and confirmed, idle system",
  peer: "a bare client in IDLE hears of it",
  unit: "ms",
  goal: { atMostBeyond: 150 },
  prepare,
};
