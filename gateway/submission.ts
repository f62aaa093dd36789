/** The SMTP door for mail clients: TLS, AUTH, sender = identity, policy at RCPT, DATA up to a limit; then the outbound walk (RFC 6409, RFC 4954). */
import type { SMTPServer, SMTPServerAddress, SMTPServerDataStream, SMTPServerSession } from "smtp-server";
import type { Log } from "../config/log.ts";
import { reasonOf } from "../config/log.ts";
import type { Running } from "../config/lifecycle.ts";
import type { DoorLimits } from "../config/schema.ts";
import { parseMailbox, type Mailbox } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import type { Attempts } from "./attempts.ts";
import { demandIdentity } from "./author.ts";
import type { Admitted, Policy } from "./policy.ts";
import { AUTHENTICATION_FAILED, Refused, accepted, replyFor, type Reply } from "./reply.ts";
import { demandShape } from "./shape.ts";
import { StrictServer } from "./strict-server.ts";
import { takeForwarded, type Forwarded } from "./forwarded.ts";
import { UNASKED, type Transit } from "./transit.ts";
import { maySendAs, type Submitter, type Users } from "./users.ts";
import type { Visits } from "./visits.ts";

/** One recipient of a submission, as RCPT TO and the policy made it. */
export interface SubmittedRecipient extends Admitted {
  readonly mailbox: Mailbox;
  /** Conditions for failure and success notices (RFC 3461 §4.1); empty where the client named none. */
  readonly notify: readonly string[];
  readonly originalRecipient: string | undefined;
}

/** What the door hands to the outbound walk. */
export interface Submission {
  readonly submitter: Submitter;
  readonly sender: Mailbox;
  readonly recipients: readonly SubmittedRecipient[];
  /** The envelope identifier and what a notice returns (RFC 3461 §4.3, §4.4). */
  readonly envelopeId: string | undefined;
  readonly returns: "FULL" | "HDRS" | undefined;
  readonly message: Buffer;
  /** The trace protocol word (RFC 3848). */
  readonly protocol: string;
  /** What the mail server in front said of its client; for the next hop only. */
  readonly forwarded?: Forwarded | undefined;
}

export interface Door {
  readonly name: string;
  readonly listen: { readonly host: string; readonly port: number };
  readonly tls: "implicit" | "starttls";
  readonly key: string;
  readonly certificate: string;
  /** Octets. */
  readonly largest: number;
  readonly mostRecipients: number;
  readonly limits: DoorLimits;
}

/** The doors of a gateway share them: what is counted is counted at all of them. */
export interface DoorParts {
  readonly users: Pick<Users, "authenticate">;
  readonly visits: Visits;
  readonly attempts: Attempts;
  /** Who needs no AUTH at this address: a mail server in front, for the gateway's own mailboxes. */
  trusted(address: string): Submitter | undefined;
  /** Passes on what a mail server in front brings of other senders; without it they are refused. @returns an id for the log */
  passOn?: ((transit: Transit, signal: AbortSignal) => Promise<string>) | undefined;
  readonly policy: Pick<Policy, "decide">;
  readonly log: Log;
  /** Whether letters of this mailbox can be signed right now. @throws Fault */
  demandSigner(mailbox: Mailbox): void;
  /** The outbound walk. @returns the id under which the letter was accepted */
  consign(submission: Submission, signal: AbortSignal): Promise<string>;
}

/** How long a stop waits for letters whose octets are on their way. */
const LONGEST_STOP_MS = 10_000;
const NOTHING_FOR_MS = 5 * 60_000; // RFC 5321 §4.5.3.2.7

/** What the gateway remembers of a transaction beside the library's own session. */
interface Transaction {
  readonly submitter: Submitter;
  /** Undefined for somebody else's mail, which only passes through. */
  readonly sender: Mailbox | undefined;
  readonly recipients: Map<string, SubmittedRecipient>;
  readonly forwarded: Forwarded | undefined;
}

export interface OpenDoor extends Running {
  readonly port: number;
  /** Shows another certificate from the next handshake on, and counts by other limits; connections stay. */
  renew(next: Pick<Door, "key" | "certificate" | "largest" | "mostRecipients">): void;
}

