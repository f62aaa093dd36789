/** The SMTP door for mail clients: TLS, AUTH, sender = identity, policy at RCPT, DATA up to a limit; then the outbound walk (RFC 6409, RFC 4954). */
import type { SMTPServerAddress, SMTPServerSession } from "smtp-server";
import type { Log } from "../config/log.ts";
import type { Running } from "../config/lifecycle.ts";
import type { DoorLimits } from "../config/schema.ts";
import { leastQuoted, parseMailbox, type Mailbox } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import type { Attempts } from "./attempts.ts";
import { demandIdentity } from "./author.ts";
import type { Admitted, Policy } from "./policy.ts";
import { COMMON, Listener, NEVER, collect, smtpError } from "./listener.ts";
import { AUTHENTICATION_FAILED, Refused, accepted, replyFor } from "./reply.ts";
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
  readonly users: Pick<Users, "authenticate" | "current">;
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
  const listener = new Listener("submission", parts.log);
  const { signal } = listener;
  const transactions = new WeakMap<SMTPServerSession, Transaction>();
  const server = new StrictServer(
    {
      ...COMMON,
      name: door.name,
      secure: door.tls === "implicit",
      key: door.key,
      cert: door.certificate,
      minVersion: "TLSv1.2",
      authMethods: ["PLAIN", "LOGIN"],
      authOptional: true, // `begin` demands it, for it knows whom the network speaks for
      useXForward: true, // from trusted networks only (strict-connection.ts)
      disabledCommands: NEVER,
      size: door.largest,
      hideDSN: false,
      maxRecipients: door.mostRecipients,
      onAuth(auth, session, callback) {
        void authenticate(parts, auth.username ?? "", auth.password ?? "", session).then(
          (user) => (user ? callback(null, { user }) : callback(smtpError(AUTHENTICATION_FAILED))),
          (thrown: unknown) => callback(smtpError(replyFor(thrown))),
        );
      },
      onMailFrom(address, session, callback) {
        void listener.answer(session, "MAIL", async () => void transactions.set(session, begin(parts, session, address)), callback);
      },
      onRcptTo(address, session, callback) {
        void listener.answer(session, "RCPT", async () => addRecipient(parts, transactions.get(session), address, signal), callback);
      },
      onData(stream, session, callback) {
        const step = async (): Promise<string> => {
          const message = await collect(stream, largest);
          demandShape(message, door.limits, door.name);
          return accepted(await take(parts, session, transactions.get(session), message, signal));
        };
        void listener.receive(session, step, callback);
      },
    },
    {
      name: "submission",
      limits: door.limits,
      visits: parts.visits,
      log: parts.log,
      isTrusted: (address) => parts.trusted(address) !== undefined,
    },
  );
  const port = await listener.listen(server, door.listen, { tls: door.tls });
  return {
    port,
    renew(next) {
      largest = next.largest;
      server.updateSecureContext({ key: next.key, cert: next.certificate });
      Object.assign(server.options, { size: next.largest, maxRecipients: next.mostRecipients });
    },
    stop: () => listener.stop(),
  };
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

/** Who proved to be somebody, as the users are now, else whom the network speaks for. @throws Fault `unauthenticated` */
function submitterOf({ trusted, users }: DoorParts, session: SMTPServerSession): Submitter {
  const user: unknown = session.user;
  const submitter = user ? users.current(user as Submitter) : trusted(session.remoteAddress); // what onAuth above put there
  if (!submitter) throw new Fault("unauthenticated", "no user");
  return submitter;
}

/** To seal it in the name of its From would send failures to whom it wants to spare them; to pass it on would pass by every check. */
const NO_SENDER = "Mail without a sender (MAIL FROM:<>) is not taken from clients; send it from your own address.";

function begin(parts: DoorParts, session: SMTPServerSession, { address }: SMTPServerAddress): Transaction {
  const submitter = submitterOf(parts, session);
  const forwarded = takeForwarded(session);
  const recipients = new Map<string, SubmittedRecipient>();
  const passes = parts.passOn && !session.user; // who logged in is a client, and what it sends is always looked at
  if (address === "" && !passes) throw new Fault("forbidden", "no sender", { advice: NO_SENDER });
  const sender = address === "" ? undefined : mailboxOf(address);
  if (!sender || (passes && !maySendAs(submitter, sender))) return { submitter, sender: undefined, recipients, forwarded };
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
  const mailbox = transaction.sender ? leastQuoted(mailboxOf(address)) : mailboxOf(address); // what only passes through stays as it came
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
