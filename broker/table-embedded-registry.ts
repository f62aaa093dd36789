/** Who may take part, kept in the embedded table: gateways, mailboxes and one-time invites (enrolment, before S1). */
import { EmbeddedFile } from "./table-embedded-file.ts";
import { gatewayOf, mailboxOf, usableInvite } from "./table-record.ts";
import type { GatewayRecord, Invite, MailboxRecord, Registry } from "./table.ts";

export class EmbeddedRegistry implements Registry {
  protected readonly file: EmbeddedFile;

  constructor(file: EmbeddedFile) {
    this.file = file;
  }

  async addInvite(invite: Invite): Promise<void> {
    const { token, scope, expiresAt } = invite;
    this.#put("invite", token, { token, scope, expiresAt });
  }

  async takeInvite(token: string, at: number): Promise<Invite | undefined> {
    return this.file.step(() => {
      const json = this.record("invite", token);
      this.file.run("DELETE FROM registry WHERE kind = 'invite' AND name = ?", token);
      return json === undefined ? undefined : usableInvite(json, at);
    });
  }

  async putGateway(gateway: GatewayRecord): Promise<void> {
    this.#put("gateway", gateway.fingerprint, gateway);
  }

  async findGateway(fingerprint: string): Promise<GatewayRecord | undefined> {
    const json = this.record("gateway", fingerprint);
    return json === undefined ? undefined : gatewayOf(json);
  }

  async putMailbox(mailbox: MailboxRecord): Promise<void> {
    this.#put("mailbox", mailbox.address, mailbox);
  }

  async findMailbox(address: string): Promise<MailboxRecord | undefined> {
    const json = this.record("mailbox", address);
    return json === undefined ? undefined : mailboxOf(json);
  }

  protected putText(kind: string, name: string, text: string): string {
    const put = "INSERT INTO registry (kind, name, record) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET record = excluded.record";
    this.file.run(put, kind, name, text);
    return text;
  }

  protected record(kind: string, name: string): string | undefined {
    return this.file.row("SELECT record FROM registry WHERE kind = ? AND name = ?", kind, name)?.["record"] as string | undefined;
  }

  #put(kind: string, name: string, record: GatewayRecord | MailboxRecord | Invite): void {
    this.putText(kind, name, JSON.stringify(record));
  }
}
