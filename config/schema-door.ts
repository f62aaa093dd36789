/** What a client of the SMTP door may cost. */
import { z } from "zod";
import { parsed, time } from "./parsed.ts";
import { octets } from "./units.ts";

export const size = (standard: string) => parsed(octets).prefault(standard);
const count = (standard: number, most: number) => z.int().min(1).max(most).default(standard);

/** What a client of the door may cost. A hostile one must not hold up the others; an honest one never meets these (docs/decisions/0008). */
export const doorLimits = z.strictObject({
  /** Connections of all clients, of one address (of IPv6 its first 64 bits), and new ones of one address in a minute. */
  connections: count(1_000, 100_000),
  perAddress: count(100, 100_000),
  perMinute: count(1_000, 1_000_000),
  /** 5xx answers on one connection, and commands in a row that bring no mail. */
  errors: count(20, 10_000),
  commands: count(100, 100_000),
  /** Octets of a line of a message, of its whole header (at most 1 MiB), and of its header how many fields. */
  line: size("64KiB"),
  header: size("256KiB"),
  fields: count(1_000, 5_000),
  /** Multiparts in multiparts. */
  nesting: count(100, 1_000),
  /** Received fields of a message: beyond it, it goes in circles (RFC 5321 §6.3). */
  received: count(50, 1_000),
  /** Time until AUTH, from there until MAIL, from there until DATA, and for the message. */
  authenticate: time("5m"),
  idle: time("5m"),
  envelope: time("10m"),
  message: time("2h"),
  /** Octets a second that a message brings at least, counted over this time. */
  rate: z.int().min(0).max(1_000_000).default(500),
  window: time("1m"),
  /** Failed logins that an address has for free; of a user from anywhere before each new address has only one; the pause after the next, which doubles. */
  failures: count(5, 1_000),
  userFailures: count(20, 100_000),
  firstPause: time("2s"),
  longestPause: time("15m"),
});

export type DoorLimits = z.output<typeof doorLimits>;

/** The limits of a door whose configuration says nothing. */
export const standardDoorLimits = (): DoorLimits => doorLimits.parse({});
