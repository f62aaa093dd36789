/** Certificates learned from signed mail: kept aside until an administrator approves them, then used for the enclosed form. */
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { reasonOf, type Log } from "../config/log.ts";
import type { GatewayConfig } from "../config/schema.ts";
import { parseAddressList } from "../mime/address.ts";
import { parseCertificate, type Certificate } from "../mime/certificate.ts";
import { decodedBody, parseEntity, splitMultipart } from "../mime/entity.ts";
import { Fault } from "../mime/fault.ts";
import { onlyValue } from "../mime/headers.ts";
import { verifySignature } from "../mime/sign.ts";
import { makeFolder, namesIn, readIfPresent, writeDurably } from "./durable.ts";
import type { Letterbox, Seen } from "./mailbox.ts";

const PEM = ".pem";
/** A signed mail larger than this is not read for its certificate. */
const LARGEST_OCTETS = 4 << 20;

/**
 * The certificate of whoever signed a mail: the signature holds, and the certificate names the mail's only author.
 * @throws Fault `malformed`, `signature-invalid`
 */
function certificateIn(mail: Buffer): Certificate {
  const entity = parseEntity(mail);
  const [content, file] = entity.contentType.type === "multipart/signed" ? splitMultipart(entity) : [];
  if (!content || !file) throw new Fault("malformed", "not a signed mail");
  const { signer } = verifySignature(decodedBody(parseEntity(file)), content);
  const [author, ...others] = parseAddressList(onlyValue(entity.fields, "from") ?? "");
  if (!author || others.length > 0 || !signer.mailboxes.includes(author.key))
    throw new Fault("signature-invalid", "the signer is not the author");
  return signer;
}

/** The certificates of one gateway that wait for approval. */
export class Learned {
  readonly #folder: string;
  readonly #approved: string | undefined;
  readonly #log: Log;

  constructor(config: GatewayConfig, log: Log) {
    this.#folder = join(config.data, "learned");
    this.#approved = config.policy.certificates;
    this.#log = log;
  }

  /** Looks at a signed mail that came in; without a folder for approved certificates nothing is learned. */
  async receive(mailbox: Pick<Letterbox, "fetch">, { uid, octets }: Seen): Promise<void> {
    if (this.#approved === undefined || octets > LARGEST_OCTETS) return;
    const mail = await mailbox.fetch(uid);
    if (mail)
      await this.learn(mail).catch((thrown: unknown) =>
        this.#log.info({ event: "certificate.not-learned", uid, reason: reasonOf(thrown) }),
      );
  }

  /** Keeps the signer's certificate aside, unless it is approved already. @throws Fault as `certificateIn` */
  async learn(mail: Buffer): Promise<Certificate> {
    const certificate = certificateIn(mail);
    const name = `${certificate.fingerprint}${PEM}`;
    const known = this.#approved !== undefined && (await readIfPresent(join(this.#approved, name)));
    if (known || (await readIfPresent(join(this.#folder, name)))) return certificate;
    await makeFolder(this.#folder);
    await writeDurably(join(this.#folder, name), [Buffer.from(certificate.pem)]);
    this.#log.info({ event: "certificate.learned", fingerprint: certificate.fingerprint, mailbox: certificate.mailboxes[0] });
    return certificate;
  }

  /** What waits for approval. */
  async waiting(): Promise<Certificate[]> {
    const names = await namesIn(this.#folder, PEM);
    const approved = this.#approved === undefined ? [] : await namesIn(this.#approved, PEM);
    const pems = await Promise.all(
      names.filter((name) => !approved.includes(name)).map((name) => readIfPresent(join(this.#folder, `${name}${PEM}`))),
    );
    return pems.flatMap((pem) => (pem ? [parseCertificate(pem)] : []));
  }

  /** Approves a certificate by its whole fingerprint. @throws Fault `malformed`: unknown, or no folder is configured */
  async approve(fingerprint: string): Promise<Certificate> {
    const name = fingerprint.replaceAll(":", "").toLowerCase();
    const found = (await this.waiting()).find((certificate) => certificate.fingerprint === name);
    if (!found) throw new Fault("malformed", `no certificate ${name} waits for approval`);
    if (this.#approved === undefined) throw new Fault("malformed", "set policy.certificates to a folder first");
    await makeFolder(this.#approved);
    await copyFile(join(this.#folder, `${name}${PEM}`), join(this.#approved, `${name}${PEM}`));
    return found;
  }
}
