/** The broker's door: HTTPS with TLS 1.3, the channel certificate checked at every request, one route a step. */
import type { TLSSocket } from "node:tls";
import type { HttpBindings } from "@hono/node-server";
import { Hono, type Context } from "hono";
import { parseCertificate, verifyChain, type Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { OID } from "../mime/oids.ts";
import { rootsOf, type Broker, type Caller } from "./broker.ts";
import { confirm } from "./confirm.ts";
import { declare, markDispatched, withdraw } from "./declare.ts";
import { enrolGateway, enrolMailbox, lookUp, renewGateway } from "./enrol.ts";
import { answerFaults, bodyOf, openListener, type Listening, type ServerLimits, type Tls } from "./listener.ts";
import { Buckets, networkOf, type Rate } from "./rate.ts";
import { recall, status } from "./recall.ts";
import { release } from "./release.ts";
import { isGatewayRevoked, RevocationLists } from "./revoke.ts";
import { CRL_TYPE, parseBody, SIGNED_TYPE, ticketsBody } from "./wire.ts";

type Call = Context<{ Bindings: HttpBindings }>;

function routes(broker: Broker, limits: ServerLimits): Hono<{ Bindings: HttpBindings }> {
  const app = new Hono<{ Bindings: HttpBindings }>();
  const lists = new RevocationLists(broker.table, () => broker.limits.crlLifetime);
  const [perGateway, perAddress] = [new Buckets(limits.perGateway), new Buckets(limits.perAddress)];
  const renewals = new Buckets(renewalRate(broker));
  const caller = (certificate: Certificate): Promise<Caller> => callerOf(broker, certificate, perGateway);
  const channel = (call: Call): Promise<Caller> => caller(channelOf(broker, call, { perGateway, perAddress }));
  /** Whoever shows no certificate is known by its address only. */
  const anyone = (call: Call): void => perAddress.take(networkOf(call.env.incoming.socket.remoteAddress));
  const signedStep = (step: (broker: Broker, asking: Promise<Caller>, signed: Buffer) => Promise<Buffer>) => async (call: Call) => {
    const certificate = channelOf(broker, call, { perGateway, perAddress });
    const signed = await bodyOf(call);
    const answer = await step(broker, caller(certificate), signed); // not before the body is here: a revocation meanwhile counts
    return call.body(new Uint8Array(answer), 200, { "content-type": SIGNED_TYPE });
  };

  app.get("/v1/authority", (call) => {
    anyone(call);
    const pems = (certificates: readonly Certificate[]): string[] => certificates.map(({ pem }) => pem);
    return call.json({ broker: broker.url, root: broker.root.certificate.pem, roots: pems(rootsOf(broker)), links: pems(broker.links) });
  });
  app.get("/v1/crl", async (call) => {
    anyone(call);
    const named = call.req.query("root");
    const signer = broker.roots.find(({ certificate }) => named === undefined || certificate.fingerprint === named);
    if (!signer) throw new Fault("malformed", "no such root");
    return call.body(new Uint8Array(await lists.list(signer, broker.now())), 200, { "content-type": CRL_TYPE });
  });
  app.post("/v1/gateways", async (call) => {
    anyone(call);
    return call.json(await enrolGateway(broker, await bodyOf(call)));
  });
  app.post("/v1/renewals", async (call) => {
    const { gateway } = await channel(call);
    const body = await bodyOf(call);
    renewals.take(gateway.fingerprint);
    return call.json(await renewGateway(broker, gateway, body));
  });
  app.post("/v1/mailboxes", async (call) => call.json(await enrolMailbox(broker, (await channel(call)).gateway, await bodyOf(call))));
  app.get("/v1/directory/:address", async (call) => {
    await channel(call);
    return call.json(await lookUp(broker, call.req.param("address")));
  });
  app.post("/v1/declare", signedStep(declare)); // S1-S3
  app.post("/v1/dispatched", async (call) => {
    const { gateway } = await channel(call);
    return call.json({ lost: await markDispatched(broker, gateway, parseBody(ticketsBody, await bodyOf(call)).tickets) });
  });
  app.post("/v1/withdraw", async (call) => {
    const { gateway } = await channel(call);
    await withdraw(broker, gateway, parseBody(ticketsBody, await bodyOf(call)).tickets);
    return call.body(null, 204);
  });
  app.post("/v1/present", signedStep(release)); // S6-S7
  app.post("/v1/confirm", signedStep(confirm)); // S10
  app.post("/v1/recall", signedStep(recall));
  app.post("/v1/status", signedStep(status));
  app.get("/v1/ready", async (call) => {
    anyone(call);
    await broker.table.ready();
    return call.json({ ready: true });
  });
  answerFaults(app, broker.log);
  return app;
}

/** More than a gateway needs whose answers get lost for most of a day, or of which several run. */
const RENEWALS = 24;

/** Each renewal stays in the registry for good, and in the revocation list once its gateway is revoked: so many at once, and in a lifetime. */
function renewalRate(broker: Broker): Rate {
  return {
    burst: RENEWALS,
    get perSecond() {
      return (RENEWALS * 1_000) / broker.limits.certificateLifetime;
    },
  };
}

/** The certificate behind the connection: its validity is checked at every request, not only when it connects. @throws Fault */
function channelOf(broker: Broker, call: Call, limits: { perGateway: Buckets; perAddress: Buckets }): Certificate {
  const socket = call.env.incoming.socket as TLSSocket; // the server below is a TLS server
  let certificate: Certificate;
  try {
    certificate = shownOn(socket);
    verifyChain(certificate, { roots: rootsOf(broker), at: broker.now(), purpose: OID.clientAuth });
  } catch (cause) {
    limits.perAddress.take(networkOf(socket.remoteAddress));
    if (Fault.from(cause).retry === "later") throw cause;
    throw new Fault("unauthenticated", "the channel certificate does not hold", { cause });
  }
  limits.perGateway.take(certificate.fingerprint);
  return certificate;
}

/** The gateway with this certificate, which is enrolled and not revoked at this request. @throws Fault */
async function callerOf(broker: Broker, certificate: Certificate, perGateway: Buckets): Promise<Caller> {
  const registry = await broker.table.view();
  const gateway = await registry.findGateway(certificate.fingerprint);
  const isRevoked = await isGatewayRevoked(registry, certificate, gateway?.renews);
  if (!gateway || isRevoked) throw new Fault("unauthenticated", `the gateway is ${isRevoked ? "revoked" : "not enrolled"}`);
  const id = gateway.renews ?? certificate.fingerprint;
  if (id !== certificate.fingerprint) perGateway.take(id); // a new certificate is no new gateway, with requests of its own
  return { gateway: { ...gateway, fingerprint: id }, registry, more: (requests) => perGateway.take(id, requests) };
}

const shown = new WeakMap<TLSSocket, Certificate>();

/** The certificate that was shown on a connection, which cannot show another: TLS 1.3 has no renegotiation, and none is asked for later. @throws Fault */
function shownOn(socket: TLSSocket): Certificate {
  const known = shown.get(socket);
  if (known) return known;
  const der = socket.getPeerX509Certificate()?.raw;
  if (!der) throw new Fault("unauthenticated", "no client certificate");
  const certificate = parseCertificate(der);
  shown.set(socket, certificate);
  return certificate;
}

/** Listens. @param tls key and certificate of this host, PEM */
export async function startServer(
  broker: Broker,
  listen: { host: string; port: number },
  tls: { key: string; cert: string },
  limits: ServerLimits,
): Promise<Listening> {
  const withClients = (shown: Tls): Tls => {
    const ca = rootsOf(broker)
      .map(({ pem }) => pem)
      .join("");
    return { ...shown, ca, requestCert: true, rejectUnauthorized: false };
  };
  const listening = await openListener(routes(broker, limits), listen, withClients(tls), limits);
  return { ...listening, renew: (shown, renewed) => listening.renew(shown && withClients(shown), renewed) };
}
