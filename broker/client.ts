/** The door into the broker for gateways: each step of the protocol as one call; answers are verified and opened before they are returned. */
import { randomBytes, type KeyObject } from "node:crypto";
import { Pool } from "undici";
import type { z } from "zod";
import { within } from "../config/lifecycle.ts";
import type { Mailbox } from "../mime/address.ts";
import { parseCertificate, type Certificate } from "../mime/certificate.ts";
import { verifyAsBroker, type BrokerTrust } from "../mime/evidence.ts";
import { Fault } from "../mime/fault.ts";
import { ContentKey } from "../mime/key.ts";
import { certificationRequest } from "../mime/request.ts";
import type { Verified } from "../mime/sign.ts";
import { rootsIn } from "./client-enrol.ts";
import type { Identity, Grant, Release, OpeningProof, Declared, Channel, ListedRoots } from "./client-types.ts";
import { call, isBroken, type Body } from "./transport.ts";
import {
  SIGNED_TYPE,
  authorityBody,
  confirmedBody,
  directoryBody,
  enrolledBody,
  dispatchedBody,
  grantsBody,
  mailboxEnrolledBody,
  openAnswer,
  parseBody,
  recalledBody,
  releaseBody,
  signBody,
  statusesBody,
  type RecallOutcome,
  type SessionStatus,
} from "./wire.ts";

export { enrolGateway } from "./client-enrol.ts";
export { probe } from "./client-probe.ts";
export type { Identity, Grant, Release, OpeningProof, DeclaredRecipient, Declared, Channel, ListedRoots } from "./client-types.ts";
export { ticketHash } from "./ticket.ts";
export type { RecallOutcome, SessionStatus } from "./wire.ts";

/** Few kept-alive connections, however many mailboxes stand behind the gateway: a new one per call costs twenty times as much. */
const CONNECTIONS = 8;

export class BrokerClient {
  #channel: Channel;
  #pool: Pool;
  readonly #holder: string;

  constructor(channel: Channel) {
    this.#channel = channel;
    this.#holder = channel.holder ?? randomBytes(18).toString("base64url");
    this.#pool = poolOf(channel);
  }

  /** Another certificate for this channel, for a key that stays here; both count. */
  async renewChannel(key: KeyObject, name: string, signal: AbortSignal): Promise<Certificate> {
    const request = certificationRequest(key, name).toString("base64");
    return parseCertificate((await this.#json("/v1/renewals", enrolledBody, { request }, signal)).certificate);
  }

  /** Goes on with another certificate; calls that run end as they began. */
  use(certificate: Certificate, key: KeyObject): void {
    this.#change({ gateway: this.#id, certificate, key });
  }

  /** Goes on with these roots; calls that run end as they began. */
  trustIn(roots: readonly Certificate[]): void {
    this.#change({ roots });
  }

  #change(changes: Partial<Channel>): void {
    const former = this.#pool;
    this.#channel = { ...this.#channel, ...changes };
    this.#pool = poolOf(this.#channel);
    former.close().catch(() => undefined);
  }

  /** How the broker names this gateway: by its first certificate. */
  get #id(): string {
    return this.#channel.gateway ?? this.#channel.certificate.fingerprint;
  }

  /** How the broker's signatures are verified. */
  get trust(): BrokerTrust {
    const { roots, url, revoked } = this.#channel;
    return { roots, at: this.#channel.now(), broker: url, ...(revoked && { revoked: revoked() }) };
  }

  /** A mailbox's encryption certificate; undefined where it is not enrolled. */
  async lookUp(mailbox: Mailbox, signal: AbortSignal): Promise<Certificate | undefined> {
    try {
      const body = await this.#call("GET", `/v1/directory/${encodeURIComponent(mailbox.address)}`, undefined, signal);
      return parseCertificate(parseBody(directoryBody, body).encryptionCertificate);
    } catch (thrown) {
      if (thrown instanceof Fault && thrown.code === "no-certificate") return undefined;
      throw thrown;
    }
  }

  /** Enrols a mailbox of this gateway (S0) for keys that stay here. */
  async enrolMailbox(
    order: { address: Mailbox; aliases: readonly Mailbox[]; signingKey: KeyObject; encryptionKey: KeyObject },
    signal: AbortSignal,
  ): Promise<{ signing: Certificate; encryption: Certificate }> {
    const body = await this.#json(
      "/v1/mailboxes",
      mailboxEnrolledBody,
      {
        address: order.address.address,
        aliases: order.aliases.map(({ address }) => address),
        signing: certificationRequest(order.signingKey, order.address.address).toString("base64"),
        encryption: certificationRequest(order.encryptionKey, order.address.address).toString("base64"),
      },
      signal,
    );
    return { signing: parseCertificate(body.signingCertificate), encryption: parseCertificate(body.encryptionCertificate) };
  }

