/** The line to the next hop (S5): one pool of SMTP connections, and what the hop's answers mean for a letter. */
import { createTransport, type Transporter } from "nodemailer";
import { Fault } from "../mime/fault.ts";
import type { Forwarded } from "./forwarded.ts";
import type { Login } from "./login.ts";
import { isPermanent, statusIn } from "./reply.ts";
import type { Consignment } from "./spool.ts";
import { HopPool, type HopEnvelope } from "./strict-hop.ts";
import { TOKEN_METHOD, loginByToken, type Exchange } from "./smtp-token.ts";

export interface NextHop {
  readonly host: string;
  readonly port: number;
  readonly tls: "implicit" | "starttls" | "none";
  readonly ca: string | undefined;
  readonly auth: { readonly user: string; readonly login: Login } | undefined;
  /** How we greet. */
  readonly name: string;
  /** Milliseconds until a silent hop counts as gone; RFC 5321 §4.5.3.2 where left out. */
  readonly timeouts?: { readonly connect: number; readonly greeting: number; readonly answer: number };
}

/** Five minutes would do for the greeting; a hop that needs one is tried again later. Ten minutes for the final dot (§4.5.3.2.6). */
const TIMEOUTS = { connect: 30_000, greeting: 60_000, answer: 10 * 60_000 };

/** Transactions at once. */
export const CONNECTIONS = 5;

/** @param more options of the library */
export function connectTo({ host, port, tls, ca, auth, name, timeouts = TIMEOUTS }: NextHop, more: object = {}): Transporter {
  const pool = new HopPool({
    host,
    port,
    name,
    maxConnections: CONNECTIONS,
    maxMessages: 1_000,
    secure: tls === "implicit",
    requireTLS: tls === "starttls", // never falls back to clear text
    ignoreTLS: tls === "none",
    tls: { rejectUnauthorized: true, ...(ca !== undefined && { ca }) }, // whatever NODE_TLS_REJECT_UNAUTHORIZED says
    ...(auth && authOptions(auth)),
    connectionTimeout: timeouts.connect,
    greetingTimeout: timeouts.greeting,
    socketTimeout: timeouts.answer,
    ...more,
  });
  return createTransport(pool, { disableFileAccess: true, disableUrlAccess: true });
}

/** Hands a mail over as it is. @throws what `answerIn` reads */
export async function handOver(transport: Transporter, envelope: HopEnvelope, octets: Buffer): Promise<void> {
  const { transporter } = transport;
  const isAscii = /^[\x21-\x7E]*$/u.test(`${envelope.from}${envelope.to}`); // other addresses are the library's to write
  if (transporter instanceof HopPool && isAscii) await transporter.hand(envelope, octets);
  else await transport.sendMail({ envelope: { ...envelope }, raw: octets });
}

/** A password as the library knows it; a token by our own exchange, for either mechanism. */
function authOptions({ user, login }: NonNullable<NextHop["auth"]>) {
  if ("pass" in login) return { auth: { user, pass: login.pass } };
  const exchange = (about: Exchange): Promise<void> => loginByToken(login.tokens, user, about);
  return { auth: { type: "custom" as const, method: TOKEN_METHOD, user }, customAuth: { [TOKEN_METHOD]: exchange } };
}

/** Greets the hop, with TLS and AUTH as configured, and sends nothing. @returns the largest message it takes, where it says so (RFC 1870) */
export async function examineHop(hop: NextHop): Promise<number | undefined> {
  let size: number | undefined;
  const hear = (_entry: unknown, text: unknown): void => {
    const said = /^250[ -]SIZE (\d{1,15})\s*$/imu.exec(String(text))?.[1];
    if (said !== undefined) size = Number(said);
  };
  const deaf = (): void => undefined;
  const logger = { level: deaf, trace: hear, debug: hear, info: deaf, warn: deaf, error: deaf, fatal: deaf };
  const timeouts = { connect: 10_000, greeting: 10_000, answer: 20_000 };
  const transport = connectTo({ ...hop, timeouts }, { logger, debug: true, pool: false });
  try {
    await transport.verify();
    return size === 0 ? undefined : size;
  } finally {
    transport.close();
  }
}

/** RFC 4954 §6: ours to mend, not the letter's fault. */
const AUTHENTICATION_WANTED = 530;

export interface Answer {
  readonly code: number | undefined;
  /** The enhanced status code. */
  readonly status: string;
  readonly answer: string;
  /** Only what the hop says to the envelope or the message is final for a letter: not a refused password. */
  readonly isFinal: boolean;
}

/** What the next hop said, where it said something. */
export function answerIn(thrown: unknown): Answer {
  const field = (name: string): unknown => (typeof thrown === "object" && thrown !== null ? Reflect.get(thrown, name) : undefined);
  const [code, response, kind] = [field("responseCode"), field("response"), field("code")];
  const number = typeof code === "number" ? code : undefined;
  const answer = typeof response === "string" ? response : Fault.from(thrown).message;
  return {
    code: number,
    status: statusIn(answer, number),
    answer,
    isFinal: isPermanent(number) && number !== AUTHENTICATION_WANTED && (kind === "EENVELOPE" || kind === "EMESSAGE"),
  };
}

/** What stands in MAIL for all copies of a mail. */
export interface EnvelopeOf {
  readonly sender: string;
  readonly envelopeId?: string | undefined;
  readonly returns?: "FULL" | "HDRS" | undefined;
  readonly forwarded?: Forwarded | undefined;
}

/** What stands in RCPT. */
interface EnvelopeTo extends Pick<Consignment, "recipient" | "notify"> {
  readonly originalRecipient?: string | undefined;
}

/** The SMTP envelope for one recipient, with its DSN parameters (RFC 3461 §4) for a hop that announces them, as with XFORWARD. */
export function envelopeOf(mail: EnvelopeOf, { recipient, notify, originalRecipient }: EnvelopeTo) {
  const dsn = {
    ...(mail.envelopeId !== undefined && { id: mail.envelopeId }),
    ...(mail.returns !== undefined && { return: mail.returns === "FULL" ? ("full" as const) : ("headers" as const) }),
    ...(notify.length > 0 && { notify: notify.map((word) => word.toLowerCase()) }),
    ...(originalRecipient !== undefined && { recipient: originalRecipient }),
  };
  return {
    from: mail.sender,
    to: recipient,
    ...(mail.forwarded && { forwarded: mail.forwarded }),
    ...(Object.keys(dsn).length > 0 && { dsn }),
  };
}
