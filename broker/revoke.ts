/** Revocation: what an operator takes back counts from the next request on, and for gateways by a list that the root signs (RFC 5280 §5). */
import { parseMailbox } from "../mime/address.ts";
import { parseCertificate, serialOf, type Certificate } from "../mime/certificate.ts";
import type { RevocationReason } from "../mime/crl.ts";
import { Fault } from "../mime/fault.ts";
import type { Signer } from "../mime/sign.ts";
import { revocationList } from "./authority.ts";
import type { CertificatePair, GatewayRecord, MailboxRecord, Registry, RegistryView, Revocation } from "./table.ts";

/** What is to be revoked: a gateway with all its mailboxes, the certificates of one mailbox, or one certificate whosoever. */
export type Revocable = { readonly gateway: string } | { readonly mailbox: string } | { readonly serial: string };

/**
 * Revokes; what was revoked before keeps its date and reason.
 * @param who says so, for the audit
 * @throws Fault `malformed`: no such gateway or mailbox, or not a serial number
 */
export async function revoke(registry: Registry, what: Revocable, reason: RevocationReason, now: Date, who: string): Promise<Revocation[]> {
  const revoked = new Map<string, Revocation>();
  for (;;) {
    // Read again after what was written: what is issued meanwhile is found here, or its issuer finds this (`revokeIssued`).
    const named = (await namesOf(registry, what)).filter(({ name }) => !revoked.has(name));
    if (named.length === 0) return [...revoked.values()];
    for (const { name, subject } of named) revoked.set(name, await registry.revoke({ name, subject, reason, at: now.getTime() }, who));
  }
}

/**
 * For whoever has put into the registry what it issued: revokes that, too, where one of these names was revoked meanwhile.
 * @returns whether it did
 */
export async function revokeIssued(registry: Registry, issued: readonly Named[], names: readonly string[], now: Date): Promise<boolean> {
  if (!(await registry.isRevoked(names))) return false;
  const because = (await registry.revocations()).find(({ name }) => names.includes(name));
  const reason = because?.reason ?? "unspecified";
  for (const { name, subject } of issued) await registry.revoke({ name, subject, reason, at: now.getTime() }, "broker");
  return true;
}

type Named = Pick<Revocation, "name" | "subject">;

async function namesOf(registry: Registry, what: Revocable): Promise<Named[]> {
  if ("serial" in what) return [{ name: serialIn(what.serial), subject: "a certificate" }];
  if ("mailbox" in what) {
    const record = await registry.findMailbox(parseMailbox(what.mailbox).key);
    if (!record) throw new Fault("malformed", `${what.mailbox} is not enrolled`);
    return certificatesOf(record);
  }
  const fingerprint = what.gateway.replaceAll(":", "").toLowerCase();
  const gateway = await registry.findGateway(fingerprint);
  if (!gateway) throw new Fault("malformed", `no gateway ${fingerprint} is enrolled`);
  const id = gateway.renews ?? fingerprint; // whichever of its certificates was named
  const channels = (await registry.gateways()).filter((one) => one.fingerprint === id || one.renews === id);
  const own = (await registry.mailboxes()).filter((record) => record.gateway === id);
  // The gateway first: from then on it does nothing more. A thief of its folder has the keys of its mailboxes too.
  const named = [...channels.flatMap(channelOf), ...own.flatMap(certificatesOf)];
  return [...new Map(named.map((one) => [one.name, one])).values()]; // aliases share certificates
}

/** By what a channel certificate is revoked. */
export function channelOf({ fingerprint, serial, name }: GatewayRecord): Named[] {
  const subject = `gateway ${name}`;
  return [
    { name: fingerprint, subject },
    { name: serial, subject },
  ];
}

function certificatesOf(record: MailboxRecord): Named[] {
  return pairsOf(record).flatMap((pair) => pairNames(pair, record.address));
}

/** By what one pair of a mailbox is revoked. */
export function pairNames(pair: CertificatePair, subject: string): Named[] {
  return serialsOf(pair).map((name) => ({ name, subject }));
}

/** The pair that counts for what is new, and those before it. */
export function pairsOf(record: MailboxRecord): CertificatePair[] {
  return [record, ...(record.former ?? [])];
}

export function serialsOf({ signingCertificate, encryptionCertificate }: CertificatePair): string[] {
  return [signingCertificate, encryptionCertificate].map((pem) => serialOf(parseCertificate(pem)));
}

/** As OpenSSL prints it or with colons; at most 20 octets (RFC 5280 §4.1.2.2). */
function serialIn(text: string): string {
  const digits = text.replace(/^0x/iu, "").replaceAll(":", "").toLowerCase();
  if (!/^[0-9a-f]{1,40}$/u.test(digits)) throw new Fault("malformed", `"${text}" is not a serial number in hex`);
  return (digits.length % 2 === 0 ? digits : `0${digits}`).replace(/^(?:00)+(?=..)/u, "");
}

/** Whether a mailbox can still take part, with this pair: its certificates, and the gateway that speaks for it. */
export function isMailboxRevoked(registry: RegistryView, record: MailboxRecord, pair: CertificatePair = record): Promise<boolean> {
  return registry.isRevoked([...serialsOf(pair), record.gateway]);
}

/** Whether a gateway can still take part. */
export function isGatewayRevoked(registry: RegistryView, certificate: Certificate, id = certificate.fingerprint): Promise<boolean> {
  return registry.isRevoked([serialOf(certificate), certificate.fingerprint, id]);
}

/** A list is made once a second at most, whoever asks for it. */
const FRESH_MS = 1_000;

/** Serves the list: whichever root signs it, it names what was revoked under all of them. */
export class RevocationLists {
  readonly #registry: Registry;
  readonly #lifetime: () => number;
  /** By the fingerprint of who signed. */
  readonly #last = new Map<string, { readonly at: number; readonly list: Promise<Buffer> }>();

  /** @param lifetime from one list to its nextUpdate, milliseconds */
  constructor(registry: Registry, lifetime: () => number) {
    this.#registry = registry;
    this.#lifetime = lifetime;
  }

  /** The list as of now, DER. @throws Fault `unavailable` */
  async list(root: Signer, now: Date): Promise<Buffer> {
    const { fingerprint } = root.certificate;
    const at = now.getTime();
    const last = this.#last.get(fingerprint);
    if (last && at >= last.at && at - last.at < FRESH_MS) return last.list;
    const made = { at, list: this.#make(root, now, last?.at ?? 0) };
    this.#last.set(fingerprint, made);
    made.list.catch(() => {
      if (this.#last.get(fingerprint) === made) this.#last.delete(fingerprint);
    });
    return made.list;
  }

  async #make(root: Signer, now: Date, before: number): Promise<Buffer> {
    const revocations = await this.#registry.revocations();
    return revocationList(root, {
      number: Math.max(now.getTime(), before + 1), // grows with every list, also from brokers beside this one (§5.2.3)
      thisUpdate: now,
      nextUpdate: new Date(now.getTime() + this.#lifetime()),
      entries: revocations.filter(({ name }) => isSerial(name)).map(({ name, at, reason }) => ({ serial: name, at: new Date(at), reason })),
    });
  }
}

/** A gateway's fingerprint, which is longer, names no certificate in a list. */
const isSerial = (name: string): boolean => name.length <= 40;