/** Opens one door. `stop` refuses new connections, sends idle clients away and lets letters that are coming in be accepted. */
export async function openDoor(door: Door, parts: DoorParts): Promise<OpenDoor> {
  let { largest } = door;
  const late = new AbortController();
  const { signal } = late;
  const receiving = new Set<string>();
  let isStopping = false;
  const dismiss = (): void => {
    for (const connection of server.connections) if (!receiving.has(connection.session.id)) connection.close();
  };
  const transactions = new WeakMap<SMTPServerSession, Transaction>();
  const answer = async <T>(
    session: SMTPServerSession,
    phase: string,
    step: () => Promise<T>,
    callback: (error: Error | null, value?: T) => void,
  ) => {
    try {
      callback(null, await step());
    } catch (thrown) {
      const reply = replyFor(thrown);
      parts.log.warn({ event: "submission.refused", phase, code: reply.code, connection: session.id, reason: reasonOf(thrown) });
      callback(smtpError(reply));
    }
  };
  const server = new StrictServer(
    {
      name: door.name,
      banner: "Kakitome",
      secure: door.tls === "implicit",
      key: door.key,
      cert: door.certificate,
      minVersion: "TLSv1.2",
      authMethods: ["PLAIN", "LOGIN"],
      authOptional: true, // `begin` demands it, for it knows whom the network speaks for
      useXForward: true, // from trusted networks only (strict-connection.ts)
      disabledCommands: ["XCLIENT", "WIZ", "SHELL", "KILL", "HELP"],
      size: door.largest,
      hideDSN: false,
      hideENHANCEDSTATUSCODES: true, // the library would put a second, generic code before ours
      disableReverseLookup: true,
      logger: false,
      socketTimeout: NOTHING_FOR_MS, // of a TLS handshake; the phases of a connection have deadlines of their own
      maxRecipients: door.mostRecipients,
      closeTimeout: LONGEST_STOP_MS,
      onAuth(auth, session, callback) {
        void authenticate(parts, auth.username ?? "", auth.password ?? "", session).then(
          (user) => (user ? callback(null, { user }) : callback(smtpError(AUTHENTICATION_FAILED))),
          (thrown: unknown) => callback(smtpError(replyFor(thrown))),
        );
      },
      onMailFrom(address, session, callback) {
        void answer(session, "MAIL", async () => void transactions.set(session, begin(parts, session, address)), callback);
      },
      onRcptTo(address, session, callback) {
        void answer(session, "RCPT", async () => addRecipient(parts, transactions.get(session), address, signal), callback);
      },
      onData(stream, session, callback) {
        const step = async (): Promise<string> => {
          receiving.add(session.id);
          const message = await collect(stream, largest);
          demandShape(message, door.limits, door.name);
          return accepted(await take(parts, session, transactions.get(session), message, signal));
        };
        void answer(session, "DATA", step, callback).finally(() => {
          receiving.delete(session.id);
          if (isStopping) dismiss();
        });
      },
    },
    { limits: door.limits, visits: parts.visits, log: parts.log, isTrusted: (address) => parts.trusted(address) !== undefined },
  );
  server.on("error", (error) => parts.log.warn({ event: "submission.connection", reason: reasonOf(error) }));
  const port = await listen(server, door.listen);
  parts.log.info({ event: "submission.listening", port, tls: door.tls });
  return {
    port,
    renew(next) {
      largest = next.largest;
      server.updateSecureContext({ key: next.key, cert: next.certificate });
      Object.assign(server.options, { size: next.largest, maxRecipients: next.mostRecipients });
    },
    async stop() {
      const limit = setTimeout(() => late.abort(new Error("stopping")), LONGEST_STOP_MS);
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      isStopping = true;
      dismiss();
      await closed;
      clearTimeout(limit);
    },
  };
}

function listen(server: SMTPServer, { host, port }: Door["listen"]): Promise<number> {
  return new Promise((resolve, reject) => {
    server.server.once("error", reject);
    server.listen(port, host, () => {
      const bound = server.server.address();
      resolve(typeof bound === "object" && bound ? bound.port : port);
    });
  });
}

function smtpError({ code, text }: Reply): Error {
  return Object.assign(new Error(text), { responseCode: code });
}

