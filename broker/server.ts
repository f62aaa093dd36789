/** The broker's door: HTTPS with TLS 1.3, the channel certificate checked at every request, one route a step. */
import { createServer } from "node:https";
import type { TLSSocket } from "node:tls";
import { serve, type HttpBindings } from "@hono/node-server";
import { Hono, type Context } from "hono";
import { bodyLimit } from "hono/body-limit";
import { reasonOf } from "../config/log.ts";
import type { Running } from "../config/lifecycle.ts";
import { parseCertificate, verifyChain } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { OID } from "../mime/oids.ts";
import type { Broker } from "./broker.ts";
import { confirm } from "./confirm.ts";
import { declare, markDispatched, withdraw } from "./declare.ts";
import { enrolGateway, enrolMailbox, lookUp } from "./enrol.ts";
import { problemOf } from "./problem.ts";
import { release } from "./release.ts";
import type { GatewayRecord } from "./table.ts";
import { LARGEST_BODY_OCTETS, parseBody, SIGNED_TYPE, ticketsBody } from "./wire.ts";

type Call = Context<{ Bindings: HttpBindings }>;

function routes(broker: Broker): Hono<{ Bindings: HttpBindings }> {
  const app = new Hono<{ Bindings: HttpBindings }>();
  const signedStep = (step: (broker: Broker, gateway: GatewayRecord, signed: Buffer) => Promise<Buffer>) => async (call: Call) => {
    const answer = await step(broker, await channelOf(broker, call), await bodyOf(call));
    return call.body(new Uint8Array(answer), 200, { "content-type": SIGNED_TYPE });
  };
  app.use(
    bodyLimit({
      maxSize: LARGEST_BODY_OCTETS,
      onError: () => {
        throw new Fault("too-large", "the body is too large");
      },
    }),
  );

  app.get("/v1/authority", (call) => call.json({ broker: broker.url, root: broker.root.certificate.pem }));
  app.post("/v1/gateways", async (call) => call.json(await enrolGateway(broker, await bodyOf(call))));
  app.post("/v1/mailboxes", async (call) => call.json(await enrolMailbox(broker, await channelOf(broker, call), await bodyOf(call))));
  app.get("/v1/directory/:address", async (call) => {
    await channelOf(broker, call);
    return call.json(await lookUp(broker, call.req.param("address")));
  });
  app.post("/v1/declare", signedStep(declare)); // S1-S3
  app.post("/v1/dispatched", async (call) => {
    const gateway = await channelOf(broker, call);
    return call.json({ lost: await markDispatched(broker, gateway, parseBody(ticketsBody, await bodyOf(call)).tickets) });
  });
  app.post("/v1/withdraw", async (call) => {
    const gateway = await channelOf(broker, call);
    await withdraw(broker, gateway, parseBody(ticketsBody, await bodyOf(call)).tickets);
    return call.body(null, 204);
  });
  app.post("/v1/present", signedStep(release)); // S6-S7
  app.post("/v1/confirm", signedStep(confirm)); // S10
  app.get("/v1/ready", async (call) => {
    await broker.table.ready();
    return call.json({ ready: true });
  });

  app.notFound(() => {
    throw new Fault("malformed", "no such step");
  });
  app.onError((thrown, call) => {
    const fault = Fault.from(thrown);
    const facts = { event: "request.refused", fault: fault.code, path: call.req.routePath, reason: reasonOf(thrown) };
    if (fault.code === "internal") broker.log.error(facts);
    else broker.log.warn(facts);
    const problem = problemOf(fault);
    return call.body(JSON.stringify(problem), problem.status, { "content-type": "application/problem+json" });
  });
  return app;
}

async function bodyOf(call: Call): Promise<Buffer> {
  return Buffer.from(await call.req.arrayBuffer());
}

/** The gateway behind the connection: enrolment and validity are checked at every request, not only when it connects. */
async function channelOf(broker: Broker, call: Call): Promise<GatewayRecord> {
  const socket = call.env.incoming.socket as TLSSocket; // the server below is a TLS server
  const der = socket.getPeerX509Certificate()?.raw;
  if (!der) throw new Fault("unauthenticated", "no client certificate");
  const certificate = parseCertificate(der);
  try {
    verifyChain(certificate, { roots: [broker.root.certificate], at: broker.now(), purpose: OID.clientAuth });
  } catch (cause) {
    if (Fault.from(cause).retry === "later") throw cause;
    throw new Fault("unauthenticated", "the channel certificate does not hold", { cause });
  }
  const gateway = await broker.table.findGateway(certificate.fingerprint);
  if (!gateway) throw new Fault("unauthenticated", "the gateway is not enrolled");
  return gateway;
}

/** Requests that run when the broker stops may take this long to end. */
const LONGEST_STOP_MS = 5_000;

/** Listens. @param tls key and certificate of this host, PEM */
export async function startServer(
  broker: Broker,
  listen: { host: string; port: number },
  tls: { key: string; cert: string },
): Promise<Running & { readonly port: number }> {
  const options = { ...tls, ca: broker.root.certificate.pem, requestCert: true, rejectUnauthorized: false, minVersion: "TLSv1.3" as const };
  const app = routes(broker);
  const { server, port } = await new Promise<{ server: ReturnType<typeof serve>; port: number }>((resolve, reject) => {
    const started = serve({ fetch: app.fetch, hostname: listen.host, port: listen.port, createServer, serverOptions: options }, (info) =>
      resolve({ server: started, port: info.port }),
    );
    started.once("error", reject);
  });
  return {
    port,
    async stop() {
      await new Promise<void>((resolve) => {
        const late = setTimeout(() => "closeAllConnections" in server && server.closeAllConnections(), LONGEST_STOP_MS);
        server.close(() => {
          clearTimeout(late);
          resolve();
        });
        if ("closeIdleConnections" in server) server.closeIdleConnections();
      });
    },
  };
}
