/** The first call of a gateway, before it has a channel (S0). */
import { createHash, type KeyObject } from "node:crypto";
import { Pool } from "undici";
import { parseCertificate, type Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { certificationRequest } from "../mime/request.ts";
import { call, closing } from "./transport.ts";
import { authorityBody, enrolledBody, parseBody } from "./wire.ts";

/**
 * Enrols a gateway (S0): fetches the broker's root, compares its fingerprint with the one that was handed over by other means, and only
 * then sends the token.
 * @throws Fault `forbidden`: another fingerprint; `unauthenticated`: the token is not good; `unavailable`
 */
export async function enrolGateway(
  order: { url: string; fingerprint: string; token: string; name: string; key: KeyObject },
  signal: AbortSignal,
): Promise<{ root: Certificate; certificate: Certificate }> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(30_000)]);
  const blind = new Pool(order.url, { connect: { rejectUnauthorized: false, minVersion: "TLSv1.3" } });
  const authority = parseBody(authorityBody, await closing(blind, call(blind, "GET", "/v1/authority", undefined, limit)));
  const root = parseCertificate(authority.root);
  const wanted = order.fingerprint.replaceAll(":", "").toLowerCase();
  if (createHash("sha256").update(root.der).digest("hex") !== wanted) {
    throw new Fault("forbidden", `the broker at ${order.url} has the fingerprint ${root.fingerprint}, not ${wanted}`);
  }
  if (authority.broker !== order.url)
    throw new Fault("forbidden", `the broker calls itself ${authority.broker}, not ${order.url}: use that address`);
  const pool = new Pool(order.url, { connect: { ca: root.pem, minVersion: "TLSv1.3" } });
  const request = certificationRequest(order.key, order.name).toString("base64");
  const body = { type: "application/json", bytes: Buffer.from(JSON.stringify({ token: order.token, name: order.name, request })) };
  const enrolled = parseBody(enrolledBody, await closing(pool, call(pool, "POST", "/v1/gateways", body, limit)));
  return { root, certificate: parseCertificate(enrolled.certificate) };
}
