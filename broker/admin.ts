/** The operator's door: a listener of its own with a token of its own; what it tells holds no key, no ticket and no token but a new invitation's. */
import { hash, timingSafeEqual } from "node:crypto";
import type { HttpBindings } from "@hono/node-server";
import { Hono, type Context } from "hono";
import { z } from "zod";
import { readSecret } from "../config/secrets.ts";
import { REVOCATION_REASONS, type RevocationReason } from "../mime/crl.ts";
import { Fault } from "../mime/fault.ts";
import type { Broker } from "./broker.ts";
import { invite } from "./enrol.ts";
import { answerFaults, bodyOf, openListener, type Listening, type ServerLimits } from "./listener.ts";
import { gatewaysIn, shown } from "./overview.ts";
import { Buckets, networkOf } from "./rate.ts";
import { revoke } from "./revoke.ts";
import { parseBody } from "./wire.ts";

interface AdminPlace {
  readonly listen: { readonly host: string; readonly port: number };
  readonly tokenFile: string;
  /** Whether it is reached from elsewhere than the loopback. */
  readonly tls: boolean;
}

/** 128 bits in base64url; hex has more. */
const SHORTEST_TOKEN = 22;

const hashOf = (text: string): Buffer => hash("sha256", text, "buffer");

const inviteBody = z.strictObject({ for: z.array(z.string().min(1).max(254)).min(1).max(100) });
const reason = z.enum(Object.keys(REVOCATION_REASONS) as [RevocationReason, ...RevocationReason[]]).default("unspecified");
const name = z.string().min(1).max(254);
const revocationBody = z.union([
  z.strictObject({ gateway: name, reason }),
  z.strictObject({ mailbox: name, reason }),
  z.strictObject({ serial: name, reason }),
]);

function routes(broker: Broker, token: Buffer, wrong: Buckets): Hono<{ Bindings: HttpBindings }> {
  const { table, now } = broker;
  const app = new Hono<{ Bindings: HttpBindings }>();
  app.use(async (call, next) => {
    demandToken(call, token, wrong);
    await next();
  });

  app.get("/v1/status", async (call) => {
    const [receipts, days, gateways, mailboxes, revocations] = await Promise.all([
      table.pending(),
      table.daysInUse(),
      table.gateways(),
      table.mailboxes(),
      table.revocations(),
    ]);
    return call.json({
      broker: broker.url,
      at: now().toISOString(),
      receiptsWaiting: receipts.length,
      daysWithLettersWaiting: days.size,
      gateways: gateways.length,
      mailboxes: mailboxes.length,
      revocations: revocations.length,
    });
  });
  app.get("/v1/sessions/:hash", async (call) => {
    const hash = call.req.param("hash");
    if (!/^[0-9a-f]{64}$/u.test(hash)) throw new Fault("malformed", "a session is named by its SHA-256 in hex");
    const row = await table.find(hash);
    if (!row) throw new Fault("session-gone", "no such session");
    return call.json(shown(row));
  });
  app.get("/v1/gateways", async (call) => call.json({ gateways: await gatewaysIn(table) }));
  app.post("/v1/invites", async (call) => {
    const { for: entries } = parseBody(inviteBody, await bodyOf(call));
    const { token: invitation, expiresAt } = await invite(table, entries, now());
    broker.log.info({ event: "admin.invited", scope: entries.join(" ") });
    return call.json({ token: invitation, expiresAt: expiresAt.toISOString(), fingerprint: broker.root.certificate.fingerprint });
  });
  app.post("/v1/revocations", async (call) => {
    const { reason: why, ...what } = parseBody(revocationBody, await bodyOf(call));
    const revoked = await revoke(table, what, why, now(), "admin");
    for (const { name: revokedName, subject } of revoked) broker.log.warn({ event: "admin.revoked", name: revokedName, subject });
    return call.json({ revoked: revoked.map(({ at, ...rest }) => ({ ...rest, at: timeOf(at) })) });
  });
  answerFaults(app, broker.log);
  return app;
}

/** Compared as hashes in constant time; whoever is wrong too often has to wait. @throws Fault `unauthenticated`, `unavailable` */
function demandToken(call: Context<{ Bindings: HttpBindings }>, token: Buffer, wrong: Buckets): void {
  const given = /^Bearer (\S{1,500})$/u.exec(call.req.header("authorization") ?? "")?.[1] ?? "";
  if (timingSafeEqual(hashOf(given), token)) return;
  wrong.take(networkOf(call.env.incoming.socket.remoteAddress));
  throw new Fault("unauthenticated", "not the operator's token", { advice: "Show the operator's token: Authorization: Bearer TOKEN" });
}

const timeOf = (milliseconds: number): string => new Date(milliseconds).toISOString();

/**
 * Opens the door. @param tls key and certificate of this host, PEM, for a door beyond the loopback
 * @throws Fault `malformed`: the token is too short, or its file is open to others
 */
export async function startAdmin(
  broker: Broker,
  place: AdminPlace,
  tls: { key: string; cert: string },
  limits: ServerLimits,
): Promise<Listening> {
  const token = readSecret(place.tokenFile).reveal();
  if (token.length < SHORTEST_TOKEN) {
    throw new Fault("malformed", `${place.tokenFile} is too short for 128 bits: make it with "openssl rand -base64 32"`);
  }
  const wrong = new Buckets(limits.perAddress);
  const door = await openListener(routes(broker, hashOf(token), wrong), place.listen, place.tls ? tls : undefined, limits);
  broker.log.info({ event: "admin.started", port: door.port });
  return { ...door, renew: (shown, renewed) => door.renew(place.tls ? shown : undefined, renewed) };
}
