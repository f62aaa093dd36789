/** A relay for tests with its spool and records, before a real next hop and behind a real broker. */
import { join } from "node:path";
import { ticketHash } from "../../broker/client.ts";
import { duration } from "../../config/units.ts";
import { Letters } from "../../gateway/letters.ts";
import { Relay, type RelayParts } from "../../gateway/relay.ts";
import { Spool, type Consignment, type Entry, type Spooled } from "../../gateway/spool.ts";
import { ticketOf, type House, type Member } from "../broker/house.ts";
import { temporaryFolder } from "../servers/process.ts";

export interface Desk {
  readonly folder: string;
  readonly spool: Spool;
  readonly letters: Letters;
  readonly parts: RelayParts;
  readonly relay: Relay;
  /** Spools a letter and its record. */
  put(order?: Partial<Order>): Promise<Spooled>;
  /** Ends the relay as a stop of the gateway would. */
  stop(): Promise<void>;
}

interface Order {
  readonly id: string;
  readonly sender: string;
  readonly recipients: readonly string[];
  readonly acceptedAt: string;
  readonly entry: Pick<Entry, "envelopeId" | "returns">;
  readonly consignment: Partial<Pick<Consignment, "notify" | "originalRecipient">>;
  readonly message: Buffer;
}

export const MESSAGE = Buffer.from("From: alice@a.example\r\nTo: bob@b.example\r\nSubject: [...]\r\n\r\n.sealed\r\n..\r\n.\r\nend\r\n");
export const MESSAGE_ID = "<letter@a.example>";

let count = 0;

/** @param house whose broker is told, by the channel of the sender */
export async function openDesk(
  house: House,
  sender: Member,
  port: number,
  changes: Partial<RelayParts> & { folder?: string } = {},
): Promise<Desk> {
  const folder = changes.folder ?? (await temporaryFolder("relay"));
  const spool = new Spool(join(folder, "spool"));
  const letters = new Letters(join(folder, "letters"));
  await Promise.all([spool.prepare(), letters.prepare()]);
  const parts: RelayParts = {
    nextHop: { host: "127.0.0.1", port, tls: "none", ca: undefined, auth: undefined, name: "gateway.a.example" },
    retry: { first: duration("20ms"), longest: duration("80ms"), giveUpAfter: duration("2d") },
    spool,
    letters,
    broker: sender.gateway.client,
    languageFor: () => "en",
    log: house.heard.log,
    now: house.now,
    ...changes,
  };
  const stopping = new AbortController();
  const relay = new Relay(parts, stopping.signal);
  return {
    folder,
    spool,
    letters,
    parts,
    relay,
    async put(order = {}) {
      const { id = `id${count++}`, recipients = ["bob@b.example"], message = MESSAGE } = order;
      const acceptedAt = order.acceptedAt ?? house.now().toISOString();
      const tickets = await Promise.all(recipients.map((recipient) => ticketOf(house, sender, recipient)));
      const copies = recipients.map((recipient, at) => ({
        recipient,
        ticket: tickets[at]?.toString("base64") ?? "",
        notify: [],
        ...order.consignment,
        message,
      }));
      const records = recipients.map((address, at) => ({
        address,
        session: ticketHash(tickets[at] ?? Buffer.alloc(0)),
        commit: "c".repeat(64),
        state: "accepted" as const,
        at: acceptedAt,
      }));
      const register = { messageId: MESSAGE_ID, sender: sender.mailbox.key, acceptedAt, recipients: records };
      const from = order.sender ?? sender.mailbox.address;
      return spool.put({ id, sender: from, messageId: MESSAGE_ID, acceptedAt, register, ...order.entry }, copies);
    },
    async stop() {
      stopping.abort();
      await relay.close();
    },
  };
}