  /** S1-S3: declares a letter. @returns one grant for each recipient, in their order. @throws Fault `no-certificate`, `forbidden`, `unavailable` */
  async declare(order: Declared, identity: Identity, signal: AbortSignal): Promise<Grant[]> {
    const head = this.#head("declare");
    const verified = await this.#signed("/v1/declare", identity, signal, {
      ...head,
      letter: order.letter,
      sender: order.sender.address,
      messageId: order.messageId,
      expiresAt: order.expiresAt.toISOString(),
      confirm: order.confirm,
      language: order.language,
      recipients: order.recipients.map(({ address, warnAt, ...rest }) => ({
        ...rest,
        address: address.address,
        warnAt: warnAt?.toISOString(),
      })),
    });
    const { request, grants } = openAnswer(grantsBody, verified, identity.openers);
    const complete = request === head.request && grants.length === order.recipients.length;
    if (!complete || grants.some(({ recipient }, at) => recipient.key !== order.recipients[at]?.address.key)) {
      throw new Fault("internal", "the broker answered another declaration");
    }
    return grants.map((grant) => ({
      ...grant,
      key: ContentKey.adopt(grant.key),
      encryptionCertificate: grant.encryptionCertificate === undefined ? undefined : parseCertificate(grant.encryptionCertificate),
    }));
  }

  /** S6-S7: presents a ticket. @throws Fault `session-gone`, `recalled`: its sender took the letter back, `forbidden`, `unavailable` */
  async present(ticket: Buffer, identity: Identity, signal: AbortSignal): Promise<Release> {
    const head = this.#head("present");
    const verified = await this.#signed("/v1/present", identity, signal, {
      ...head,
      ticket: ticket.toString("base64"),
      holder: this.#holder,
    });
    const release = openAnswer(releaseBody, verified, identity.openers);
    if (release.request !== head.request) throw new Fault("internal", "the broker answered another presentation");
    return { ...release, key: release.key && ContentKey.adopt(release.key) };
  }

  /** S10: confirms that the letter was opened, verified and filed. @returns the evidence's name. @throws Fault `session-gone`, `unavailable` */
  async confirm(
    nextTicket: Buffer,
    proof: OpeningProof,
    identity: Identity,
    signal: AbortSignal,
  ): Promise<{ evidence: string; confirmedAt: Date }> {
    const head = this.#head("confirm");
    const body = { ...head, nextTicket: nextTicket.toString("base64"), result: "opened", ...encoded(proof) };
    const { content } = await this.#signed("/v1/confirm", identity, signal, body);
    const answer = parseBody(confirmedBody, content);
    if (answer.request !== head.request) throw new Fault("internal", "the broker answered another confirmation");
    return answer;
  }

  /** Takes letters of this mailbox back whose keys were not given out. @returns what came of it, in the order of the tickets */
  async recall(tickets: readonly Buffer[], identity: Identity, signal: AbortSignal): Promise<readonly RecallOutcome[]> {
    const head = this.#head("recall");
    const { content } = await this.#signed("/v1/recall", identity, signal, { ...head, tickets: tickets.map(base64Of) });
    const { request, outcomes } = parseBody(recalledBody, content);
    if (request !== head.request || outcomes.length !== tickets.length) throw new Fault("internal", "the broker answered another recall");
    return outcomes;
  }

  /** How letters of this mailbox stand. @returns in the order of the tickets; `gone` for those that it did not send too */
  async status(tickets: readonly Buffer[], identity: Identity, signal: AbortSignal): Promise<readonly SessionStatus[]> {
    const head = this.#head("status");
    const { content } = await this.#signed("/v1/status", identity, signal, { ...head, tickets: tickets.map(base64Of) });
    const { request, sessions } = parseBody(statusesBody, content);
    if (request !== head.request || sessions.length !== tickets.length) throw new Fault("internal", "the broker answered another question");
    return sessions;
  }

  /** Reports that these letters are on their way. @returns the places of those that nobody can open any more */
  async dispatched(tickets: readonly Buffer[], signal: AbortSignal): Promise<readonly number[]> {
    return parseBody(dispatchedBody, await this.#call("POST", "/v1/dispatched", jsonOf(tickets), signal)).lost;
  }

  /** Takes back letters that no next hop took. */
  async withdraw(tickets: readonly Buffer[], signal: AbortSignal): Promise<void> {
    await this.#call("POST", "/v1/withdraw", jsonOf(tickets), signal);
  }

  /** What the broker's root has revoked, as it signed it, DER; who asks verifies it. */
  revocationList(signal: AbortSignal): Promise<Buffer> {
    return this.#call("GET", "/v1/crl", undefined, signal);
  }

  /** The broker's roots as it names them. */
  async authority(signal: AbortSignal): Promise<ListedRoots> {
    return rootsIn(parseBody(authorityBody, await this.#call("GET", "/v1/authority", undefined, signal)));
  }

  /** Whether the broker can serve right now. @throws Fault `unavailable` */
  async ready(signal: AbortSignal): Promise<void> {
    await this.#call("GET", "/v1/ready", undefined, signal);
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
  }

  #head<Step extends string>(step: Step): { step: Step; broker: string; gateway: string; request: string; time: string } {
    return {
      step,
      broker: this.#channel.url,
      gateway: this.#id,
      request: randomBytes(18).toString("base64url"),
      time: this.#channel.now().toISOString(),
    };
  }

  async #signed(path: string, identity: Identity, signal: AbortSignal, body: object): Promise<Verified> {
    const signed = signBody(body, identity.signer, this.#channel.now());
    const answer = await this.#call("POST", path, { type: SIGNED_TYPE, bytes: signed }, signal);
    try {
      return await this.#verified(answer, signal);
    } catch (cause) {
      const { revoked: _revoked, ...trust } = this.trust;
      verifyAsBroker(answer, trust); // throws, unless all that is wrong is a revocation: that is the operator's to mend, and letters wait
      throw new Fault("unavailable", "the broker's own certificate is revoked", { cause });
    }
  }

  /** A broker that went on to another root signs under it before anybody else has a certificate of it. */
  async #verified(answer: Buffer, signal: AbortSignal): Promise<Verified> {
    try {
      return verifyAsBroker(answer, this.trust);
    } catch (cause) {
      if (!(await this.#channel.learn?.(signal))) throw cause;
      return verifyAsBroker(answer, this.trust);
    }
  }

  async #json<T>(path: string, schema: z.ZodType<T>, body: object, signal: AbortSignal): Promise<T> {
    return parseBody(
      schema,
      await this.#call("POST", path, { type: "application/json", bytes: Buffer.from(JSON.stringify(body)) }, signal),
    );
  }

  /** Every step can be asked for twice, so a line that breaks is tried once more with the same octets. */
  async #call(method: "GET" | "POST", path: string, body: Body | undefined, signal: AbortSignal): Promise<Buffer> {
    try {
      return await within(this.#channel.timeout, signal, async (limit) => {
        const ask = () => call(this.#pool, method, path, body, limit);
        return ask().catch((thrown: unknown) => (isBroken(thrown) && !limit.aborted ? ask() : Promise.reject(thrown)));
      });
    } catch (thrown) {
      if (!(thrown instanceof Fault && thrown.code === "unauthenticated")) throw thrown;
      throw new Fault("unavailable", "the broker does not accept this gateway's certificate", { cause: thrown }); // not the user's to mend
    }
  }
}

function poolOf({ url, roots, certificate, key, timeout }: Channel): Pool {
  const ca = roots.map(({ pem }) => pem);
  return new Pool(url, {
    connections: CONNECTIONS,
    connect: { ca, cert: certificate.pem, key: key.export({ type: "pkcs8", format: "pem" }), minVersion: "TLSv1.3" },
    headersTimeout: timeout,
    bodyTimeout: timeout,
    keepAliveTimeout: 4_000, // below the server's 5 s, so that no call meets a closing connection
  });
}

const base64Of = (octets: Buffer): string => octets.toString("base64");

function encoded({ receipt, openingValue }: OpeningProof): { receipt: string; openingValue?: string } {
  return { receipt: receipt.toString("base64"), ...(openingValue && { openingValue: openingValue.toString("base64") }) };
}

function jsonOf(tickets: readonly Buffer[]): Body {
  return { type: "application/json", bytes: Buffer.from(JSON.stringify({ tickets: tickets.map(base64Of) })) };
}
