/** A real letter of a mailbox to itself and back with its receipt: sealed here, through the next hop, opened by the running gateway (S1-S11). */
import { randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { Wrong, type Examination } from "../config/findings.ts";
import { createLog } from "../config/log.ts";
import type { GatewayConfig } from "../config/schema.ts";
import type { Mailbox } from "../mime/address.ts";
import { nextHopOf } from "./doors.ts";
import { Logins } from "./login.ts";
import { sealFilter } from "./filter.ts";
import { connectTo } from "./next-hop.ts";
import { askBroker } from "./commands.ts";
import { readStatus } from "./status.ts";

const LOOK_EVERY_MS = 250;

/** @param wait for the receipt, milliseconds */
export async function sendTest(config: GatewayConfig, address: Mailbox, to: Examination, now: () => Date, wait: number): Promise<void> {
  const own = config.mailboxes.find((one) => one.address.key === address.key);
  const messageId = `<doctor.${randomBytes(9).toString("hex")}@${config.name}>`;
  const log = createLog({ write: () => undefined });
  const signal = AbortSignal.timeout(wait);
  const isSent = await to.look("test letter", "sent", "see the findings above", async () => {
    if (!own?.imap) {
      throw new Wrong(
        `${address.address} is no mailbox of this gateway with imap`,
        "name one of its mailboxes: the letter goes to itself and back",
      );
    }
    const hop = nextHopOf(config, new Logins(now));
    if (!hop) throw new Wrong("this gateway has no next hop", "configure relay");
    const lines = [
      `From: <${address.address}>`,
      `To: <${address.address}>`,
      "Subject: Kakitome test letter",
      `Message-ID: ${messageId}`,
      `Date: ${now().toUTCString().replace("GMT", "+0000")}`,
      "",
      "This letter went from this mailbox to itself, to see whether everything in between works. It can be deleted.",
    ];
    const transport = connectTo(hop, { pool: false });
    const envelope = { from: address.address, to: address.address };
    const handOver = async (raw: Buffer): Promise<void> => void (await transport.sendMail({ envelope, raw }));
    const message = Buffer.from(lines.map((line) => `${line}\r\n`).join(""));
    try {
      await sealFilter(config, { message, sender: address, recipient: address, handOver }, log, signal);
    } finally {
      transport.close();
    }
    return `${messageId} was sealed with a key of the broker and taken by ${hop.host}:${hop.port}`;
  });
  if (!isSent) return;
  await to.look("test letter", "opened and its receipt back", "see the gateway's log", async () => {
    for (;;) {
      const { sent } = await readStatus(config, { messageId });
      const state = sent[0]?.recipients[0]?.state;
      if (state === "opened") return `the receipt is kept as ${sent[0]?.recipients[0]?.receipt ?? ""}`;
      if (await pause(LOOK_EVERY_MS, true, { signal }).catch(() => false)) continue;
      const asked = await askBroker(config, await readStatus(config, { messageId }), log, AbortSignal.timeout(wait));
      throw stuck(asked.sent[0]?.recipients[0]?.atBroker?.state ?? "unknown", wait);
    }
  });
}

/** Where it stands tells which part did not go on. */
function stuck(state: string, wait: number): Wrong {
  const within = `within ${wait / 1_000} s`;
  if (state === "confirmed")
    return new Wrong(
      `opened, but no receipt came ${within}`,
      "see whether the broker's mail server delivers to this mailbox (kakitome doctor at the broker: receipts)",
    );
  if (state === "released")
    return new Wrong(
      `its key was given out, but nothing was confirmed ${within}`,
      'see "letter.waits" and "letter.not-opened" in the gateway\'s log',
    );
  return new Wrong(
    `nobody opened it ${within} (at the broker: ${state})`,
    "see whether the gateway runs and watches the mailbox, and whether the mail arrived there",
  );
}
