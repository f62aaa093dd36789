/** The line to the next hop (S5): one pool of SMTP connections, and what the hop's answers mean for a letter. */
import { createTransport, type Transporter } from "nodemailer";
import { Fault } from "../mime/fault.ts";
import { isPermanent, statusIn } from "./reply.ts";
import type { Consignment, Spooled } from "./spool.ts";

export interface NextHop {
  readonly host: string;
  readonly port: number;
  readonly tls: "implicit" | "starttls" | "none";
  readonly ca: string | undefined;
  readonly auth: { readonly user: string; readonly pass: string } | undefined;
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
  return createTransport({
    host,
    port,
    name,
    pool: true,
    maxConnections: CONNECTIONS,
    maxMessages: 1_000,
    secure: tls === "implicit",
    requireTLS: tls === "starttls", // never falls back to clear text
    ignoreTLS: tls === "none",
    tls: { rejectUnauthorized: true, ...(ca !== undefined && { ca }) }, // whatever NODE_TLS_REJECT_UNAUTHORIZED says
    ...(auth && { auth }),
    connectionTimeout: timeouts.connect,
    greetingTimeout: timeouts.greeting,
    socketTimeout: timeouts.answer,
    disableFileAccess: true,
    disableUrlAccess: true,
    ...more,
  });
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

/** The SMTP envelope of a copy, with its DSN parameters (RFC 3461 §4). */
export function envelopeOf({ entry }: Spooled, consignment: Consignment) {
  const dsn = {
    ...(entry.envelopeId !== undefined && { id: entry.envelopeId }),
    ...(entry.returns !== undefined && { return: entry.returns === "FULL" ? ("full" as const) : ("headers" as const) }),
    ...(consignment.notify.length > 0 && { notify: consignment.notify.map((word) => word.toLowerCase()) }),
    ...(consignment.originalRecipient !== undefined && { recipient: consignment.originalRecipient }),
  };
  return { from: entry.sender, to: consignment.recipient, ...(Object.keys(dsn).length > 0 && { dsn }) };
}
