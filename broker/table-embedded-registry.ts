/** Who may take part, kept in the embedded table: gateways, mailboxes and one-time invites (enrolment, before S1); and what is revoked. */
import { hash } from "node:crypto";
import { EmbeddedSteps } from "./table-embedded-step.ts";
import { CLEAR_AFTER, gatewayOf, mailboxOf, revocationOf, usableInvite, useOf } from "./table-record.ts";
import type { GatewayRecord, Invite, InviteUse, MailboxRecord, Registry, RegistryView, Revocation } from "./table.ts";

export class EmbeddedRegistry extends EmbeddedSteps implements Registry {
  async view(): Promise<RegistryView> {
    return this;
  }

  async addInvite(invite: Invite): Promise<void> {
    const { token, scope, expiresAt } = invite;
    this.#put("invite", token, { token, scope, expiresAt });
  }

  async findInvite(token: string, at: number): Promise<Invite | undefined> {
    const json = this.record("invite", token);
    return json === undefined ? undefined : usableInvite(json, at);
  }

  async takeInvite(token: string, at: number, use: InviteUse): Promise<{ invite: Invite; use: InviteUse } | undefined> {
    return this.step(() => {
      const json = this.record("invite", token);
      const invite = json === undefined ? undefined : usableInvite(json, at);
      if (!invite) return undefined;
      const { key, certificate } = use;
      const used = this.record("enrolment", token) ?? this.putText("enrolment", token, JSON.stringify({ key, certificate }));
      const first = useOf(used);
      return first.key === key ? { invite, use: first } : undefined;
    });
  }

  /** Invites that expired a while ago, and what they were used for. */
  protected clearInvites(at: number): void {
    const gone = `DELETE FROM registry WHERE kind IN ('invite', 'enrolment') AND name IN (SELECT name FROM registry
      WHERE kind = 'invite' AND CASE WHEN json_valid(record) THEN json_extract(record, '$.expiresAt') <= ? END)`;
    this.file.step(() => this.file.run(gone, at - CLEAR_AFTER));
  }

  async putGateway(gateway: GatewayRecord): Promise<void> {
    this.#put("gateway", gateway.fingerprint, gateway);
  }

  async findGateway(fingerprint: string): Promise<GatewayRecord | undefined> {
    const json = this.record("gateway", fingerprint);
    return json === undefined ? undefined : gatewayOf(json);
  }

  async gateways(): Promise<GatewayRecord[]> {
    return this.#every("gateway").map(gatewayOf);
  }

  async putMailbox(mailbox: MailboxRecord, before?: MailboxRecord): Promise<boolean> {
    return this.step(() => {
      const known = this.record("mailbox", mailbox.address);
      if (known && mailboxOf(known).signingCertificate !== before?.signingCertificate) return false;
      if (!known && before) return false;
      this.#put("mailbox", mailbox.address, mailbox);
      return true;
    });
  }

  async findMailbox(address: string): Promise<MailboxRecord | undefined> {
    const json = this.record("mailbox", address);
    return json === undefined ? undefined : mailboxOf(json);
  }

  async mailboxes(): Promise<MailboxRecord[]> {
    return this.#every("mailbox").map(mailboxOf);
  }

  /** With its audit entry, so that a table that went back before it is noticed. */
  async revoke({ name, reason, subject, at }: Revocation, who: string): Promise<Revocation> {
    return this.step(() => {
      const known = this.record("revocation", name);
      if (known !== undefined) return revocationOf(known);
      this.audit("revoked", hash("sha256", name), at, who);
      return revocationOf(this.putText("revocation", name, JSON.stringify({ name, reason, subject, at })));
    });
  }

  async isRevoked(names: readonly string[]): Promise<boolean> {
    return names.some((name) => this.record("revocation", name) !== undefined);
  }

  async revocations(): Promise<Revocation[]> {
    return this.#every("revocation").map(revocationOf);
  }

  #every(kind: string): string[] {
    return this.file.rows("SELECT record FROM registry WHERE kind = ?", kind).map(({ record }) => String(record));
  }

  #put(kind: string, name: string, record: GatewayRecord | MailboxRecord | Invite): void {
    this.putText(kind, name, JSON.stringify(record));
  }
}
