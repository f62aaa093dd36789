/** An IMAP4rev1 server over mailboxes in memory, for a demo on a machine without Dovecot: RFC 3501. */

import { createServer, type AddressInfo, type Socket } from "node:net";
import { createSecureContext } from "node:tls";
import { Connection, type ConnectionOptions } from "./connection.ts";
import type { MailStore } from "./store.ts";

interface ImapLimits {
  /** The longest command, its literals not counted, in octets. */
  lineOctets: number;
  /** The most that the literals of one command hold together, in octets. */
  literalOctets: number;
  connections: number;
  /** How long a connection may be silent: RFC 3501 §5.4 wants half an hour at least. */
  idleMilliseconds: number;
}

export interface ImapServerOptions {
  store: MailStore;
  /** Loopback when left out. From elsewhere, a login is taken under TLS only. */
  host?: string;
  /** Any free port when left out. */
  port?: number;
  /** Offers STARTTLS. */
  tls?: { key: string | Buffer; cert: string | Buffer };
  limits?: Partial<ImapLimits>;
  /** Gets what went wrong inside the server; the client only hears that it failed. */
  report?: (fault: unknown) => void;
}

export interface ImapServer {
  readonly port: number;
  close(): Promise<void>;
}

const LIMITS: ImapLimits = { lineOctets: 65_536, literalOctets: 67_108_864, connections: 200, idleMilliseconds: 31 * 60_000 };
const LAST_WORDS_MILLISECONDS = 500;

/** Listen, and answer clients until closed. @throws Error: the port is taken, or the key and certificate do not fit. */
export async function startImapServer(options: ImapServerOptions): Promise<ImapServer> {
  const limits = { ...LIMITS, ...options.limits };
  const report = options.report ?? (() => undefined);
  const tls = options.tls === undefined ? undefined : createSecureContext(options.tls);
  const connectionOptions: ConnectionOptions = { store: options.store, tls, limits, report };
  const open = new Set<Connection>();

  const accept = (socket: Socket): void => {
    const connection = new Connection(socket, connectionOptions);
    if (open.size >= limits.connections) {
      connection.bye("too many connections");
      return;
    }
    open.add(connection);
    socket.once("close", () => open.delete(connection));
    connection.run().catch(report);
  };

  const server = createServer({ noDelay: true }, accept);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port ?? 0, options.host ?? "127.0.0.1", resolve);
  });
  server.on("error", report); // a connection that could not be accepted is no reason to fall

  const close = async (): Promise<void> => {
    const closed = new Promise<void>((resolve) => {
      server.close(() => resolve());
    });
    for (const connection of open) connection.bye("the server is closing");
    const impatience = setTimeout(() => {
      for (const connection of open) connection.destroy();
    }, LAST_WORDS_MILLISECONDS);
    await closed;
    clearTimeout(impatience);
  };
  return { port: (server.address() as AddressInfo).port, close };
}
