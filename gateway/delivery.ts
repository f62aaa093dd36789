/** The delivery server behind the inbound doors: a connection for each transaction, by LMTP (RFC 2033) or SMTP, and what its answers mean for the mail. */
import SMTPConnection from "nodemailer/lib/smtp-connection";
import { Fault } from "../mime/fault.ts";
import { answerIn, type envelopeOf } from "./next-hop.ts";
import { Declined } from "./reply.ts";

export interface DeliveryServer {
  readonly host: string;
  readonly port: number;
  readonly protocol: "lmtp" | "smtp";
  readonly tls: "implicit" | "starttls" | "none";
  readonly ca: string | undefined;
  /** How we greet. */
  readonly name: string;
}

/** Milliseconds. Ten minutes for the final dot (RFC 5321 §4.5.3.2.6); whoever hands over to us must wait a little longer. */
const TIMEOUTS = { connectionTimeout: 30_000, greetingTimeout: 60_000, socketTimeout: 10 * 60_000 };
/** Says that it ends the connection, not what it thinks of the mail. */
const CLOSING = 421;

/** What the library keeps to itself of a connection. */
interface Inside {
  readonly _ehloLines?: readonly string[];
}

export class Delivery {
  readonly #server: DeliveryServer;
  #offersDsn = false;

  constructor(server: DeliveryServer) {
    this.#server = server;
  }

  /** Whether it took DSN parameters (RFC 3461) when it was last greeted; what it does not take, nobody should leave to us. */
  get offersDsn(): boolean {
    return this.#offersDsn;
  }

  get where(): string {
    return `${this.#server.host}:${this.#server.port}`;
  }

  /**
   * Hands a mail over to its one recipient.
   * @throws Declined where the server said so; Fault `unavailable` where nobody knows whether it took the mail
   */
  async deliver(envelope: ReturnType<typeof envelopeOf>, mail: Buffer, signal: AbortSignal): Promise<void> {
    await this.#converse(signal, async (connection) => {
      const { rejectedErrors } = await promised<{ rejectedErrors?: readonly Error[] | undefined }>((done) =>
        connection.send({ ...envelope, use8BitMime: true }, mail, done),
      );
      const [refusal] = rejectedErrors ?? []; // of LMTP, after the final dot (RFC 2033 §4.2)
      if (refusal) throw refusal;
    });
  }

  /** Greets it, with TLS as configured, and goes. @throws Fault `unavailable` */
  async look(signal: AbortSignal): Promise<string> {
    await this.#converse(signal, async () => undefined);
    return `${this.where} answers`;
  }

  async #converse(signal: AbortSignal, work: (connection: SMTPConnection) => Promise<void>): Promise<void> {
    const { host, port, protocol, tls, ca, name } = this.#server;
    const connection = new SMTPConnection({
      host,
      port,
      name,
      lmtp: protocol === "lmtp",
      secure: tls === "implicit",
      requireTLS: tls === "starttls", // never falls back to clear text
      ignoreTLS: tls === "none",
      tls: { rejectUnauthorized: true, ...(ca !== undefined && { ca }) }, // whatever NODE_TLS_REJECT_UNAUTHORIZED says
      ...TIMEOUTS,
    });
    const stop = (): void => connection.close();
    const ended = new Promise<never>((_resolve, reject) => {
      connection.on("error", reject);
      connection.on("end", () => reject(new Error("the connection ended")));
    });
    ended.catch(() => undefined);
    signal.addEventListener("abort", stop);
    try {
      signal.throwIfAborted();
      await Promise.race([promised<unknown>((done) => connection.connect(done)), ended]);
      const { _ehloLines: offered } = connection as unknown as Inside; // the library declares it private
      this.#offersDsn = offered?.some((line) => /^DSN$/iu.test(line)) ?? false;
      await Promise.race([work(connection), ended]);
      connection.quit();
    } catch (cause) {
      connection.close();
      throw this.#meant(cause);
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  /** What the server says to the envelope or the message is about the mail; anything else is about us, and mended by somebody. */
  #meant(cause: unknown): Error {
    const { code, answer, isFinal } = answerIn(cause);
    const isLater = code !== undefined && code >= 400 && code < 500 && code !== CLOSING;
    if (code !== undefined && (isFinal || isLater)) return new Declined(code, answer);
    const advice = "The delivery server cannot be reached; the message was not accepted, try again later";
    return new Fault("unavailable", `the delivery server ${this.where} did not take the mail`, { cause, advice });
  }
}

/** A step of the library, which calls back. */
function promised<T>(step: (done: (error: Error | null | undefined, value?: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => step((error, value) => (error ? reject(error) : resolve(value as T))));
}
