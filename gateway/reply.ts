/** Faults as SMTP replies; the only SMTP numbers of the gateway (RFC 5321 §4.2, RFC 2034, RFC 3463). */
import { Fault, type FaultCode } from "../mime/fault.ts";

const ROWS = {
  malformed: [554, "6.0", "The message cannot be read"],
  "too-large": [552, "3.4", "The message is too large"],
  unauthenticated: [530, "7.0", "Authentication is required"],
  forbidden: [550, "7.1", "Not allowed"],
  "no-certificate": [550, "7.5", "The recipient cannot receive registered letters"],
  "session-gone": [554, "7.5", "There is nothing for this ticket"],
  recalled: [554, "7.5", "The sender has recalled the letter"],
  "cannot-open": [554, "7.5", "The letter cannot be opened"],
  "signature-invalid": [554, "7.7", "The signature does not hold"],
  unavailable: [451, "4.1", "The broker cannot be reached; the letter was not accepted, try again later"],
  "storage-full": [452, "3.1", "The gateway's disk is full; the letter was not accepted, try again later"],
  internal: [451, "3.0", "The gateway failed; the letter was not accepted, try again later"],
} as const satisfies Record<FaultCode, readonly [number, string, string]>;

export interface Reply {
  readonly code: number;
  /** Begins with the enhanced status code. */
  readonly text: string;
}

/** What the client sees: the row's words and the advice where there is one; never the inner message. */
export function replyFor(thrown: unknown): Reply {
  if (thrown instanceof Refused) return doorReply(thrown.word);
  if (thrown instanceof Declined) return thrown.reply;
  const fault = Fault.from(thrown);
  const [code, detail, words] = ROWS[fault.code];
  return { code, text: `${enhanced(code, detail)} ${fault.advice ?? words}` };
}

/** Wrong name or password (RFC 4954 §6). */
export const AUTHENTICATION_FAILED: Reply = { code: 535, text: "5.7.8 User name or password is wrong" };

/** What the door says to a client that it sends away or puts off; the connection ends after each but the last four (RFC 5321 §3.8, RFC 3463 §3.5 to §3.8). */
const DOOR = {
  bare: [554, "5.2", "A line end is CR and LF together, and NUL stands nowhere; nothing of this was accepted"],
  "long-line": [554, "5.2", "The line is longer than this gateway reads; nothing of this was accepted"],
  "long-command": [500, "5.2", "The command line is too long"],
  "too-soon": [554, "5.1", "The client spoke before it was greeted"],
  unsynchronised: [554, "5.1", "The client did not wait for the answer to this command"],
  errors: [421, "7.0", "Too many errors on this connection"],
  idling: [421, "7.0", "Too many commands that bring no mail"],
  late: [421, "4.2", "This took too long"],
  slow: [421, "4.2", "The message comes too slowly"],
  crowded: [421, "7.0", "Too many connections; try again later"],
  foreign: [554, "7.1", "No mail is taken from this address"],
  "put-off": [454, "7.0", "Too many failed attempts to log in; try again later"],
  looping: [554, "4.6", "The message goes in circles: it was here, or in too many places, before"],
  busy: [454, "7.0", "Too many log in at once; try again soon"],
  "one-recipient": [452, "5.3", "One recipient in a transaction; the others in their own"],
} as const satisfies Record<string, readonly [number, string, string]>;

export type Dismissal = keyof typeof DOOR;

/** A refusal of the door itself, which has words of its own. */
export class Refused extends Error {
  override readonly name = "Refused";
  readonly word: Dismissal;

  constructor(word: Dismissal) {
    super(word);
    this.word = word;
  }
}

/** What the delivery server answered; whoever hands the mail over to us hears it in its place. */
export class Declined extends Error {
  override readonly name = "Declined";
  readonly reply: Reply;

  /** @param answer as it came, with code and enhanced status on each line */
  constructor(code: number, answer: string) {
    const words = answer
      .split(/\r?\n/u)
      .map((line) => line.replace(/^\d{3}(?:[ -]|$)(?:[245]\.\d{1,3}\.\d{1,3}\s+)?/u, ""))
      .join(" ")
      .replaceAll(/[^\x20-\x7E]/gu, "?")
      .slice(0, LONGEST_WORDS);
    super(`the delivery server answered ${code}: ${words}`);
    this.reply = { code, text: `${statusIn(answer, code)} The delivery server says: ${words}` };
  }
}

/** A reply line has 512 octets (RFC 5321 §4.5.3.1.5). */
const LONGEST_WORDS = 400;

export function doorReply(word: Dismissal): Reply {
  const [code, detail, words] = DOOR[word];
  return { code, text: `${enhanced(code, detail)} ${words}` };
}

/** Of a recipient to whom no letter can be sealed, in a delivery status (RFC 3463 §3.8). */
export const NO_CERTIFICATE_STATUS = `5.${ROWS["no-certificate"][1]}`;

/** Accepted for delivery; the id finds the letter in the log. */
export function accepted(id: string): string {
  return `2.0.0 Accepted as ${id}`;
}

/** The class digit of an enhanced code follows from the reply code, never written twice (RFC 2034 §4). */
function enhanced(code: number, detail: string): string {
  return `${Math.trunc(code / 100)}.${detail}`;
}

/** Whether a reply of the next hop is final for the letter. */
export function isPermanent(code: number | undefined): boolean {
  return code !== undefined && code >= 500 && code < 600;
}

/** The enhanced status at the head of a next hop's answer, or the class's unspecific one. */
export function statusIn(response: string, code: number | undefined): string {
  return /^\d{3}[ -]([245]\.\d{1,3}\.\d{1,3})(?=\s|$)/u.exec(response)?.[1] ?? `${Math.trunc((code ?? 400) / 100)}.0.0`;
}
