/** A receiving gateway's mailbox: a real one at Dovecot, watched as the gateway watches it, with a journal and a clock of the test's. */
import { receive } from "../../gateway/inbound.ts";
import { watch } from "../../gateway/watcher.ts";
import { BrokerClient } from "../../broker/client.ts";
import { Happenings, heardLog, type HeardLog } from "../broker/happenings.ts";
import type { House, Member } from "../broker/house.ts";
import { openDesk, PASSWORD, type Desk, type FragileJournal } from "../gateway/inbound-place.ts";
import { openOffice } from "../gateway/outbound-place.ts";
import type { DovecotServer } from "../servers/dovecot.ts";
import { letter } from "./sender.ts";

export interface Receiver {
  readonly desk: Desk;
  readonly heard: HeardLog;
  /** UIDs of letters with which the gateway is done. */
  readonly settled: Happenings<number>;
  stop(): Promise<void>;
}

/** @param now the clock of this gateway; the house's where undefined */
export async function openReceiver(
  house: House,
  member: Member,
  dovecot: DovecotServer,
  { journal, now = house.now }: { journal?: FragileJournal; now?: () => Date } = {},
): Promise<Receiver> {
  const desk = await openDesk(house, member, dovecot, journal ? { journal } : {});
  const heard = heardLog();
  const config = desk.parts.own.imap;
  if (!config) throw new Error("no mailbox");
  const broker = new BrokerClient({ ...member.gateway.channel, now });
  const parts = { ...desk.parts, broker, log: heard.log, now };
  const settled = new Happenings<number>();
  const stopping = new AbortController();
  const watching = watch(
    {
      access: { config, login: { pass: PASSWORD }, ca: undefined },
      address: member.mailbox.address,
      journal: desk.journal,
      log: heard.log,
      largest: 1 << 20,
      async onSealed(mailbox, seen, signal) {
        await receive(parts, mailbox, seen, signal);
        settled.add(seen.uid);
      },
      onReport: async () => undefined,
      onSigned: async () => undefined,
    },
    stopping.signal,
  );
  return {
    desk,
    heard,
    settled,
    async stop() {
      stopping.abort();
      await watching;
      await broker.close();
      await desk.close();
    },
  };
}

/** A sealed letter as the next hop would bring it. @param name is its Message-ID and its subject */
export async function sealedLetter(house: House, sender: Member, recipient: string, name: string): Promise<Buffer> {
  const office = await openOffice(house, sender);
  try {
    await office.send(letter(name), [recipient]);
    const [copy] = await office.copies();
    if (!copy) throw new Error("no copy");
    return copy.mail;
  } finally {
    await office.close();
  }
}

/** Opened copies of a letter in the folder, and whether the sealed one is there still. */
export async function foundOf(desk: Desk, name: string): Promise<{ opened: number; sealed: number }> {
  const mails = await desk.mails();
  const opened = mails.filter(({ text }) => text.includes(`The text of ${name}.`)).length;
  const sealed = mails.filter(({ text }) => text.includes(`<${name}@`) && text.includes("registered.p7m")).length;
  return { opened, sealed };
}