async function authenticate(parts: DoorParts, name: string, password: string, session: SMTPServerSession): Promise<Submitter | undefined> {
  const attempt = await parts.attempts.begin(session.remoteAddress, name);
  if (!attempt) {
    parts.log.warn({ event: "submission.authentication-put-off", connection: session.id, remote: session.remoteAddress });
    throw new Refused("put-off");
  }
  const submitter = await parts.users.authenticate(name, password).catch((thrown: unknown) => {
    attempt.undecided();
    throw thrown;
  });
  if (submitter) attempt.succeeded();
  else {
    attempt.failed();
    parts.log.warn({ event: "submission.authentication-failed", connection: session.id, remote: session.remoteAddress });
  }
  return submitter;
}

/** Who proved to be somebody, else whom the network speaks for. @throws Fault `unauthenticated` */
function submitterOf({ trusted }: DoorParts, session: SMTPServerSession): Submitter {
  const user: unknown = session.user;
  if (user) return user as Submitter; // what onAuth above put there
  const submitter = trusted(session.remoteAddress);
  if (!submitter) throw new Fault("unauthenticated", "no user");
  return submitter;
}

function begin(parts: DoorParts, session: SMTPServerSession, { address }: SMTPServerAddress): Transaction {
  const submitter = submitterOf(parts, session);
  const forwarded = takeForwarded(session);
  const recipients = new Map<string, SubmittedRecipient>();
  const sender = address === "" && parts.passOn ? undefined : mailboxOf(address);
  const passes = parts.passOn && !session.user && !(sender && maySendAs(submitter, sender));
  if (!sender || passes) return { submitter, sender: undefined, recipients, forwarded };
  demandIdentity(submitter, sender, "MAIL FROM");
  parts.demandSigner(sender);
  return { submitter, sender, recipients, forwarded };
}

function mailboxOf(address: string): Mailbox {
  try {
    return parseMailbox(address);
  } catch (cause) {
    throw new Fault("forbidden", "an address that cannot be read", {
      cause,
      advice: "The address cannot be read; write it as local@domain.",
    });
  }
}

async function addRecipient(
  parts: DoorParts,
  transaction: Transaction | undefined,
  { address, dsn }: SMTPServerAddress,
  signal: AbortSignal,
): Promise<void> {
  if (!transaction) throw new Fault("internal", "RCPT without MAIL");
  const mailbox = mailboxOf(address);
  const admitted = transaction.sender ? await parts.policy.decide(mailbox, signal) : UNASKED;
  transaction.recipients.set(mailbox.key, { mailbox, ...admitted, notify: dsn?.notify ?? [], originalRecipient: dsn?.orcpt });
}

/** The walk that is meant for the transaction. @returns the id under which it was accepted */
function take(
  parts: DoorParts,
  session: SMTPServerSession,
  transaction: Transaction | undefined,
  message: Buffer,
  signal: AbortSignal,
): Promise<string> {
  if (!transaction) throw new Fault("internal", "DATA without MAIL");
  const { submitter, sender, forwarded } = transaction;
  const { dsn, mailFrom } = session.envelope;
  const common = {
    recipients: [...transaction.recipients.values()],
    envelopeId: dsn?.envid ?? undefined,
    returns: dsn?.ret === "FULL" || dsn?.ret === "HDRS" ? dsn.ret : undefined,
    message,
    protocol: session.transmissionType,
    forwarded,
  } as const;
  if (sender) return parts.consign({ ...common, submitter, sender }, signal);
  if (!parts.passOn) throw new Fault("internal", "somebody else's mail at a door that passes nothing on");
  return parts.passOn({ ...common, sender: mailFrom ? mailFrom.address : "" }, signal);
}

/** Reads DATA to its end; beyond the limit it keeps nothing more, so that the client still gets its answer. */
async function collect(stream: SMTPServerDataStream, largest: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream) {
    const bytes = Buffer.from(chunk as Uint8Array);
    length += bytes.length;
    if (length <= largest) chunks.push(bytes);
    else chunks.length = 0;
  }
  if (length > largest || stream.sizeExceeded) {
    throw new Fault("too-large", "DATA beyond the limit", {
      advice: `The message is larger than ${largest} octets, the most this gateway takes.`,
    });
  }
  return Buffer.concat(chunks);
}
