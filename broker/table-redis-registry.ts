/** Who may take part, kept in Redis: gateways, mailboxes and one-time invites, one key each (enrolment, before S1). */
import type { RedisLink } from "./table-redis-link.ts";
import { gatewayOf, mailboxOf, usableInvite } from "./table-record.ts";
import type { GatewayRecord, Invite, MailboxRecord, Registry } from "./table.ts";

/** The broker's clock decides whether an invite has expired; Redis only clears it away, and its clock may be ahead. */
const CLEAR_AFTER = 86_400_000;

export class RedisRegistry implements Registry {
  readonly #link: RedisLink;
  readonly #prefix: string;

  constructor(link: RedisLink, prefix: string) {
    this.#link = link;
    this.#prefix = prefix;
  }

  async addInvite(invite: Invite): Promise<void> {
    const { token, scope, expiresAt } = invite;
    const json = JSON.stringify({ token, scope, expiresAt });
    await this.#link.write((pipeline) => pipeline.set(this.#key("invite", token), json, "PXAT", expiresAt + CLEAR_AFTER));
  }

  async takeInvite(token: string, at: number): Promise<Invite | undefined> {
    const json = await this.#link.write<string | null>((pipeline) => pipeline.getdel(this.#key("invite", token)));
    return json === null ? undefined : usableInvite(json, at);
  }

  async putGateway(gateway: GatewayRecord): Promise<void> {
    await this.#put("gateway", gateway.fingerprint, gateway);
  }

  async findGateway(fingerprint: string): Promise<GatewayRecord | undefined> {
    const json = await this.#get("gateway", fingerprint);
    return json === null ? undefined : gatewayOf(json);
  }

  async putMailbox(mailbox: MailboxRecord): Promise<void> {
    await this.#put("mailbox", mailbox.address, mailbox);
  }

  async findMailbox(address: string): Promise<MailboxRecord | undefined> {
    const json = await this.#get("mailbox", address);
    return json === null ? undefined : mailboxOf(json);
  }

  async #put(kind: string, name: string, record: GatewayRecord | MailboxRecord): Promise<void> {
    await this.#link.write((pipeline) => pipeline.set(this.#key(kind, name), JSON.stringify(record)));
  }

  #get(kind: string, name: string): Promise<string | null> {
    return this.#link.ask((redis) => redis.get(this.#key(kind, name)));
  }

  #key(kind: string, name: string): string {
    return `${this.#prefix}${kind}:${name}`;
  }
}
