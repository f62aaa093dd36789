/** Which servers a mail client of one of our mailboxes uses, out of the gateway's configuration. */
import type { ClientsConfig } from "../config/schema-clients.ts";
import type { GatewayConfig } from "../config/schema.ts";
import { keyOf, type Mailbox } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import { hasAddress } from "./identities.ts";

export interface MailServer {
  readonly host: string;
  readonly port: number;
  readonly tls: "implicit" | "starttls";
  readonly user: string;
}

export interface ClientSettings {
  /** The account's name for people. */
  readonly name: string;
  readonly address: string;
  readonly domain: string;
  readonly submission: MailServer;
  /** Absent where the gateway knows no server that a client could read at. */
  readonly imap: MailServer | undefined;
}

/** Stands for the address in what is told to everybody (the autoconfig format's own word). */
const ANYONE = "%EMAILADDRESS%";

/** For one mailbox of the configuration. @throws Fault `malformed`: not ours, or no place to submit at, and what to write */
export function settingsFor(config: GatewayConfig, address: Mailbox): ClientSettings {
  const own = config.mailboxes.find((one) => hasAddress(one, address));
  if (!own) throw new Fault("malformed", `${address.address} is no mailbox of ${config.name}: write it under mailboxes`);
  const user = config.users.find(({ identities }) => identities.some(({ key }) => key === address.key))?.name;
  return settings(config, own, { address: address.address, user: user ?? address.address, imapUser: own.imap?.user ?? address.address });
}

/** For everybody of a domain, without saying who is there; undefined where it is none of ours. */
export function settingsForDomain(config: GatewayConfig, domain: string, address = ANYONE): ClientSettings | undefined {
  const asked = keyOf(`a@${domain}`);
  const own = config.mailboxes.find(({ address: one }) => asked === `a@${one.domain}`);
  return own && settings(config, own, { address, user: address, imapUser: address });
}

function settings(
  config: GatewayConfig,
  own: GatewayConfig["mailboxes"][number],
  { address, user, imapUser }: { readonly address: string; readonly user: string; readonly imapUser: string },
): ClientSettings {
  const { clients } = config;
  const submission = clients.submission ?? ownDoor(config);
  const imap = clients.imap ?? readable(own.imap);
  return {
    name: clients.name,
    address,
    domain: own.address.domain,
    submission: { ...pick(submission), user },
    imap: imap && { ...pick(imap), user: imapUser },
  };
}

type Server = NonNullable<ClientsConfig["submission"]>;
const pick = ({ host, port, tls }: Server): Server => ({ host, port, tls });

/** TLS from the start where there is such a door (RFC 8314 §3.3). */
function ownDoor({ name, submission }: GatewayConfig): Server {
  const doors = submission?.listen ?? [];
  const door = doors.find(({ tls }) => tls === "implicit") ?? doors[0];
  if (!door)
    throw new Fault(
      "malformed",
      "no door for mail clients: configure submission, or clients.submission where another server takes their mail",
    );
  return { host: name, port: door.address.port, tls: door.tls };
}

/** A server that the gateway reaches in the clear is on its own machine: no client is sent there. */
function readable(imap: GatewayConfig["mailboxes"][number]["imap"]): Server | undefined {
  return imap && imap.tls !== "none" ? { host: imap.host, port: imap.port, tls: imap.tls } : undefined;
}
