/** What every door of the broker has: limits of time and size for whoever connects, faults as problem documents, and an orderly end. */
import { createServer as createPlainServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo, Server } from "node:net";
import { getRequestListener, type HttpBindings } from "@hono/node-server";
import type { Context, Hono } from "hono";
import type { Running } from "../config/lifecycle.ts";
import { reasonOf, type Log } from "../config/log.ts";
import { Fault } from "../mime/fault.ts";
import { problemHeaders, problemOf } from "./problem.ts";
import type { Rate } from "./rate.ts";
import { LARGEST_BODY_OCTETS } from "./wire.ts";

export interface ServerLimits {
  readonly perGateway: Rate;
  readonly perAddress: Rate;
  /** How many may be connected at a time; who comes then is turned away. */
  readonly connections: number;
  /** Milliseconds for a TLS handshake, and again for the header of a request. */
  readonly header: number;
  /** Milliseconds for a request as a whole to come in. */
  readonly request: number;
}

/** Kakitome's own requests have less than 1 KiB of header. */
const LARGEST_HEADER_OCTETS = 8 << 10;
const MOST_HEADERS = 64;
/** How often connections that exceed their time are looked for, milliseconds. */
const LOOK_EVERY_MS = 1_000;
/** Requests that run when the broker stops may take this long to end. */
const LONGEST_STOP_MS = 5_000;

/** The body as it comes in; a web Request around it would cost more than reading it. @throws Fault `too-large`, `malformed`: it broke off */
export async function bodyOf({ env: { incoming } }: Context<{ Bindings: HttpBindings }>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = Number(incoming.headers["content-length"] ?? 0);
  const demandSmall = (): void => {
    if (length <= LARGEST_BODY_OCTETS) return;
    incoming.resume(); // who sends it hears the answer
    throw new Fault("too-large", "the body is too large");
  };
  demandSmall();
  length = 0;
  try {
    for await (const chunk of incoming.iterator({ destroyOnReturn: false })) {
      chunks.push(chunk as Buffer);
      length += (chunk as Buffer).length;
      demandSmall();
    }
  } catch (cause) {
    throw cause instanceof Fault ? cause : new Fault("malformed", "the body broke off", { cause });
  }
  return Buffer.concat(chunks);
}

/** Whatever a route throws is answered as a problem document, and written down. */
export function answerFaults(app: Hono<{ Bindings: HttpBindings }>, log: Log): void {
  const answer = (thrown: unknown, call: Context, path: string): Response => {
    const fault = Fault.from(thrown);
    const facts = { event: "request.refused", fault: fault.code, path, reason: reasonOf(thrown) };
    if (fault.code === "internal") log.error(facts);
    else log.warn(facts);
    const problem = problemOf(fault);
    return call.body(JSON.stringify(problem), problem.status, problemHeaders(fault));
  };
  app.onError((thrown, call) => answer(thrown, call, call.req.routePath));
  app.notFound((call) => answer(new Fault("malformed", "no such step"), call, "none of ours"));
}

export interface Tls {
  readonly key: string;
  readonly cert: string;
  readonly ca?: string;
  readonly requestCert?: boolean;
  readonly rejectUnauthorized?: boolean;
}

export interface Listening extends Running {
  readonly port: number;
  /** Shows another certificate from the next handshake on, and counts by other limits; connections stay. */
  renew(tls: Tls | undefined, limits: ConnectionLimits): void;
}

type ConnectionLimits = Pick<ServerLimits, "connections" | "header" | "request">;

/** Listens with TLS 1.3. @param tls PEM; undefined for plain HTTP, which is for the loopback only */
export async function openListener(
  app: Hono<{ Bindings: HttpBindings }>,
  listen: { host: string; port: number },
  tls: Tls | undefined,
  limits: ConnectionLimits,
): Promise<Listening> {
  const options = {
    maxHeaderSize: LARGEST_HEADER_OCTETS,
    headersTimeout: limits.header,
    requestTimeout: limits.request,
    connectionsCheckingInterval: LOOK_EVERY_MS,
  };
  const answer = getRequestListener(app.fetch, { hostname: listen.host });
  const listener = (incoming: IncomingMessage, outgoing: ServerResponse): void => void answer(incoming, outgoing);
  const server = tls
    ? createServer({ ...options, ...tls, minVersion: "TLSv1.3", handshakeTimeout: limits.header }, listener)
    : createPlainServer(options, listener);
  server.maxHeadersCount = MOST_HEADERS;
  const turnAway = limitConnections(server, limits.connections);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(listen.port, listen.host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    port,
    renew(next, { connections, header, request }) {
      if (next && "setSecureContext" in server) server.setSecureContext({ ...next, minVersion: "TLSv1.3" });
      turnAway.most = connections;
      Object.assign(server, { headersTimeout: header, requestTimeout: request });
    },
    async stop() {
      await new Promise<void>((resolve) => {
        const late = setTimeout(() => server.closeAllConnections(), LONGEST_STOP_MS);
        server.close(() => {
          clearTimeout(late);
          resolve();
        });
        server.closeIdleConnections();
      });
    },
  };
}

/**
 * Closes connections beyond a number. Not by `maxConnections`: a worker process would give them back to be handed to the next worker, and
 * so on without end where all are full.
 */
function limitConnections(server: Server, most: number): { most: number } {
  const limit = { most };
  let open = 0;
  server.on("connection", (socket) => {
    open++;
    socket.once("close", () => open--);
    if (open > limit.most) socket.destroy();
  });
  return limit;
}
