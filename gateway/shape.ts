/** What a submission may look like before anybody works on it: header, nesting, hops. One look, and no body is parsed (RFC 5321 §6.3, §4.5.3.1). */
import type { DoorLimits } from "../config/schema.ts";
import { parseContentType } from "../mime/entity.ts";
import { Fault } from "../mime/fault.ts";
import { fieldsNamed, splitMessage, valueOf, type HeaderField } from "../mime/headers.ts";
import { Refused } from "./reply.ts";

export type ShapeLimits = Pick<DoorLimits, "header" | "fields" | "nesting" | "received">;

/** How a door signs its trace fields, and how often a message may have come by it before. */
export interface OwnHop {
  /** The comment behind the host name. */
  readonly by: string;
  readonly most: number;
}

/** A person may resend what came back from a list; a circle stops after one turn. */
export const SUBMISSION_HOP: OwnHop = { by: "Kakitome", most: 1 };
/** Readers of one site forward to one another, each time by way of us; what goes in circles comes by more often. */
export const INBOUND_HOP: OwnHop = { by: "Kakitome inbound", most: 10 };

const tooLarge = (advice: string): Fault => new Fault("too-large", advice, { advice });

/**
 * @param message with CRLF line ends
 * @param name host name of this gateway, as its own trace fields have it. @param hop at which of its doors
 * @throws Fault `too-large` with words for the sender; Refused `looping`
 */
export function demandShape(message: Buffer, limits: ShapeLimits, name: string, hop = SUBMISSION_HOP): void {
  const fields = headerOf(message, limits);
  const received = fieldsNamed(fields, "received");
  const own = received.filter((item) => isOwnHop(item, name, hop));
  if (received.length > limits.received || own.length > hop.most) throw new Refused("looping");
  if (depthOf(message, limits.nesting) > limits.nesting) {
    throw tooLarge(`The message has parts in more than ${limits.nesting} parts, the most this gateway takes.`);
  }
}

function headerOf(message: Buffer, { header, fields }: ShapeLimits): readonly HeaderField[] {
  const end = message.indexOf("\r\n\r\n");
  if ((end < 0 ? message.length : end) > header) throw tooLarge(`The header is larger than ${header} octets, the most this gateway takes.`);
  const found = splitMessage(message).fields;
  if (found.length > fields) throw tooLarge(`The header has more than ${fields} fields, the most this gateway takes.`);
  return found;
}

/** Our own trace field (`received` in outbound.ts writes it). */
function isOwnHop(item: HeaderField, name: string, { by }: OwnHop): boolean {
  return valueOf(item).toLowerCase().startsWith(`by ${name} (${by}) `.toLowerCase());
}

const DASHES = Buffer.from("\r\n--");
/** What a scan looks at before it gives up: nobody's mail has as many parts, or lines that begin with dashes. */
const MOST_PARTS = 10_000;
const MOST_DASHED_LINES = 500_000;
const LARGEST_PART_HEADER = 16_384;
/** Messages right inside messages. */
const MOST_FORWARDS = 10;

/** How deep multiparts stand in one another, counted to one more than asked for. One look at each line that begins with dashes. */
function depthOf(message: Buffer, most: number): number {
  const open = boundariesAt(message, 0, message.length);
  let [deepest, parts, lines] = [open.length, 0, 0];
  for (let at = message.indexOf(DASHES); open.length > 0 && at >= 0 && deepest <= most; at = message.indexOf(DASHES, at + 2)) {
    if (parts > MOST_PARTS || ++lines > MOST_DASHED_LINES) throw tooLarge("The message has more parts than this gateway takes.");
    const start = at + DASHES.length;
    const line = /^[^\r]*/u.exec(message.toString("latin1", start, start + 80))?.[0].trimEnd() ?? ""; // a boundary has 70 characters (RFC 2046 §5.1.1)
    const inner = open.lastIndexOf(line);
    if (inner >= 0) {
      parts++;
      open.length = inner + 1;
      const lineEnd = message.indexOf("\r\n", start);
      if (lineEnd >= 0) open.push(...boundariesAt(message, lineEnd + 2, LARGEST_PART_HEADER));
      deepest = Math.max(deepest, open.length);
    } else if (line.endsWith("--")) {
      const ended = open.lastIndexOf(line.slice(0, -2));
      if (ended >= 0) open.length = ended;
    }
  }
  return deepest;
}

/** The boundary of the entity that begins there, and of a message in it. @param most octets of header that are looked into */
function boundariesAt(message: Buffer, start: number, most: number): string[] {
  const found: string[] = [];
  for (let at = start, turn = 0; turn < MOST_FORWARDS && found.length === 0; turn++) {
    const head = message.subarray(at, at + most);
    const end = head.indexOf("\r\n\r\n");
    if (end < 0 || head.indexOf("\r\n") === 0) break; // no header
    const type = contentTypeOf(head.subarray(0, end + 2));
    const boundary = type?.parameters.get("boundary");
    if (type?.type.startsWith("multipart/") && boundary) found.push(boundary);
    if (type?.type !== "message/rfc822" && type?.type !== "message/global") break;
    at += end + 4;
  }
  return found;
}

function contentTypeOf(header: Buffer) {
  try {
    const [item] = fieldsNamed(splitMessage(header).fields, "content-type");
    return item && parseContentType(valueOf(item));
  } catch {
    return undefined; // what nobody can read leads no deeper
  }
}
