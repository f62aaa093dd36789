/** Who may take part, kept in Redis: gateways, mailboxes and one-time invites, one key each (enrolment, before S1); and what is revoked. */
import { hash, randomUUID } from "node:crypto";
import { BUCKETS, mastersOf } from "./table-redis-address.ts";
import type { RedisLink } from "./table-redis-link.ts";
import { CLEAR_AFTER, gatewayOf, mailboxOf, revocationOf, usableInvite, useOf } from "./table-record.ts";
import { RememberedRegistry } from "./table-redis-view.ts";
import type { GatewayRecord, Invite, InviteUse, MailboxRecord, Registry, RegistryView, Revocation } from "./table.ts";
import type { TableWitness } from "./witness.ts";

/** A change whose writer died before it said so counts after this time at the latest. */
const REMEMBERED_MS = 5_000;

export class RedisRegistry implements Registry {
  readonly #link: RedisLink;
  readonly #prefix: string;
  readonly #witness: TableWitness | undefined;
  #view: { readonly change: string | null; readonly since: number; readonly remembered: RememberedRegistry } | undefined;

  constructor(link: RedisLink, prefix: string, witness: TableWitness | undefined) {
    this.#link = link;
    this.#prefix = prefix;
    this.#witness = witness;
  }

  /** One question to Redis, and what else is asked has the answer of the request before, as long as nothing changed. */
  async view(): Promise<RegistryView> {
    const change = await this.#link.ask((redis) => redis.get(this.#changeKey));
    const now = performance.now();
    if (!this.#view || this.#view.change !== change || now - this.#view.since > REMEMBERED_MS)
      this.#view = { change, since: now, remembered: new RememberedRegistry(this) };
    return this.#view.remembered;
  }

  async addInvite(invite: Invite): Promise<void> {
    const { token, scope, expiresAt } = invite;
    const json = JSON.stringify({ token, scope, expiresAt });
    await this.#link.write((pipeline) => pipeline.set(this.#key("invite", token), json, "PXAT", expiresAt + CLEAR_AFTER));
  }

  async findInvite(token: string, at: number): Promise<Invite | undefined> {
    const json = await this.#get("invite", token);
    return json === null ? undefined : usableInvite(json, at);
  }

  async takeInvite(token: string, at: number, use: InviteUse): Promise<{ invite: Invite; use: InviteUse } | undefined> {
    const invite = await this.findInvite(token, at);
    if (!invite) return undefined;
    const { key, certificate } = use;
    const [place, json] = [this.#key("enrolment", token), JSON.stringify({ key, certificate })];
    await this.#link.write((pipeline) => pipeline.set(place, json, "PXAT", invite.expiresAt + CLEAR_AFTER, "NX")); // the first one wins
    const first = useOf((await this.#get("enrolment", token)) ?? "");
    return first.key === key ? { invite, use: first } : undefined;
  }

  async putGateway(gateway: GatewayRecord): Promise<void> {
    await this.#link.write((pipeline) => pipeline.set(this.#key("gateway", gateway.fingerprint), JSON.stringify(gateway)));
    await this.#tellChange();
  }

  async findGateway(fingerprint: string): Promise<GatewayRecord | undefined> {
    const json = await this.#get("gateway", fingerprint);
    return json === null ? undefined : gatewayOf(json);
  }

  async gateways(): Promise<GatewayRecord[]> {
    return (await this.#every("gateway")).map(gatewayOf);
  }

  async putMailbox(mailbox: MailboxRecord, before?: MailboxRecord): Promise<boolean> {
    const given = [before?.signingCertificate ?? "", JSON.stringify(mailbox)];
    const { answer } = await this.#link.call("put_mailbox", [this.#key("mailbox", mailbox.address)], given);
    if (answer !== 1) return false;
    await this.#tellChange();
    return true;
  }

  async findMailbox(address: string): Promise<MailboxRecord | undefined> {
    const json = await this.#get("mailbox", address);
    return json === null ? undefined : mailboxOf(json);
  }

  async mailboxes(): Promise<MailboxRecord[]> {
    return (await this.#every("mailbox")).map(mailboxOf);
  }

  /** With its audit entry, so that a table that went back before it is noticed. */
  async revoke({ name, reason, subject, at }: Revocation, who: string): Promise<Revocation> {
    const digest = hash("sha256", name);
    const bucket = bucketFor(name);
    const keys = [revokedKey(this.#prefix, bucket), `${this.#prefix}aud:{b${bucket}}`, `${this.#prefix}head:{b${bucket}}`];
    const { head, answer } = await this.#link.call("revoke", keys, [digest, at, name, JSON.stringify({ name, reason, subject, at }), who]);
    if (head !== "") this.#witness?.saw(bucket, head);
    await this.#tellChange();
    return revocationOf(String(answer));
  }

  async isRevoked(names: readonly string[]): Promise<boolean> {
    const place = (name: string): string => revokedKey(this.#prefix, bucketFor(name));
    const found = await this.#link.ask((redis) => Promise.all(names.map((name) => redis.hexists(place(name), name))));
    return found.includes(1);
  }

  async revocations(): Promise<Revocation[]> {
    const buckets = await this.#link.ask((redis) => Promise.all(BUCKETS.map((bucket) => redis.hgetall(revokedKey(this.#prefix, bucket)))));
    return buckets.flatMap((bucket) => Object.values(bucket)).map(revocationOf);
  }

  /** After the change: who meets the new value here meets the new record, too. */
  async #tellChange(): Promise<void> {
    await this.#link.write((pipeline) => pipeline.set(this.#changeKey, randomUUID()));
  }

  get #changeKey(): string {
    return `${this.#prefix}registry`;
  }

  #get(kind: string, name: string): Promise<string | null> {
    return this.#link.ask((redis) => redis.get(this.#key(kind, name)));
  }

  async #every(kind: string): Promise<string[]> {
    const records: string[] = [];
    for await (const { name } of keysOf(this.#link, this.#key(kind, ""))) {
      const record = await this.#get(kind, name);
      if (record !== null) records.push(record);
    }
    return records;
  }

  #key(kind: string, name: string): string {
    return `${this.#prefix}${kind}:${name}`;
  }
}

/** Beside the audit log that its entry goes into. */
export function bucketFor(name: string): string {
  return hash("sha256", name).slice(0, 2);
}

/** Hash of what is revoked in one bucket: name -> record. */
export function revokedKey(prefix: string, bucket: string): string {
  return `${prefix}revocation:{b${bucket}}`;
}

/** Every key that begins so. */
export async function* keysOf(link: RedisLink, start: string): AsyncGenerator<{ whole: string; name: string }> {
  const pattern = `${start.replaceAll(/[*?[\]\\]/gu, "\\$&")}*`;
  const found = new Set<string>();
  for (const node of await link.ask(async (redis) => mastersOf(redis))) {
    let cursor = "0";
    do {
      const [next, keys] = await link.ask(() => node.scan(cursor, "MATCH", pattern, "COUNT", 1_000));
      for (const key of keys) found.add(key);
      cursor = next;
    } while (cursor !== "0");
  }
  for (const whole of found) yield { whole, name: whole.slice(start.length) };
}
