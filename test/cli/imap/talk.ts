/** Helpers of the IMAP tests: a server with one user, a client that talks lines, and a certificate for STARTTLS. */

import { connect, type Socket } from "node:net";
import { KeyObject, webcrypto, X509Certificate } from "node:crypto";
import * as asn1js from "asn1js";
import { ImapFlow } from "imapflow";
import * as pkijs from "pkijs";
import { startImapServer, type ImapServer, type ImapServerOptions } from "../../../cli/demo/imap/server.ts";
import { MailStore } from "../../../cli/demo/imap/store.ts";

export const USER = "bob@b.example";
export const PASSWORD = 'se "cret\\';

/** A running server with an empty mailbox of bob's, and what was opened on it; faults of the server fail `close`. */
export class House {
  readonly store = new MailStore();
  readonly #faults: unknown[] = [];
  readonly #opened: { close(): void }[] = [];
  #server: ImapServer | undefined;

  static async open(options: Partial<ImapServerOptions> = {}): Promise<House> {
    const house = new House();
    house.store.addUser(USER, PASSWORD);
    house.#server = await startImapServer({ store: house.store, report: (fault) => house.#faults.push(fault), ...options });
    return house;
  }

  get port(): number {
    return this.#server?.port ?? 0;
  }

  /** A client past its greeting. */
  async talker(): Promise<Talker> {
    const talker = new Talker(connect(this.port, "127.0.0.1"));
    this.#opened.push(talker);
    await talker.until(/^\* OK .*\r\n/);
    return talker;
  }

  /** A client that has logged in and opened a folder. */
  async reader(folder = "INBOX"): Promise<Talker> {
    const talker = await this.talker();
    await talker.command(String.raw`LOGIN ${USER} "se \"cret\\"`);
    await talker.command(`SELECT "${folder}"`);
    return talker;
  }

  async flow(): Promise<ImapFlow> {
    const client = new ImapFlow({
      host: "127.0.0.1",
      port: this.port,
      secure: false,
      auth: { user: USER, pass: PASSWORD },
      tls: { rejectUnauthorized: false },
      logger: false,
      disableAutoIdle: true,
    });
    this.#opened.push(client);
    await client.connect();
    return client;
  }

  async close(): Promise<void> {
    for (const each of this.#opened) each.close();
    await this.#server?.close();
    if (this.#faults.length > 0) throw new AggregateError(this.#faults, "the server failed inside");
  }
}

/** A client that says and hears lines; one character is one octet. */
export class Talker {
  readonly socket: Socket;
  readonly ended: Promise<unknown>;
  #heard = "";
  #commands = 0;
  #listen: () => void = () => undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    this.ended = new Promise((resolve) => {
      socket.once("close", resolve);
    });
    socket.on("data", (chunk: Buffer) => {
      this.#heard += chunk.toString("latin1");
      this.#listen();
    });
    socket.on("error", () => undefined);
    socket.on("close", () => this.#listen());
  }

  send(text: string | Buffer): void {
    this.socket.write(typeof text === "string" ? Buffer.from(text, "latin1") : text);
  }

  /** All that is heard up to and with a match of the pattern. */
  async until(pattern: RegExp): Promise<string> {
    for (;;) {
      const found = pattern.exec(this.#heard);
      if (found !== null) {
        const end = found.index + found[0].length;
        const text = this.#heard.slice(0, end);
        this.#heard = this.#heard.slice(end);
        return text;
      }
      if (this.socket.closed) throw new Error(`closed before ${String(pattern)}; heard: ${this.#heard}`);
      await new Promise<void>((resolve) => {
        this.#listen = resolve;
      });
    }
  }

  /** Send a command; the answer without its tag: untagged lines, then OK, NO or BAD. */
  async command(text: string): Promise<string> {
    this.#commands += 1;
    const tag = `t${this.#commands}`;
    this.send(`${tag} ${text}\r\n`);
    const answer = await this.until(new RegExp(`(?:^|\\r\\n)${tag} .*\\r\\n`));
    return answer.replace(new RegExp(`(^|\\r\\n)${tag} `), "$1");
  }

  close(): void {
    this.socket.destroy();
  }
}

/** A key and a self-signed certificate, in PEM. */
export async function selfSigned(): Promise<{ key: string; cert: string }> {
  const algorithm = { name: "ECDSA", namedCurve: "P-256" };
  const { privateKey, publicKey } = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const certificate = new pkijs.Certificate();
  certificate.version = 2;
  certificate.serialNumber = new asn1js.Integer({ value: 1 });
  const name = new pkijs.AttributeTypeAndValue({ type: "2.5.4.3", value: new asn1js.Utf8String({ value: "localhost" }) });
  certificate.subject.typesAndValues.push(name);
  certificate.issuer.typesAndValues.push(name);
  certificate.notBefore.value = new Date(Date.now() - 60_000);
  certificate.notAfter.value = new Date(Date.now() + 3_600_000);
  await certificate.subjectPublicKeyInfo.importKey(publicKey);
  await certificate.sign(privateKey, "SHA-256");
  const pem = KeyObject.from(privateKey).export({ type: "pkcs8", format: "pem" });
  return { key: String(pem), cert: new X509Certificate(Buffer.from(certificate.toSchema(true).toBER())).toString() };
}

/** Lines of a message with the line ends of mail. */
export function mail(...lines: readonly string[]): Buffer {
  return Buffer.from(lines.join("\r\n"), "latin1");
}

/** A short message with a subject. */
export function note(subject: string): Buffer {
  return mail(
    "From: Alice <alice@a.example>",
    `To: ${USER}`,
    `Subject: ${subject}`,
    "Date: Mon, 3 Feb 2025 23:30:00 -0500",
    "",
    "hello",
    "",
  );
}
