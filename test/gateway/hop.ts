/** A next hop for tests: a real SMTP server that keeps what it takes and answers as it was told. */
import { SMTPServer } from "smtp-server";
import { Happenings } from "../broker/happenings.ts";
import { freePort } from "../servers/ports.ts";

/** One attempt to hand a mail over, taken or not. */
export interface Attempt {
  readonly from: string;
  readonly to: readonly string[];
  readonly mail: Buffer;
  /** Parameters of MAIL FROM, and the DSN parameters of the only recipient. */
  readonly mailParameters: Readonly<Record<string, unknown>>;
  readonly dsn: unknown;
  /** What was answered: empty where it was taken. */
  readonly answer: string;
}

/** A reply such as "451 4.2.1 Later"; undefined takes it. */
type Reply = string | undefined;

export interface HopOptions {
  readonly port?: number;
  readonly user?: { readonly name: string; readonly password: string };
  readonly withoutDsn?: boolean;
  /** LMTP in place of SMTP: after the final dot it answers for each recipient. */
  readonly lmtp?: boolean;
  readonly onRecipient?: (address: string) => Reply;
  readonly onMail?: (mail: Buffer, attempt: number) => Reply;
}

export interface Hop {
  readonly port: number;
  readonly attempts: Happenings<Attempt>;
  close(): Promise<void>;
}

const errorOf = (reply: string): Error => Object.assign(new Error(reply.slice(4)), { responseCode: Number(reply.slice(0, 3)) });

export async function startHop(options: HopOptions = {}): Promise<Hop> {
  const attempts = new Happenings<Attempt>();
  const server = new SMTPServer({
    name: "hop.example",
    lmtp: options.lmtp ?? false,
    lenientAddressParsing: true,
    disabledCommands: options.user ? ["STARTTLS"] : ["AUTH", "STARTTLS"],
    authOptional: options.user === undefined,
    allowInsecureAuth: true, // on the loopback only
    hideDSN: options.withoutDsn ?? false,
    hideENHANCEDSTATUSCODES: true,
    disableReverseLookup: true,
    logger: false,
    closeTimeout: 1,
    onAuth({ username, password }, _session, callback) {
      const good = username === options.user?.name && password === options.user?.password;
      callback(good ? null : errorOf("535 5.7.8 Wrong password"), { user: "hop" });
    },
    onRcptTo({ address }, _session, callback) {
      const reply = options.onRecipient?.(address);
      callback(reply === undefined ? null : errorOf(reply));
    },
    onData(stream, { envelope }, callback) {
      const chunks: Buffer[] = [];
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("end", () => {
        const mail = Buffer.concat(chunks);
        const reply = options.onMail?.(mail, attempts.all.length + 1);
        const { mailFrom, rcptTo } = envelope;
        callback(reply === undefined ? null : errorOf(reply));
        attempts.add({
          from: mailFrom === false ? "" : mailFrom.address,
          to: rcptTo.map(({ address }) => address),
          mail,
          mailParameters: { ...(mailFrom === false ? {} : mailFrom.args || {}) },
          dsn: rcptTo[0]?.dsn,
          answer: reply ?? "",
        });
      });
    },
  });
  server.on("error", () => undefined);
  const port = options.port ?? (await freePort());
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", () => resolve()));
  return { port, attempts, close: () => new Promise((resolve) => server.close(() => resolve())) };
}
