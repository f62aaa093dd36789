/** The first call of a gateway, before it has a channel (S0). */
import type { KeyObject } from "node:crypto";
import { Pool } from "undici";
import { parseCertificate, type Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { certificationRequest } from "../mime/request.ts";
import { vouched } from "../mime/vouch.ts";
import type { ListedRoots } from "./client-types.ts";
import { call, closing } from "./transport.ts";
import type { z } from "zod";
import { authorityBody, enrolledBody, parseBody } from "./wire.ts";

/** What the broker says of its roots; the one that issues stands first. */
export function rootsIn({ root, roots, links }: z.output<typeof authorityBody>): ListedRoots {
  const parsed = (pems: readonly string[]): Certificate[] => [...new Set(pems.map((pem) => parseCertificate(pem)))];
  return { listed: parsed([root, ...roots]), links: parsed(links) };
}

/**
 * Enrols a gateway (S0): fetches the broker's roots, looks for the one whose fingerprint was handed over by other means, and only then
 * sends the token. An invitation from before a rotation names the former root, which holds as long as it counts.
 * @returns that root first, then those that it vouches for
 * @throws Fault `forbidden`: another fingerprint; `unauthenticated`: the token is not good; `unavailable`
 */
export async function enrolGateway(
  order: { url: string; fingerprint: string; token: string; name: string; key: KeyObject },
  signal: AbortSignal,
): Promise<{ roots: readonly Certificate[]; certificate: Certificate }> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(30_000)]);
  const blind = new Pool(order.url, { connect: { rejectUnauthorized: false, minVersion: "TLSv1.3" } });
  const authority = parseBody(authorityBody, await closing(blind, call(blind, "GET", "/v1/authority", undefined, limit)));
  const { listed, links } = rootsIn(authority);
  const wanted = order.fingerprint.replaceAll(":", "").toLowerCase();
  const root = listed.find(({ fingerprint }) => fingerprint === wanted);
  if (!root) throw new Fault("forbidden", `the broker at ${order.url} has the fingerprint ${listed[0]?.fingerprint}, not ${wanted}`);
  if (authority.broker !== order.url)
    throw new Fault("forbidden", `the broker calls itself ${authority.broker}, not ${order.url}: use that address`);
  const pool = new Pool(order.url, { connect: { ca: root.pem, minVersion: "TLSv1.3" } });
  const request = certificationRequest(order.key, order.name).toString("base64");
  const body = { type: "application/json", bytes: Buffer.from(JSON.stringify({ token: order.token, name: order.name, request })) };
  const enrolled = parseBody(enrolledBody, await closing(pool, call(pool, "POST", "/v1/gateways", body, limit)));
  const others = vouched([root], { listed, links, at: new Date() }).filter((one) => one !== root);
  return { roots: [root, ...others], certificate: parseCertificate(enrolled.certificate) };
}
