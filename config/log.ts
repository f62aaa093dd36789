/** The log: one JSON line an event (pino). Keys, bodies and whole tickets have no way into it; errors show their words and causes only. */
import { types } from "node:util";
import { pino, type DestinationStream, type Logger } from "pino";
import { Fault } from "../mime/fault.ts";

/** What may stand in a log line: named facts, each short. `step` is the patent's step (S1-S11) that the line reports. */
type Facts = Readonly<Record<string, string | number | boolean | undefined>> & { readonly event: string };

export interface Log {
  info(facts: Facts): void;
  warn(facts: Facts): void;
  error(facts: Facts): void;
  /** A log whose every line carries these facts. */
  with(facts: Readonly<Record<string, string>>): Log;
}

/** @param destination a stream for the lines; standard output unless given */
export function createLog(destination?: DestinationStream): Log {
  const options = { base: null, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: (label: string) => ({ level: label }) } };
  return wrap(destination ? pino(options, destination) : pino(options));
}

function wrap(logger: Logger): Log {
  return {
    info: (facts) => logger.info(facts),
    warn: (facts) => logger.warn(facts),
    error: (facts) => logger.error(facts),
    with: (facts) => wrap(logger.child(facts)),
  };
}

/** The chain of words in a failure, outermost first: for the log of this side only. */
export function reasonOf(thrown: unknown): string {
  const words: string[] = [];
  for (let at: unknown = thrown; types.isNativeError(at) && words.length < 6; at = at.cause) {
    const several = at instanceof AggregateError || "errors" in at ? Reflect.get(at, "errors") : undefined; // a connection tried in several ways
    const text = Array.isArray(several)
      ? several.map((one) => (types.isNativeError(one) ? one.message : String(one))).join(", ")
      : at.message;
    words.push(at instanceof Fault ? `${at.code}: ${at.message}` : text);
  }
  return (words.length === 0 ? String(thrown) : words.join(" < ")).slice(0, 500);
}
