/** What of the broker can change while it runs: its keys and certificates as they lie in the data folder, and limits of its configuration. */
import { createSecureContext } from "node:tls";
import type { BrokerConfig } from "../config/schema.ts";
import { readPrivateKey, readSecret } from "../config/secrets.ts";
import { issued, type Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import type { Opener } from "../mime/open.ts";
import type { Signer } from "../mime/sign.ts";
import type { Broker } from "./broker.ts";
import { FILES } from "./files.ts";
import { fileIn, readCertificate } from "./open.ts";
import { countingIn, rootsAt, type Roots } from "./roots.ts";
import { sessionKeysAt } from "./session-keys.ts";

/** Keys of the configuration that count at once. */
export const LIVE_KEYS = ["expiry", "vanishAfter", "certificates", "limits", "receipts.retryFirst", "receipts.retryLongest"] as const;

export interface Live {
  roots: Roots;
  signer: Signer;
  sessionKeys: readonly Opener[];
  tls: { readonly key: string; readonly cert: string };
  server: Certificate;
  limits: Broker["limits"];
}

/** Reads all of it. @throws Fault `malformed`: a file is missing, open to others, or no pair with its other half */
export function readLive(config: BrokerConfig): Live {
  const signer = { key: readPrivateKey(fileIn(config, FILES.signingKey)), certificate: readCertificate(fileIn(config, FILES.signing)) };
  const server = readCertificate(fileIn(config, FILES.server));
  const roots = rootsAt(config.data);
  const tls = { key: readSecret(fileIn(config, FILES.serverKey)).reveal(), cert: server.pem + linksAbove(server, roots) };
  demandPair(tls, fileIn(config, FILES.server), fileIn(config, FILES.serverKey));
  const signing = { key: signer.key.export({ type: "pkcs8", format: "pem" }).toString(), cert: signer.certificate.pem };
  demandPair(signing, fileIn(config, FILES.signing), fileIn(config, FILES.signingKey));
  return {
    roots,
    signer,
    sessionKeys: sessionKeysAt(config.data),
    tls,
    server,
    limits: {
      longestExpiry: config.expiry.longest,
      warnAfter: config.expiry.warnAfter,
      vanishAfter: config.vanishAfter,
      certificateLifetime: config.certificates.lifetime,
      crlLifetime: config.crl.lifetime,
    },
  };
}

/** For a gateway that was away while the root was announced: it finds its way from the server's certificate to the root that it knows. */
function linksAbove(server: Certificate, { issuing, former, links }: Roots): string {
  const root = [issuing, ...former].find(({ certificate }) => issued(certificate, server));
  return links
    .filter(({ publicKey }) => root && publicKey.equals(root.certificate.publicKey))
    .map(({ pem }) => pem)
    .join("");
}

function demandPair(pair: { key: string; cert: string }, certificate: string, key: string): void {
  try {
    createSecureContext(pair);
  } catch (cause) {
    throw new Fault("malformed", `${certificate} and ${key} are no pair of certificate and key: put files there that belong together`, {
      cause,
    });
  }
}

/** The running configuration with what a reload changes of it. */
export function withLive(current: BrokerConfig, next: BrokerConfig): BrokerConfig {
  const { expiry, vanishAfter, certificates, limits, receipts } = next;
  const { retryFirst, retryLongest } = receipts;
  return { ...current, expiry, vanishAfter, certificates, limits, receipts: { ...current.receipts, retryFirst, retryLongest } };
}

/** Which of the files hold something else than before, for people. */
export function renewedIn(before: Live, next: Live): string[] {
  const renewed: string[] = [];
  const names = (roots: Roots): string =>
    countingIn(roots)
      .map(({ certificate }) => certificate.fingerprint)
      .join(" ");
  if (names(before.roots) !== names(next.roots)) renewed.push("the roots");
  if (before.server.fingerprint !== next.server.fingerprint) renewed.push("the server's certificate");
  if (before.signer.certificate.fingerprint !== next.signer.certificate.fingerprint) renewed.push("the signing key");
  if (before.sessionKeys[0]?.certificate.fingerprint !== next.sessionKeys[0]?.certificate.fingerprint) renewed.push("the session key");
  return renewed;
}
