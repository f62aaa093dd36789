/** The door for mail that comes in: LMTP (RFC 2033) or SMTP from the mail servers of named networks, one recipient in a transaction, no AUTH. */
import { domainToASCII } from "node:url";
import type { SMTPServerAddress, SMTPServerSession } from "smtp-server";
import type { Log } from "../config/log.ts";
import { Fault } from "../mime/fault.ts";
import type { Arrival } from "./arrival.ts";
import { COMMON, Listener, NEVER, collect, smtpError } from "./listener.ts";
import { Refused, accepted, doorReply } from "./reply.ts";
import { INBOUND_HOP, demandShape, type ShapeLimits } from "./shape.ts";
import { StrictServer, type StrictLimits } from "./strict-server.ts";
import type { OpenDoor } from "./submission.ts";
import type { Visits } from "./visits.ts";

export interface InboundDoor {
  readonly name: string;
  readonly listen: { readonly host: string; readonly port: number };
  readonly protocol: "lmtp" | "smtp";
  /** Octets. */
  readonly largest: number;
  readonly limits: StrictLimits & ShapeLimits;
}

export interface InboundDoorParts {
  readonly visits: Visits;
  readonly log: Log;
  /** Whether mail is taken from this address. */
  trusted(address: string): boolean;
  /** Whether the delivery server takes DSN parameters: they are offered where they can be kept (RFC 3461 §5.2). */
  offersDsn(): boolean;
  /** @returns the id under which the mail was handed on */
  takeIn(arrival: Arrival, signal: AbortSignal): Promise<string>;
}

export interface OpenInboundDoor extends Omit<OpenDoor, "renew"> {
  /** Counts by another limit from the next message on; connections stay. */
  renew(next: Pick<InboundDoor, "largest">): void;
}

/** Opens one door. */
export async function openInboundDoor(door: InboundDoor, parts: InboundDoorParts): Promise<OpenInboundDoor> {
  let { largest } = door;
  const listener = new Listener("inbound", parts.log);
  const recipients = new WeakMap<SMTPServerSession, SMTPServerAddress>();
  const server = new StrictServer(
    {
      ...COMMON,
      name: door.name,
      lmtp: door.protocol === "lmtp",
      disabledCommands: [...NEVER, "AUTH", "STARTTLS"],
      size: door.largest,
      lenientAddressParsing: true, // the address was good enough for the mail server in front
      onConnect(session, callback) {
        server.options.hideDSN = !parts.offersDsn();
        callback(parts.trusted(session.remoteAddress) ? null : smtpError(doorReply("foreign"))); // RFC 5321 §3.1
      },
      onMailFrom(_address, session, callback) {
        recipients.delete(session);
        callback(null);
      },
      onRcptTo(address, session, callback) {
        const step = async (): Promise<void> => {
          if (recipients.has(session)) throw new Refused("one-recipient"); // one answer tells of one delivery, whatever dies in between
          recipients.set(session, address);
        };
        void listener.answer(session, "RCPT", step, callback);
      },
      onData(stream, session, callback) {
        const step = async (): Promise<string> => {
          const message = await collect(stream, largest);
          demandShape(message, door.limits, door.name, INBOUND_HOP);
          return accepted(await parts.takeIn(arrivalOf(session, recipients.get(session), message), listener.signal));
        };
        void listener.receive(session, step, callback);
      },
    },
    { name: "inbound", limits: door.limits, visits: parts.visits, log: parts.log, isTrusted: () => false }, // nobody here speaks for other clients (XFORWARD)
  );
  const port = await listener.listen(server, door.listen, { protocol: door.protocol });
  return {
    port,
    renew(next) {
      largest = next.largest;
      server.options.size = next.largest;
    },
    stop: () => listener.stop(),
  };
}

function arrivalOf({ envelope, transmissionType }: SMTPServerSession, to: SMTPServerAddress | undefined, message: Buffer): Arrival {
  if (!to) throw new Fault("internal", "DATA without RCPT");
  const { mailFrom, dsn } = envelope;
  return {
    sender: mailFrom ? asItCame(mailFrom.address) : "",
    recipient: asItCame(to.address),
    notify: to.dsn?.notify ?? [],
    originalRecipient: to.dsn?.orcpt,
    envelopeId: dsn?.envid ?? undefined,
    returns: dsn?.ret === "FULL" || dsn?.ret === "HDRS" ? dsn.ret : undefined,
    message,
    protocol: transmissionType,
  };
}

/** The library decodes the domain, which only a server with SMTPUTF8 would take so (RFC 6531 §3.3, RFC 5891 §4). */
function asItCame(address: string): string {
  const at = address.lastIndexOf("@") + 1;
  const isAscii = /^[\x20-\x7E]*$/u;
  if (isAscii.test(address) || !isAscii.test(address.slice(0, at))) return address;
  return address.slice(0, at) + (domainToASCII(address.slice(at)) || address.slice(at));
}
