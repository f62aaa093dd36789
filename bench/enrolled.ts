/** A gateway without doors: enrolled with the broker, with mailboxes whose keys are here. */
import type { KeyObject } from "node:crypto";
import { BrokerClient, enrolGateway, type Identity } from "../broker/client.ts";
import { parseMailbox, type Mailbox } from "../mime/address.ts";
import type { Certificate } from "../mime/certificate.ts";
import { newKey } from "../mime/request.ts";
import type { BrokerPlace } from "./broker.ts";

const signal = new AbortController().signal;

export interface Member {
  readonly mailbox: Mailbox;
  readonly identity: Identity;
}

export interface Enrolled {
  readonly broker: Pick<BrokerPlace, "url" | "doors">;
  readonly roots: readonly Certificate[];
  readonly certificate: Certificate;
  readonly key: KeyObject;
  readonly client: BrokerClient;
  enrol(address: string): Promise<Member>;
}

/** @param domains what it may speak for */
export async function enrolHere(broker: BrokerPlace, ...domains: readonly string[]): Promise<Enrolled> {
  const key = newKey();
  const order = { url: broker.url, name: `gateway.${domains[0]}`, key, ...broker.invite(...domains) };
  const { roots, certificate } = await enrolGateway(order, signal);
  const client = new BrokerClient({ url: broker.url, roots, certificate, key, timeout: 30_000, now: () => new Date() });
  return {
    broker,
    roots,
    certificate,
    key,
    client,
    async enrol(address) {
      const [mailbox, signingKey, encryptionKey] = [parseMailbox(address), newKey(), newKey()];
      const { signing, encryption } = await client.enrolMailbox({ address: mailbox, aliases: [], signingKey, encryptionKey }, signal);
      const identity = { signer: { key: signingKey, certificate: signing }, openers: [{ key: encryptionKey, certificate: encryption }] };
      return { mailbox, identity };
    },
  };
}
