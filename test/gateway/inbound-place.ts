/** The inbound walk for tests: real letters, a real broker in this process, Dovecot's mailboxes, and journals that can lose power. */
import { ImapFlow } from "imapflow";
import { BrokerClient, type Identity, type OpeningProof, type Release } from "../../broker/client.ts";
import { Slots } from "../../config/slots.ts";
import { duration } from "../../config/units.ts";
import type { ImapConfig } from "../../config/schema.ts";
import { Elsewhere } from "../../gateway/elsewhere.ts";
import { receive, type InboundParts } from "../../gateway/inbound.ts";
import { Journal, type JournalEntry } from "../../gateway/journal.ts";
import { ImapMailbox, type Mailbox, type Seen } from "../../gateway/mailbox.ts";
import { forever, type House, type Member } from "../broker/house.ts";
import type { DovecotServer } from "../servers/dovecot.ts";
import { temporaryFolder } from "../servers/process.ts";

export const PASSWORD = "secret";

/** A client whose calls are counted, and that can be away. */
export class CountedClient extends BrokerClient {
  readonly calls: ("present" | "confirm")[] = [];
  fail: Error | undefined;

  override async present(ticket: Buffer, identity: Identity, signal: AbortSignal): Promise<Release> {
    this.calls.push("present");
    if (this.fail) throw this.fail;
    return super.present(ticket, identity, signal);
  }

  override async confirm(nextTicket: Buffer, proof: OpeningProof, identity: Identity, signal: AbortSignal) {
    this.calls.push("confirm");
    if (this.fail) throw this.fail;
    return super.confirm(nextTicket, proof, identity, signal);
  }
}

/** Where the power goes: just before a stage is kept, or just after. */
export interface PowerCut {
  readonly stage: JournalEntry["stage"];
  readonly when: "before" | "after";
}

export class FragileJournal extends Journal {
  cut: PowerCut | undefined;

  override async put(entry: JournalEntry): Promise<void> {
    const cut = this.cut?.stage === entry.stage ? this.cut.when : undefined;
    if (cut === "before") throw new Error("the power went");
    await super.put(entry);
    if (cut === "after") throw new Error("the power went");
  }
}

/** One mailbox of a gateway. */
export interface Desk {
  readonly broker: CountedClient;
  readonly journal: FragileJournal;
  readonly parts: InboundParts;
  /** Puts a mail into the watched folder as another server would. */
  deliver(mail: Buffer, flags?: string[], date?: Date): Promise<void>;
  /** Has the walk look at everything in the watched folder, once, in order or all at once. @returns the failures */
  look(how?: { atOnce: boolean }): Promise<unknown[]>;
  /** The mails of a folder with their flags. */
  mails(folder?: string): Promise<{ text: string; flags: string[]; date: number }[]>;
  close(): Promise<void>;
}

let count = 0;

/** @param changes `deliver`, the folders, and a journal that several mailboxes share */
export async function openDesk(
  house: House,
  member: Member,
  dovecot: DovecotServer,
  changes: { deliver?: "signed" | "plain"; imap?: Partial<ImapConfig>; journal?: FragileJournal } = {},
): Promise<Desk> {
  const { address } = member.mailbox;
  const watch = `watched${count++}`;
  const client = new ImapFlow({
    host: "127.0.0.1",
    port: dovecot.imapPort,
    secure: false,
    doSTARTTLS: false,
    auth: { user: address, pass: PASSWORD },
    logger: false,
    disableAutoIdle: true,
  });
  client.on("error", () => undefined);
  await client.connect();
  await client.mailboxCreate(watch);
  const config: ImapConfig = {
    host: "127.0.0.1",
    port: dovecot.imapPort,
    tls: "none",
    user: address,
    passwordFile: "none",
    watch,
    opened: watch,
    sealed: "remove",
    poll: duration("1s"),
    ...changes.imap,
  };
  const journal = changes.journal ?? new FragileJournal(await temporaryFolder("journal"));
  await journal.prepare();
  const broker = new CountedClient(member.gateway.channel);
  const parts: InboundParts = {
    broker,
    brokerUrl: house.url,
    journal,
    log: house.heard.log,
    language: "en",
    name: "gateway.b.example",
    own: { address: member.mailbox, aliases: [], deliver: changes.deliver ?? "signed", imap: config },
    elsewhere: new Elsewhere(),
    identity: () => member.identity,
    now: house.now,
  };
  const everySeen = async (mailbox: Mailbox): Promise<readonly Seen[]> => mailbox.seenAbove(0);
  return {
    broker,
    journal,
    parts,
    async deliver(mail, flags = [], date) {
      await client.append(watch, mail, flags, date);
    },
    async look(how) {
      const mailbox = await ImapMailbox.open({ config, login: { pass: PASSWORD }, ca: undefined }, () => undefined);
      const failures: unknown[] = [];
      const slots = new Slots(how?.atOnce ? Number.POSITIVE_INFINITY : 1);
      const looks = (await everySeen(mailbox)).map((seen) => slots.run(() => receive(parts, mailbox, seen, forever)));
      for (const look of looks) await look.catch((thrown: unknown) => failures.push(thrown));
      await mailbox.close();
      return failures;
    },
    async mails(folder = watch) {
      await client.mailboxOpen(folder);
      const found = [];
      for await (const { source, flags, internalDate } of client.fetch("1:*", { source: true, flags: true, internalDate: true })) {
        found.push({ text: String(source), flags: [...(flags ?? [])], date: new Date(internalDate ?? 0).getTime() });
      }
      await client.mailboxClose();
      return found;
    },
    async close() {
      await broker.close();
      client.close();
    },
  };
}
